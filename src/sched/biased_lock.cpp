// SPDX-License-Identifier: Apache-2.0
// The side of the biased lock that pays.
//
// Invariants:
//   I1  owner_ changes only under shared_. Whoever makes somebody the owner makes himself.
//   I2  A hold is written by its thread alone.
//   I3  Whoever is inside holds shared_ and has found that nobody else is the owner; or is in a
//       hold of its own that names this lock, and has found itself the owner after it went there.
//
// Proof that two are never inside. Two with shared_: it is a lock. Two with holds, P and Q: one of
// them became the owner while the other one was not any more, so somebody had shared_ in between,
// and the next case holds for it. One with shared_, T, and one in a hold, O: O has stored the hold,
// and then read that it is the owner. T, or somebody who had shared_ before it, has erased O since
// O became the owner last, has fenced heavily, and waited until no hold of O named this lock. The
// fence orders the two as full fences would: either O's look came after the erasure, and saw it; or
// the wait saw O's hold, and lasted until O left, whose unlocking it acquired. So O is not inside.
//
// The holds are O's and not the lock's: a former owner may be late, about to store a hold for an
// ownership that has ended long ago, only to find that out and clear it. If the next owner used the
// same hold, that would let others in while the next owner is (the model's mutation 4).
//
// Whoever erases the owner looks at the turn of a worker that may be gone: turns stay (turn_lease).
// A turn that another worker has by then may be taken for the owner's, by that worker, too. It
// comes after all that the first one did; so this is as if the first one went on.
//
// Without membarrier(2) nobody becomes the owner. Callers in a forked child do not get here.
//
// Tests: tests/sched/biased_lock_test.cpp; models/biased_lock.pml, all interleavings.

#include <exeunt/sched/biased_lock.hpp>

#include <cstdint>

#include <exeunt/base/clock.hpp>

#include "sched/fence.hpp"

namespace exeunt::detail {

spin_lock& biased_lock::lock_shared(turn& me) noexcept {
  const auto mine = reinterpret_cast<std::uintptr_t>(&me);
  if (!shared_.take_if_free()) {
    const clock::time_point since = clock::now();
    shared_.lock();
    me.waited += (clock::now() - since).count();
  }
  me.unfenced = true;
#ifdef EXEUNT_CORE_MODEL
  return shared_;
#endif
  // order: relaxed, all; under shared_. What else the erasure needs is the fence.
  const std::uintptr_t last = owner_.load(memory_order_relaxed);
  if (last == mine) return shared_;  // Holds more than there are holds for.
  if (last != (mine | candidate)) {
    owner_.store(mine | candidate, memory_order_relaxed);
    in_a_row_ = 0;
    if ((last & candidate) == 0) {
      sched::heavy_fence();
      for (const turn::hold& one : reinterpret_cast<const turn*>(last)->holds) {
        // order: acquire, both; whichever says that the owner is out also shows what it did.
        for (spin_wait until_left;
             one.inside.is_held() && one.what.load(memory_order_acquire) == this;) {
          until_left.pause();
        }
      }
      if (patience_ < patience_max) ++patience_;
    }
  }
  ++in_a_row_;
  if ((in_a_row_ >> patience_) != 0 && me.is_lasting &&
      sched::fences_are_asymmetric.load(memory_order_relaxed)) {
    owner_.store(mine, memory_order_relaxed);
  }
  return shared_;
}

}  // namespace exeunt::detail
