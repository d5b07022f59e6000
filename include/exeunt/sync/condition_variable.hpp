// SPDX-License-Identifier: Apache-2.0
// Waiting, under a lock, for something to change.

#pragma once

#include <mutex>
#include <utility>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/wait_queue.hpp>

namespace exeunt {

class context;

/// A place to wait at until somebody who changed what the mutex guards says so. Often a channel
/// says it better.
///
/// There are no wake-ups without a notify; still, what was notified may have changed again before
/// the waiter has the lock, so wait in a loop or with a predicate.
///
/// Threads:  all members may be called concurrently, from fibers and plain threads.
/// Ordering: none of its own; the mutex gives it.
class EXEUNT_API condition_variable {
 public:
  constexpr condition_variable() noexcept = default;
  condition_variable(const condition_variable&) = delete;
  condition_variable& operator=(const condition_variable&) = delete;

  /// Unlocks, waits to be notified, and locks again.
  ///
  /// Blocks:  until notified, and then for the lock.
  /// Asserts: `held` owns its mutex.
  void wait(std::unique_lock<mutex>& held) noexcept;
  /// As wait(), until `predicate()`, which is called with the lock held, is true.
  template <typename Predicate>
  void wait(std::unique_lock<mutex>& held, Predicate&& predicate) {
    while (!predicate()) wait(held);
  }

  /// As wait(held), giving up when `ctx` ends. The lock is held on return in each case.
  /// Returns: the context's error.
  [[nodiscard]] result<> wait(const context& ctx, std::unique_lock<mutex>& held) noexcept;
  template <typename Predicate>
  [[nodiscard]] result<> wait(const context& ctx, std::unique_lock<mutex>& held,
                              Predicate&& predicate) {
    while (!predicate()) {
      if (result<> woken = wait(ctx, held); !woken) return woken;
    }
    return {};
  }

  /// Returns: false if `deadline` passed first. The lock is held on return in each case.
  [[nodiscard]] bool wait_until(std::unique_lock<mutex>& held, clock::time_point deadline) noexcept;
  /// Returns: predicate().
  template <typename Predicate>
  [[nodiscard]] bool wait_until(std::unique_lock<mutex>& held, clock::time_point deadline,
                                Predicate&& predicate) {
    while (!predicate()) {
      if (!wait_until(held, deadline)) return predicate();
    }
    return true;
  }
  [[nodiscard]] bool wait_for(std::unique_lock<mutex>& held, clock::duration d) noexcept {
    return wait_until(held, deadline_after(d));
  }
  template <typename Predicate>
  [[nodiscard]] bool wait_for(std::unique_lock<mutex>& held, clock::duration d,
                              Predicate&& predicate) {
    return wait_until(held, deadline_after(d), std::forward<Predicate>(predicate));
  }

  /// Wakes: the one that has waited longest. The lock need not be held.
  void notify_one() noexcept;
  /// Wakes: everybody who waits now.
  void notify_all() noexcept;

 private:
  detail::spin_lock lock_;
  detail::wait_queue queue_;
};

}  // namespace exeunt
