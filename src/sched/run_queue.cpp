// SPDX-License-Identifier: Apache-2.0
// The local run queue: growth, and theft.
//
// Invariants, while nobody is inside:
//   I1  The two rings and next_ hold distinct fibers; those in fresh_ have not run.
//   I2  Of a ring, tail_ - head_ <= mask_ + 1, a power of two; its oldest is at head_.
// Mutual exclusion:
//   I3  At most one of the owner and the thieves is inside: between enter() and leave(), and in
//       steal() between the wait for busy_ and the release of claimed_.
//   Thieves exclude each other by the compare-and-swap of claimed_. Of owner and thief: the owner
//   stores busy_ and then loads claimed_, the thief stores claimed_ and then loads busy_, and the
//   two fences order each pair: at least one sees the other's store. If the thief sees busy_, it
//   waits for, or gives way to, the owner; if the owner sees claimed_, it steps back and waits.
//   What one did inside is visible to the next: leave() and the claim's end release, the two loads
//   acquire.
// Who waits for whom: the owner for a thief, as long as a fence and a copy of theft_max words take;
//   a thief never for long: the kernel may have put the owner aside inside.
// Tests: tests/sched/run_queue_test.cpp, sched_stress_test.cpp; models/run_queue.pml (I3).

#include "sched/run_queue.hpp"

#include <sched.h>
#include <algorithm>
#include <new>

#include <exeunt/base/race.hpp>

namespace exeunt::sched {

using detail::memory_order_acq_rel;
using detail::memory_order_acquire;
using detail::memory_order_relaxed;
using detail::memory_order_release;

// --- a ring

fiber_ring::~fiber_ring() {
  const detail::race_ignore own;
  if (slots_ != small_.data()) delete[] slots_;
}

bool fiber_ring::grow() noexcept {
  const detail::race_ignore own;
  const std::uint32_t capacity = 2 * (mask_ + 1);
  fiber** const wider = new (std::nothrow) fiber*[capacity];
  if (wider == nullptr) return false;
  move_to(wider, capacity);
  return true;
}

void fiber_ring::shrink() noexcept {
  constexpr std::uint32_t kept = 4096;
  if (mask_ >= kept && size() == 0) move_to(small_.data(), small);
}

void fiber_ring::move_to(fiber** slots, std::uint32_t capacity) noexcept {
  const detail::race_ignore own;
  const std::uint32_t head = head_.load(memory_order_relaxed);
  const std::uint32_t tail = tail_.load(memory_order_relaxed);
  for (std::uint32_t i = head; i != tail; ++i) slots[i & (capacity - 1)] = slots_[i & mask_];
  if (slots_ != small_.data()) delete[] slots_;
  slots_ = slots;
  mask_ = capacity - 1;
}

void fiber_ring::pop_first(fiber** out, std::uint32_t count) noexcept {
  const std::uint32_t head = head_.load(memory_order_relaxed);
  for (std::uint32_t i = 0; i < count; ++i) out[i] = slots_[(head + i) & mask_];
  head_.store(head + count, memory_order_relaxed);
}

void fiber_ring::pop_last(fiber** out, std::uint32_t count) noexcept {
  const std::uint32_t from = tail_.load(memory_order_relaxed) - count;
  for (std::uint32_t i = 0; i < count; ++i) out[i] = slots_[(from + i) & mask_];
  tail_.store(from, memory_order_relaxed);
}

fiber& fiber_ring::take(std::uint32_t before) noexcept {
  const std::uint32_t head = head_.load(memory_order_relaxed);
  fiber* const taken = slots_[(head + before) & mask_];
  for (std::uint32_t i = before; i > 0; --i) {
    slots_[(head + i) & mask_] = slots_[(head + i - 1) & mask_];
  }
  head_.store(head + 1, memory_order_relaxed);
  return *taken;
}

bool fiber_ring::push_front(fiber& first) noexcept {
  if (size() > mask_ && !grow()) return false;
  const std::uint32_t head = head_.load(memory_order_relaxed) - 1;
  slots_[head & mask_] = &first;
  head_.store(head, memory_order_relaxed);
  return true;
}

// --- the queue

run_queue::run_queue() noexcept
    : claimed_{fences_are_asymmetric.load(memory_order_relaxed) ? 0 : fenced} {}

// The latest of those that wait apart, as many as run in order again.
fiber* run_queue::pop_crowd() noexcept {
  unserved_ = 0;
  std::array<fiber*, crowd> latest;
  const std::uint32_t count = std::min(fresh_.size(), crowd);
  fresh_.pop_last(latest.data(), count);
  for (std::uint32_t i = 1; i < count; ++i) static_cast<void>(ready_.push(*latest[i]));  // Room.
  return latest[0];
}

std::uint32_t run_queue::line_up() noexcept {
  if (fiber* const next = exchange_next(nullptr)) {
    if (!ready_.push_front(*next)) exchange_next(next);
  }
  while (fiber* const apart = fresh_.pop()) {
    if (ready_.push(*apart)) continue;
    static_cast<void>(fresh_.push(*apart));  // There is room.
    break;
  }
  return ready_.size();
}

void run_queue::shrink() noexcept {
  const section inside{*this};
  ready_.shrink();
  fresh_.shrink();
}

void run_queue::enter_slowly() noexcept {
  constexpr int patience =
      1000;  // Some microseconds; a thief that the kernel put aside needs more.
  for (;;) {
    detail::atomic_fence();
    if ((claimed_.load(memory_order_acquire) & thief) == 0) return;  // order: as in enter().
    leave();
    for (int i = 0; (claimed_.load(memory_order_relaxed) & thief) != 0; ++i) {
      if (i < patience) {
        detail::cpu_relax();
      } else {
        ::sched_yield();
      }
    }
    busy_.store(1, memory_order_relaxed);
  }
}

std::uint32_t run_queue::steal(std::array<fiber*, theft_max>& taken) noexcept {
  std::uint32_t unclaimed = claimed_.load(memory_order_relaxed) & ~thief;
  if (!claimed_.compare_exchange_strong(unclaimed, unclaimed | thief, memory_order_acq_rel,
                                        memory_order_relaxed)) {
    return 0;
  }
  heavy_fence();
  constexpr int patience = 200;
  std::uint32_t count = 0;
  for (int i = 0; i < patience; ++i) {
    // order: acquire, pairs with leave().
    if (busy_.load(memory_order_acquire) != 0) {
      detail::cpu_relax();
      continue;
    }
    fiber_ring& from = fresh_.size() > 0 ? fresh_ : ready_;
    const std::uint32_t left = from.size();
    count = std::min(left - left / 2, theft_max);
    from.pop_first(taken.data(), count);
    if (left == 0) {
      taken[0] = exchange_next(nullptr);
      count = taken[0] != nullptr ? 1 : 0;
    }
    break;
  }
  claimed_.store(unclaimed, memory_order_release);  // order: release, for the owner's look.
  return count;
}

}  // namespace exeunt::sched
