// SPDX-License-Identifier: Apache-2.0
// The weighted semaphore: a count that changes without a lock while nobody waits, and a queue.
//
// Invariants, whenever lock_ is free:
//   I1  The free units, which are state_ without waiting_bit, are at most size_.
//   I2  waiting_bit is set exactly when queue_ is not empty. While it is, only who has lock_ writes
//       state_.
//   I3  The first of queue_ that nobody else has ended wants more than is free.
//   I4  While queue_ is not empty, somebody is inside acquire() and cannot leave without lock_: a
//       semaphore may be destroyed by whoever released its last units, since no release() touches
//       it after that other than under lock_ with a waiter in the queue.
// Locks: lock_ is a leaf among locks of sources; tickets are claimed under it.
// Turns: acquire() is a scheduling point, before it takes anything. Who gave way with units in hand
//   would have others queue for them; and since the queue is first come, first served, all would
//   queue from then on, for each unit. release() is none.
// Wake-ups: serve() claims from the head as long as there is enough, and takes the units for them;
//   they are woken after lock_ is released. Whoever leaves without its units serves again, because
//   it may have stood in the way of smaller ones.
// Tests: tests/sync/semaphore_test.cpp, sync_litmus_test.cpp, sync_stress_test.cpp;
//   tests/sim/covered_bypass_test.cpp counts who is overtaken.

#include <exeunt/sync/semaphore.hpp>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/error.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/context/context.hpp>

#include "sync/park_until.hpp"

namespace exeunt {

using detail::memory_order_acquire;
using detail::memory_order_relaxed;
using detail::memory_order_release;
using detail::queued_waiter;
using detail::spin_guard;
using detail::wait_end;

bool semaphore::try_acquire(std::uint64_t n) noexcept {
  detail::step("semaphore acquire", this);
  if (take(n)) return true;
  // Looked at without the lock, two could each release one and both fail to get the other's.
  const spin_guard guard{lock_};
  return take(n);
}

void semaphore::acquire_slowly(std::uint64_t n) {
  if (n > size_) throw panic_error{"acquire of more than the semaphore's size"};
  static_cast<void>(wait(nullptr, no_deadline, n));
}

result<> semaphore::acquire(const context& ctx, std::uint64_t n) noexcept {
  return detail::acquire_until(ctx, [&](detail::cancel_node* cancel) {
    return take_in_turn(n) ? wait_end::claimed : wait(cancel, no_deadline, n);
  });
}

bool semaphore::try_acquire_for(clock::duration d, std::uint64_t n) noexcept {
  if (d <= clock::duration::zero()) return try_acquire(n);
  const clock::time_point deadline = deadline_after(d);
  return take_in_turn(n) || wait(nullptr, deadline, n) == wait_end::claimed;
}

wait_end semaphore::wait(detail::cancel_node* cancel, clock::time_point deadline,
                         std::uint64_t n) noexcept {
  detail::ticket several;
  queued_waiter self{several};
  self.weight = n;
  if (take_or_queue(self)) return wait_end::claimed;
  const wait_end end =  // Woken by: serve(), the context, the timer.
      detail::park_until(several, self, cancel, deadline, detail::wait_reason::semaphore, this);
  detail::wake_list woken;
  {
    const spin_guard guard{lock_};
    if (self.linked()) {
      queue_.remove(self);
      // order: acquire, so that serve() passes on what releases before it have published.
      serve(state_.load(memory_order_acquire) & ~waiting_bit, woken);
    }
  }
  woken.fire();
  if (end == wait_end::claimed) detail::race_acquire(this);
  return end;
}

// Returns: whether the units are the caller's; else `self` is in the queue.
bool semaphore::take_or_queue(queued_waiter& self) noexcept {
  const spin_guard guard{lock_};
  // Too much for ever is not queued: it would be in everybody's way.
  if (self.weight > size_) return false;
  std::uint64_t state = 0;
  do {
    if (take(self.weight)) return true;
    state = state_.load(memory_order_relaxed);  // order: the exchange decides.
    if (state >= waiting_bit) break;
    // Only if there still is too little: who releases from now on comes for lock_.
    // order: relaxed; publishes nothing.
  } while (self.weight <= state ||
           !state_.compare_exchange_strong(state, state | waiting_bit, memory_order_relaxed,
                                           memory_order_relaxed));
  queue_.push_back(self);
  return false;
}

void semaphore::release_slowly(std::uint64_t n) {
  do {
    detail::wake_list woken;
    {
      const spin_guard guard{lock_};
      // order: acquire, as in wait().
      const std::uint64_t state = state_.load(memory_order_acquire);
      const std::uint64_t free = state & ~waiting_bit;
      if (n > size_ - free) throw panic_error{"release of more than was acquired"};
      if (state == free) continue;  // The last who waited has left. I4: not under lock_.
      serve(free + n, woken);
    }
    woken.fire();
    return;
  } while (!put(n));
}

// Under lock_, with waiting_bit set: gives what is free to those at the head.
void semaphore::serve(std::uint64_t free, detail::wake_list& woken) noexcept {
  while (queued_waiter* const first = queue_.front()) {
    // One that was ended elsewhere will leave, and serve again; until then it is in the way.
    if (first->weight > free) break;
    queue_.remove(*first);
    if (!first->claim(first->due)) continue;
    free -= first->weight;
    woken.add(*first);
  }
  // order: release, pairs with the acquire in take().
  state_.store(queue_.empty() ? free : free | waiting_bit, memory_order_release);
}

}  // namespace exeunt
