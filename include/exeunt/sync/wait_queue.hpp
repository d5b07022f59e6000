// SPDX-License-Identifier: Apache-2.0
// detail: parked callers in order, under one lock. What every primitive of this room is made of.

#pragma once

#include <cstdint>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/clock.hpp>
#include <exeunt/sched/wait.hpp>

namespace exeunt::detail {

class cancel_node;

/// What ended a wait that a context or a deadline could end, too.
enum class wait_end : std::uint8_t { claimed, canceled, timed_out };

/// A caller's place in a wait_queue. Lives on the caller's stack.
struct queued_waiter : waiter {
  using waiter::waiter;

  wakeup due;                         ///< set by the claim
  queued_waiter* next_due = nullptr;  ///< for wake_list
  clock::time_point since{};          ///< mutex: when the caller began to wait
  std::uint64_t weight = 0;           ///< semaphore: how much it wants
  bool granted = false;               ///< mutex: the lock was handed over
};

/// First in, first out, with a way to the front. One word; constant-initialised.
///
/// Threads: whoever holds the lock of the primitive. Used by src/sync only, which ThreadSanitizer
///          does not instrument.
class wait_queue {
 public:
  constexpr wait_queue() noexcept = default;
  wait_queue(const wait_queue&) = delete;
  wait_queue& operator=(const wait_queue&) = delete;

  [[nodiscard]] bool empty() const noexcept { return head_ == nullptr; }
  [[nodiscard]] queued_waiter* front() const noexcept { return head_; }

  void push_back(queued_waiter& w) noexcept {
    EXEUNT_ASSERT(!w.linked());
    if (head_ == nullptr) {
      head_ = &w;
      w.hook_prev = w.hook_next = &w;
      return;
    }
    w.hook_prev = head_->hook_prev;
    w.hook_next = head_;
    w.hook_prev->hook_next = &w;
    head_->hook_prev = &w;
  }

  void push_front(queued_waiter& w) noexcept {
    push_back(w);
    head_ = &w;
  }

  /// Asserts: `w` is linked (in this queue; that is the caller's word).
  void remove(queued_waiter& w) noexcept {
    EXEUNT_ASSERT(w.linked());
    if (w.hook_next == &w) {
      head_ = nullptr;
    } else {
      if (head_ == &w) head_ = static_cast<queued_waiter*>(w.hook_next);
      w.hook_prev->hook_next = w.hook_next;
      w.hook_next->hook_prev = w.hook_prev;
    }
    w.hook_prev = w.hook_next = nullptr;
  }

  /// Unlinks and claims the first that has not been ended by a context or a deadline; those that
  /// have are unlinked on the way. Its wake-up is then in `due`.
  queued_waiter* claim_first() noexcept {
    while (queued_waiter* const first = head_) {
      remove(*first);
      if (first->claim(first->due)) return first;
    }
    return nullptr;
  }

 private:
  queued_waiter* head_ = nullptr;  // A ring through the hooks; head_->hook_prev is the last.
};

/// Claimed waiters, to be woken after the primitive's lock was released. Needs no memory of its
/// own and, once the lock is free, touches only callers that are still parked.
class wake_list {
 public:
  wake_list() noexcept = default;
  wake_list(const wake_list&) = delete;
  wake_list& operator=(const wake_list&) = delete;

  /// Under the lock that guards the queue.
  void add(queued_waiter& claimed) noexcept {
    // One that had not parked yet may leave as soon as the lock is free, and needs no wake-up.
    if (!claimed.due) return;
    (last_ == nullptr ? first_ : last_->next_due) = &claimed;
    last_ = &claimed;
  }

  /// After that lock was released. In the order of add().
  void fire() noexcept {
    while (queued_waiter* const waiting = first_) {
      first_ = waiting->next_due;
      const wakeup due = waiting->due;
      due.fire();
    }
    last_ = nullptr;
  }

 private:
  queued_waiter* first_ = nullptr;
  queued_waiter* last_ = nullptr;
};

}  // namespace exeunt::detail
