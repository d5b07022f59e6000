// SPDX-License-Identifier: Apache-2.0
// The readers-writer lock's slow paths: who waits, and who is let in when somebody leaves.
//
// The order is that of Go's RWMutex: readers and writers take turns when both wait. The lock is
// handed over: whoever is woken holds it already.
//
// Invariants, whenever queue_lock_ is free:
//   I1  waiting_bit is set exactly when writers_ or readers_ has somebody.
//   I2  writer_bit is set, or readers are counted, but not both.
//   I3  waiting => a writer or readers hold the lock. So somebody will let it go, and find those
//       that wait: no wake-up is lost.
//   I4  readers_ has somebody => a writer holds the lock, or writers_ has somebody. So a reader
//       waits for writers only.
//   I5  While waiting_bit is set, nobody takes the lock in passing; the last holder lets it go
//       under queue_lock_, and those that wait leave under it. So no unlock touches the lock after
//       it has let go, but under queue_lock_ with a waiter inside: whoever unlocked it last may
//       destroy it.
// Locks: queue_lock_ is a leaf among locks of sources; tickets are claimed under it. No timer and
//   no context is touched under it.
// Turns: no unlock is a scheduling point. A lock that has to wait is one.
// Wake-ups: let in by the last that leaves, or, if the last waiting writer gives up while readers
//   hold the lock, the readers behind it by that writer; woken after queue_lock_ is released.
// Tests: tests/sync/shared_mutex_test.cpp, locks_race_test.cpp, locks_stress_test.cpp,
//   values_litmus_test.cpp; tests/sim/covered_locks_test.cpp explores small worlds, and
//   tests/sim/covered_bypass_test.cpp counts who is overtaken.

#include <exeunt/sync/shared_mutex.hpp>

#include <exeunt/base/assert.hpp>
#include <exeunt/context/context.hpp>

#include "sync/lock_watch.hpp"
#include "sync/park_until.hpp"

namespace exeunt {

using detail::memory_order_acquire;
using detail::memory_order_relaxed;
using detail::memory_order_release;
using detail::order_watch;
using detail::queued_waiter;
using detail::spin_guard;
using detail::wait_end;

namespace {

detail::lock_name name_of(const shared_mutex* lock) noexcept {
  return {lock, detail::lock_form::shared};
}

}  // namespace

void shared_mutex::lock_watched() noexcept {
  const order_watch watch{"shared_mutex lock", order_, name_of(this)};
  watch.may_wait();
  if (!take()) lock_slowly();
  told_to_writer();
  watch.took();
}

void shared_mutex::lock_shared_watched() noexcept {
  const order_watch watch{"shared_mutex lock_shared", order_, name_of(this), true};
  watch.may_wait();
  if (!take_shared()) lock_shared_slowly();
  detail::race_acquire(this);
  watch.took();
}

bool shared_mutex::try_lock_watched() noexcept {
  const order_watch watch{"shared_mutex lock", order_, name_of(this)};
  if (!take()) return false;
  told_to_writer();
  watch.took();
  return true;
}

bool shared_mutex::try_lock_shared_watched() noexcept {
  const order_watch watch{"shared_mutex lock_shared", order_, name_of(this), true};
  if (!take_shared()) return false;
  detail::race_acquire(this);
  watch.took();
  return true;
}

// Of a reader that another one was quicker than. If both went on at once, each would take the line
// from the other one for each step. In this time the other one comes and goes some fifty times,
// with the line to itself: with two workers that do nothing else, half the time.
void shared_mutex::stand_back() noexcept {
  constexpr int pauses = 16;  // Of some 25 ns.
  for (int left = pauses; left > 0; --left) detail::cpu_relax();
}

void shared_mutex::lock_slowly() noexcept { static_cast<void>(acquire(nullptr, no_deadline)); }

void shared_mutex::lock_shared_slowly() noexcept {
  static_cast<void>(acquire_shared(nullptr, no_deadline));
}

result<> shared_mutex::lock(const context& ctx) noexcept {
  const order_watch watch{"shared_mutex lock", order_, name_of(this)};
  const result<> locked = detail::acquire_until(ctx, [&](detail::cancel_node* cancel) {
    watch.may_wait();
    return take() ? wait_end::claimed : acquire(cancel, no_deadline);
  });
  if (!locked) return locked;
  told_to_writer();
  watch.took();
  return locked;
}

result<> shared_mutex::lock_shared(const context& ctx) noexcept {
  const order_watch watch{"shared_mutex lock_shared", order_, name_of(this), true};
  const result<> locked = detail::acquire_until(ctx, [&](detail::cancel_node* cancel) {
    watch.may_wait();
    return take_shared() ? wait_end::claimed : acquire_shared(cancel, no_deadline);
  });
  if (!locked) return locked;
  detail::race_acquire(this);
  watch.took();
  return locked;
}

bool shared_mutex::try_lock_for(clock::duration d) noexcept {
  const order_watch watch{nullptr, order_, name_of(this)};
  if (d > clock::duration::zero()) watch.may_wait();
  return try_lock() || (d > clock::duration::zero() && try_lock_until(deadline_after(d)));
}

bool shared_mutex::try_lock_until(clock::time_point deadline) noexcept {
  const order_watch watch{nullptr, order_, name_of(this)};
  watch.may_wait(deadline);
  if (try_lock()) return true;
  if (deadline <= clock::now()) return false;
  if (acquire(nullptr, deadline) != wait_end::claimed) return false;
  told_to_writer();
  watch.took();
  return true;
}

bool shared_mutex::try_lock_shared_for(clock::duration d) noexcept {
  const order_watch watch{nullptr, order_, name_of(this), true};
  if (d > clock::duration::zero()) watch.may_wait();
  return try_lock_shared() ||
         (d > clock::duration::zero() && try_lock_shared_until(deadline_after(d)));
}

bool shared_mutex::try_lock_shared_until(clock::time_point deadline) noexcept {
  const order_watch watch{nullptr, order_, name_of(this), true};
  watch.may_wait(deadline);
  if (try_lock_shared()) return true;
  if (deadline <= clock::now()) return false;
  if (acquire_shared(nullptr, deadline) != wait_end::claimed) return false;
  detail::race_acquire(this);
  watch.took();
  return true;
}

wait_end shared_mutex::acquire(detail::cancel_node* cancel, clock::time_point deadline) noexcept {
  detail::checkpoint();
  detail::ticket several;
  queued_waiter self{several};
  {
    const spin_guard guard{queue_lock_};
    if (!has_to_wait(~0U, writer_bit)) return wait_end::claimed;
    writers_.push_back(self);
  }
  return wait(several, self, writers_, cancel, deadline);
}

wait_end shared_mutex::acquire_shared(detail::cancel_node* cancel,
                                      clock::time_point deadline) noexcept {
  detail::checkpoint();
  detail::ticket several;
  queued_waiter self{several};
  {
    const spin_guard guard{queue_lock_};
    if (!has_to_wait(writer_bit | waiting_bit, one_reader)) return wait_end::claimed;
    readers_.push_back(self);
  }
  return wait(several, self, readers_, cancel, deadline);
}

// Under queue_lock_: takes the lock if none of `obstacles` is there, and returns false; else sets
// waiting_bit, so that the caller is to be linked.
bool shared_mutex::has_to_wait(std::uint32_t obstacles, std::uint32_t hold) noexcept {
  std::uint32_t seen = state_.load(memory_order_relaxed);  // order: the exchange decides.
  for (;;) {
    const bool free = (seen & obstacles) == 0;
    // order: acquire, pairs with the releases, in case the lock is taken.
    if (state_.compare_exchange_weak(seen, free ? seen + hold : seen | waiting_bit,
                                     memory_order_acquire, memory_order_relaxed)) {
      return !free;
    }
  }
}

wait_end shared_mutex::wait(detail::ticket& several, queued_waiter& self, detail::wait_queue& queue,
                            detail::cancel_node* cancel, clock::time_point deadline) noexcept {
  const wait_end end =  // Woken by: whoever lets us in, the context, the timer.
      detail::park_until(several, self, cancel, deadline, detail::wait_reason::shared_mutex, this);
  detail::wake_list woken;
  {
    const spin_guard guard{queue_lock_};
    if (self.linked()) queue.remove(self);
    std::uint32_t seen = state_.load(memory_order_relaxed);  // order: the exchange decides.
    std::uint32_t more = 0;
    if (writers_.empty() && (seen & writer_bit) == 0) more = claim_readers(woken);
    // Readers may leave meanwhile, but for the last while waiting_bit is set.
    // order: relaxed; those let in have the last writer's release from the word as it was.
    while (!state_.compare_exchange_weak(seen, ((seen & ~waiting_bit) | waiting()) + more,
                                         memory_order_relaxed, memory_order_relaxed)) {
    }
  }
  woken.fire();
  return end;
}

// Under queue_lock_. Returns: what those that are let in add to the state.
std::uint32_t shared_mutex::claim_readers(detail::wake_list& woken) noexcept {
  std::uint32_t sum = 0;
  while (queued_waiter* const one = readers_.claim_first()) {
    woken.add(*one);
    sum += one_reader;
  }
  return sum;
}

// As claim_readers(), for one writer.
std::uint32_t shared_mutex::claim_writer(detail::wake_list& woken) noexcept {
  queued_waiter* const one = writers_.claim_first();
  if (one == nullptr) return 0;
  woken.add(*one);
  return writer_bit;
}

void shared_mutex::unlock_slowly(bool writer_first) noexcept {
  for (;;) {
    std::uint32_t seen = writer_bit;
    // order: release, pairs with the acquire in take() and take_shared().
    if (state_.compare_exchange_strong(seen, 0, memory_order_release, memory_order_relaxed)) return;
    if (seen >= one_reader) detail::fatal("unlock of a shared_mutex that readers hold");
    if ((seen & writer_bit) == 0) detail::fatal("unlock of unlocked shared_mutex");

    spin_guard guard{queue_lock_};
    if (waiting() == 0) continue;  // The last one has given up meanwhile.
    detail::wake_list woken;
    std::uint32_t next = writer_first ? claim_writer(woken) : 0;
    if (next == 0) next = claim_readers(woken);
    if (next == 0) next = claim_writer(woken);
    if (next == 0) {
      // All have given up, and wait for queue_lock_ to leave. The lock is still ours.
      state_.store(writer_bit, memory_order_relaxed);  // order: publishes nothing.
      continue;
    }
    // Nobody else changes the word while a writer holds the lock and queue_lock_ is taken.
    // order: release, pairs with the acquire of readers that come by; those let in have the order
    // from queue_lock_, which they take before they return.
    state_.store(next | waiting(), memory_order_release);
    guard.unlock();
    woken.fire();
    return;
  }
}

void shared_mutex::unlock_shared_slowly() noexcept {
  for (;;) {
    std::uint32_t seen = state_.load(memory_order_relaxed);  // order: the exchange decides.
    if ((seen & writer_bit) != 0) {
      detail::fatal("unlock_shared of a shared_mutex that a writer holds");
    }
    if (seen < one_reader) detail::fatal("unlock_shared of unlocked shared_mutex");
    if (seen != (one_reader | waiting_bit)) {
      // order: release, pairs with the acquire in take().
      if (state_.compare_exchange_weak(seen, seen - one_reader, memory_order_release,
                                       memory_order_relaxed)) {
        return;
      }
      continue;
    }

    spin_guard guard{queue_lock_};
    // order: relaxed; what other readers did before they left is published by their releases, and
    // acquired below.
    seen = state_.load(memory_order_relaxed);
    if (seen != (one_reader | waiting_bit)) continue;
    detail::wake_list woken;
    std::uint32_t next = claim_writer(woken);
    if (next == 0) next = claim_readers(woken);
    if (next == 0) {
      // All have given up, and wait for queue_lock_ to leave. We still read.
      state_.store(one_reader, memory_order_relaxed);  // order: publishes nothing.
      continue;
    }
    // Nobody else changes the word while the last reader is here and newcomers wait.
    // order: acquire the releases of the readers that left before, which the writer gets from
    // queue_lock_, that he takes before he returns; release for readers that come by.
    state_.exchange(next | waiting(), detail::memory_order_acq_rel);
    guard.unlock();
    woken.fire();
    return;
  }
}

}  // namespace exeunt
