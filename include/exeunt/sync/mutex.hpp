// SPDX-License-Identifier: Apache-2.0
// Mutual exclusion for fibers and threads: a waiting fiber parks, its worker goes on.

#pragma once

#include <cstdint>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sync/lock_order.hpp>
#include <exeunt/sync/wait_queue.hpp>

namespace exeunt {

class context;

/// A lock with Go's two modes.
///
/// Normally whoever comes first takes it, also ahead of those that wait: this is fast, as the
/// newcomer is running already. Once a waiter has waited for more than 1 ms without success, the
/// lock is handed from each unlock() to the longest waiter, until one is reached that has waited
/// for less, or nobody is left.
///
/// std::lock_guard, std::unique_lock and std::scoped_lock work, the timed forms with durations that
/// convert to clock::duration and points of exeunt::clock. It may be held across anything that
/// parks. It belongs to nobody: another fiber or thread than the locking one may unlock it. Not
/// recursive.
///
/// Threads:  all members may be called concurrently, from fibers and plain threads.
/// Ordering: an unlock() happens before the next lock.
/// Cost:     16 bytes, of which the state is one word; one locked instruction each for lock() and
///           unlock() without contention.
class EXEUNT_API mutex {
 public:
  constexpr mutex() noexcept = default;
  /// With a place in an order; see lock_rank.
  explicit constexpr mutex(lock_rank rank) noexcept : order_{rank} {}
  mutex(const mutex&) = delete;
  mutex& operator=(const mutex&) = delete;

  /// Blocks: until the lock is the caller's.
  EXEUNT_NO_TSAN void lock() noexcept {
    if (detail::is_watched()) [[unlikely]]
      return lock_watched();
    if (!take()) lock_slowly();
  }

  /// As lock(), giving up when `ctx` ends.
  ///
  /// Returns: success with the lock held; else the context's error, also if the lock was free but
  ///          the context had ended before.
  [[nodiscard]] result<> lock(const context& ctx) noexcept;

  /// Never waits, nor gives way: whoever tries again and again must yield() himself.
  ///
  /// Returns: false if the lock is held, or promised to those that wait.
  [[nodiscard]] bool try_lock() noexcept;
  /// As lock(), for at most `d`.
  [[nodiscard]] bool try_lock_for(clock::duration d) noexcept;
  /// As lock(), until `deadline`.
  [[nodiscard]] bool try_lock_until(clock::time_point deadline) noexcept;

  /// Never waits, nor gives way to another fiber.
  ///
  /// Wakes:   one waiter, if there are any.
  /// Asserts: the mutex is locked; unlock of an unlocked mutex ends the process.
  EXEUNT_NO_TSAN void unlock() noexcept {
    if (detail::is_watched()) [[unlikely]]
      detail::watch_unlock("mutex unlock", this, order_);
    detail::race_release(this);
    std::uint32_t expected = locked_bit;
    // order: release, pairs with the acquire in lock().
    if (__builtin_expect(!state_.compare_exchange_strong(expected, 0, detail::memory_order_release,
                                                         detail::memory_order_relaxed),
                         0)) {
      unlock_slowly();
    }
  }

 private:
  static constexpr std::uint32_t locked_bit = 1;    // Somebody holds it; unlock() is legal.
  static constexpr std::uint32_t woken_bit = 2;     // A waiter is awake and tries: wake no other.
  static constexpr std::uint32_t starving_bit = 4;  // Unlock hands over; newcomers queue.
  static constexpr std::uint32_t waiting_bit = 8;   // queue_ has somebody; set under queue_lock_.

  EXEUNT_NO_TSAN bool take() noexcept {
    std::uint32_t expected = 0;
    // order: acquire, pairs with the release in unlock(); publishes what the lock guards.
    if (__builtin_expect(
            !state_.compare_exchange_strong(expected, locked_bit, detail::memory_order_acquire,
                                            detail::memory_order_relaxed),
            0)) {
      return false;
    }
    detail::race_acquire(this);
    return true;
  }

  void lock_watched() noexcept;
  void lock_slowly() noexcept;
  void unlock_slowly() noexcept;
  detail::wait_end acquire(detail::cancel_node* cancel, clock::time_point deadline) noexcept;
  bool barge(bool woken) noexcept;
  bool spin(bool& woken) noexcept;
  bool enqueue(detail::queued_waiter& self, bool& woken, bool queued_before) noexcept;
  void leave(detail::queued_waiter& self) noexcept;

  detail::atomic<std::uint32_t> state_{0};
  detail::spin_lock queue_lock_;
  // Above 0: how many rounds to spin. Else: how many contended calls to go before trying again.
  detail::atomic<std::int8_t> spin_credit_{4};
  detail::order_mark order_;
  detail::wait_queue queue_;
};

}  // namespace exeunt
