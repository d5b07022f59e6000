// SPDX-License-Identifier: Apache-2.0
// A bound on how much goes on at once.

#pragma once

#include <cstdint>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sync/wait_queue.hpp>

namespace exeunt {

class context;

/// `size` units, of which callers hold some. First come, first served: who wants much is not
/// overtaken by those who want little.
///
/// Threads:  all members may be called concurrently, from fibers and plain threads. Units belong to
///           nobody: another may release them.
/// Ordering: a release() happens before the acquire() that it makes possible.
class EXEUNT_API semaphore {
 public:
  explicit constexpr semaphore(std::uint64_t size) noexcept : size_{size}, free_{size} {}
  semaphore(const semaphore&) = delete;
  semaphore& operator=(const semaphore&) = delete;

  /// Blocks: until `n` units are the caller's.
  /// Throws: panic_error if `n` is more than there are: that would block for good.
  void acquire(std::uint64_t n = 1);

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
  void release(std::uint64_t n = 1);

 private:
  detail::wait_end acquire_slowly(detail::cancel_node* cancel, clock::time_point deadline,
                                  std::uint64_t n) noexcept;
  void serve(detail::wake_list& woken) noexcept;

  const std::uint64_t size_;
  detail::spin_lock lock_;
  std::uint64_t free_;
  detail::wait_queue queue_;
};

}  // namespace exeunt
