// SPDX-License-Identifier: Apache-2.0
// A bound on how much goes on at once.

#pragma once

#include <cstdint>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/atomic.hpp>
#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/wait.hpp>
#include <exeunt/sync/wait_queue.hpp>

namespace exeunt {

class context;

/// `size` units, of which callers hold some. First come, first served: who wants much is not
/// overtaken by those who want little.
///
/// Threads:  all members may be called concurrently, from fibers and plain threads. Units belong to
///           nobody: another may release them.
/// Ordering: a release() happens before the acquire() that it makes possible.
/// Cost:     one locked instruction each for acquire() and release() while nobody waits.
class EXEUNT_API semaphore {
 public:
  /// Asserts: `size` is below 2^63.
  explicit constexpr semaphore(std::uint64_t size) noexcept : size_{size}, state_{size} {
    EXEUNT_ASSERT(size < waiting_bit, "a semaphore has less than 2^63 units");
  }
  semaphore(const semaphore&) = delete;
  semaphore& operator=(const semaphore&) = delete;

  /// Blocks: until `n` units are the caller's.
  /// Throws: panic_error if `n` is more than there are: that would block for good.
  EXEUNT_NO_TSAN void acquire(std::uint64_t n = 1) {
    if (!take_in_turn(n)) acquire_slowly(n);
  }

  /// As acquire(), giving up when `ctx` ends. For more than there are, waits until it does.
  ///
  /// Returns: the context's error, also if the units were free but the context had ended before.
  [[nodiscard]] result<> acquire(const context& ctx, std::uint64_t n = 1) noexcept;

  /// Returns: false if there are too few units, or somebody waits already.
  [[nodiscard]] bool try_acquire(std::uint64_t n = 1) noexcept;
  /// As acquire(), for at most `d`.
  [[nodiscard]] bool try_acquire_for(clock::duration d, std::uint64_t n = 1) noexcept;

  /// Wakes:  those at the head of the queue for whom there are enough units now.
  /// Throws: panic_error if more would be free than there are; nothing is changed then.
  EXEUNT_NO_TSAN void release(std::uint64_t n = 1) {
    detail::step("semaphore release", this);
    detail::race_release(this);
    if (!put(n)) release_slowly(n);
  }

 private:
  static constexpr std::uint64_t waiting_bit = std::uint64_t{1} << 63;  // queue_ has somebody.

  // With somebody in the queue, state_ is more than any size.
  EXEUNT_NO_TSAN bool take(std::uint64_t n) noexcept {
    std::uint64_t state = state_.load(detail::memory_order_relaxed);  // order: exchanged below.
    while (n <= state && state < waiting_bit) {
      // order: acquire, pairs with the release in put() and serve(); publishes what was done with
      // the units.
      if (state_.compare_exchange_weak(state, state - n, detail::memory_order_acquire,
                                       detail::memory_order_relaxed)) {
        detail::race_acquire(this);
        return true;
      }
    }
    return false;
  }
  // Gives way first, if it has to: then no unit is the caller's, for which others would queue.
  EXEUNT_NO_TSAN bool take_in_turn(std::uint64_t n) noexcept {
    detail::step("semaphore acquire", this);
    detail::checkpoint();
    return take(n);
  }
  EXEUNT_NO_TSAN bool put(std::uint64_t n) noexcept {
    std::uint64_t state = state_.load(detail::memory_order_relaxed);  // order: exchanged below.
    while (state < waiting_bit && n <= size_ - state) {
      // order: release, pairs with the acquire in take().
      if (state_.compare_exchange_weak(state, state + n, detail::memory_order_release,
                                       detail::memory_order_relaxed)) {
        return true;
      }
    }
    return false;
  }

  void acquire_slowly(std::uint64_t n);
  detail::wait_end wait(detail::cancel_node* cancel, clock::time_point deadline,
                        std::uint64_t n) noexcept;
  bool take_or_queue(detail::queued_waiter& self) noexcept;
  void release_slowly(std::uint64_t n);
  void serve(std::uint64_t free, detail::wake_list& woken) noexcept;

  const std::uint64_t size_;
  detail::atomic<std::uint64_t> state_;  // The free units, and waiting_bit.
  detail::spin_lock lock_;
  detail::wait_queue queue_;
};

}  // namespace exeunt
