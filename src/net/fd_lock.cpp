// SPDX-License-Identifier: Apache-2.0
// The users of a descriptor, counted and put in turn in one word; a queue only when they meet.
//
// Invariants, whenever queues_lock_ is free:
//   I1  A direction's waiting bit is set  =>  its held bit is set, or a waiter that was woken is on
//       its way to try again.
//   I2  A waiter is queued  =>  its waiting bit is set.
//   I3  closed and no users  =>  exactly one call of unlock() or leave() has returned true.
// Locks: queues_lock_ is a leaf but for tickets.
// Wake-ups: wait_for_turn() is ended by unlock() (the first), by close() and poke() (all), by the
//   cancel node, or the deadline's timer. Whoever was woken tries again from the start, so that one
//   who gives up as he is woken takes nobody's turn: he has seen the direction free, or held by
//   somebody who will wake the next.
// Tests: tests/net/fd_lock_test.cpp.

#include "net/fd_lock.hpp"

#include <exeunt/base/assert.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/sched/timer_node.hpp>

namespace exeunt::net {

using detail::memory_order_acq_rel;
using detail::memory_order_acquire;
using detail::memory_order_relaxed;
using detail::spin_guard;
using detail::waiter;
using detail::wakeup;

fd_lock::attempt fd_lock::try_lock(io_direction direction) noexcept {
  // order: relaxed; the exchange decides. Its acquire pairs with the release of the last user.
  std::uint64_t seen = state_.load(memory_order_relaxed);
  while (true) {
    if ((seen & closed_bit) != 0) return attempt::closed;
    if ((seen & held_bit(direction)) != 0) return attempt::taken;
    if (state_.compare_exchange_weak(seen, (seen | held_bit(direction)) + user,
                                     memory_order_acquire, memory_order_relaxed)) {
      return attempt::got;
    }
  }
}

result<> fd_lock::lock(io_direction direction, cancel_node* cancel,
                       const detail::atomic<clock::rep>& deadline) noexcept {
  while (true) {
    switch (try_lock(direction)) {
      case attempt::got:
        return {};
      case attempt::closed:
        return fail(errc::closed);
      case attempt::taken:
        break;
    }
    // order: relaxed; a change is followed by poke().
    const clock::time_point until{clock::duration{deadline.load(memory_order_relaxed)}};
    if (until != no_deadline && clock::now() >= until) return fail(errc::deadline_exceeded);
    if (auto waited = wait_for_turn(direction, cancel, until); !waited) return waited;
  }
}

result<> fd_lock::wait_for_turn(io_direction direction, cancel_node* cancel,
                                clock::time_point deadline) noexcept {
  auto& queue = queues_[static_cast<std::size_t>(direction)];
  detail::ticket several;
  waiter self{several};
  waiter canceled{several};
  if (cancel != nullptr && !cancel->add_waiter(canceled)) return fail(cancel->reason());
  {
    spin_guard guard{queues_lock_};
    std::uint64_t seen = state_.load(memory_order_relaxed);  // order: the exchange decides.
    bool retry = false;
    do {
      retry = (seen & (closed_bit | held_bit(direction))) != held_bit(direction);
      if (retry) break;
      // order: release; unlock() that sees the bit takes queues_lock_ to find the waiter.
    } while (!state_.compare_exchange_weak(seen, seen | waiting_bit(direction),
                                           memory_order_acq_rel, memory_order_relaxed));
    if (retry) {
      guard.unlock();
      if (cancel != nullptr) cancel->remove_waiter(canceled);
      return {};
    }
    queue.push_back(self);
  }
  {
    const detail::timeout_waiter timeout{several, deadline};
    park(several,
         direction == io_direction::read ? detail::wait_reason::io_read
                                         : detail::wait_reason::io_write,
         this);  // Woken by: unlock(), close(), poke(), `cancel`, the deadline's timer.
  }
  if (cancel != nullptr) cancel->remove_waiter(canceled);
  {
    const spin_guard guard{queues_lock_};
    if (self.linked()) queue.remove(self);
  }
  if (canceled.won()) return fail(cancel->reason());
  return {};
}

void fd_lock::wake_first(io_direction direction) noexcept {
  wakeup due;
  {
    const spin_guard guard{queues_lock_};
    auto& queue = queues_[static_cast<std::size_t>(direction)];
    detail::claim_first(queue, due);
    // order: relaxed; the bit changes only under queues_lock_.
    if (queue.empty()) state_.fetch_and(~waiting_bit(direction), memory_order_relaxed);
  }
  due.fire();
}

void fd_lock::wake_all(io_direction direction) noexcept {
  while (true) {
    wakeup due;
    {
      const spin_guard guard{queues_lock_};
      auto& queue = queues_[static_cast<std::size_t>(direction)];
      if (detail::claim_first(queue, due) == nullptr) {
        state_.fetch_and(~waiting_bit(direction), memory_order_relaxed);  // order: as above.
        return;
      }
    }
    due.fire();
  }
}

bool fd_lock::unlock(io_direction direction) noexcept {
  std::uint64_t seen = state_.load(memory_order_relaxed);  // order: the exchange decides.
  std::uint64_t next = 0;
  do {
    EXEUNT_ASSERT((seen & held_bit(direction)) != 0 && seen >= user,
                  "unlock of a descriptor that nobody uses");
    next = (seen & ~held_bit(direction)) - user;
    // order: acq_rel; hands what this user did to the next one, and all of it to the last.
  } while (!state_.compare_exchange_weak(seen, next, memory_order_acq_rel, memory_order_relaxed));
  if ((next & waiting_bit(direction)) != 0) wake_first(direction);
  return (next & closed_bit) != 0 && next < user;
}

bool fd_lock::enter() noexcept {
  std::uint64_t seen = state_.load(memory_order_relaxed);  // order: the exchange decides.
  do {
    if ((seen & closed_bit) != 0) return false;
    // order: acquire; pairs with the release of those who left.
  } while (
      !state_.compare_exchange_weak(seen, seen + user, memory_order_acquire, memory_order_relaxed));
  return true;
}

bool fd_lock::leave() noexcept {
  std::uint64_t seen = state_.load(memory_order_relaxed);  // order: the exchange decides.
  do {
    EXEUNT_ASSERT(seen >= user, "leaving a descriptor that nobody uses");
    // order: acq_rel; as unlock().
  } while (
      !state_.compare_exchange_weak(seen, seen - user, memory_order_acq_rel, memory_order_relaxed));
  return (seen & closed_bit) != 0 && seen - user < user;
}

bool fd_lock::close() noexcept {
  std::uint64_t seen = state_.load(memory_order_relaxed);  // order: the exchange decides.
  do {
    if ((seen & closed_bit) != 0) return false;
    // order: acq_rel; as enter().
  } while (!state_.compare_exchange_weak(seen, (seen | closed_bit) + user, memory_order_acq_rel,
                                         memory_order_relaxed));
  wake_all(io_direction::read);
  wake_all(io_direction::write);
  return true;
}

void fd_lock::poke() noexcept {
  wake_all(io_direction::read);
  wake_all(io_direction::write);
}

}  // namespace exeunt::net
