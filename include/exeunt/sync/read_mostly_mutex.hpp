// SPDX-License-Identifier: Apache-2.0
// A readers-writer lock for what is read all the time and seldom written.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sync/lock_order.hpp>
#include <exeunt/sync/shared_mutex.hpp>
#include <exeunt/sync/wait_queue.hpp>

namespace exeunt {

class context;

/// As shared_mutex, with readers that do not disturb each other: each CPU has a count of its own,
/// on a cache line of its own, and a writer waits until the counts are zero in sum. A reader may
/// change its thread while it holds the lock, and unlock_shared() may be called elsewhere: then one
/// count goes below zero.
///
/// Readers and writers take turns as with shared_mutex. A writer has to look at all counts, which
/// takes about a microsecond, so this is for locks that are read more than some hundred times for
/// each time they are written. For values that readers only look at, atomic snapshots are better
/// still.
///
/// std::shared_lock, std::unique_lock, std::lock_guard and std::scoped_lock work. Not recursive,
/// not for readers either.
///
/// Threads:  all members may be called concurrently, from fibers and plain threads. The destructor
///           may be called only when all calls of unlock_shared() have returned.
/// Ordering: as shared_mutex.
/// Cost:     a little more than 1 KiB; lock_shared() and unlock_shared() are a call and one locked
///           instruction each on a line of this CPU (of 16 CPUs; beyond that some share).
class EXEUNT_API read_mostly_mutex {
 public:
  constexpr read_mostly_mutex() noexcept = default;
  /// With a place in an order; see lock_rank.
  explicit constexpr read_mostly_mutex(lock_rank rank) noexcept : order_{rank} {}
  read_mostly_mutex(const read_mostly_mutex&) = delete;
  read_mostly_mutex& operator=(const read_mostly_mutex&) = delete;

  /// Blocks: until the lock is the caller's alone.
  void lock() noexcept;

  /// As lock(), giving up when `ctx` ends. Readers that were held back go on then.
  ///
  /// Returns: success with the lock held; else the context's error, also if the lock was free but
  ///          the context had ended before.
  [[nodiscard]] result<> lock(const context& ctx) noexcept;

  /// Never waits, nor gives way.
  ///
  /// Returns: false if anybody holds the lock, or a reader is just about to find out.
  [[nodiscard]] bool try_lock() noexcept;
  /// As lock(), for at most `d`.
  [[nodiscard]] bool try_lock_for(clock::duration d) noexcept;
  /// As lock(), until `deadline`.
  [[nodiscard]] bool try_lock_until(clock::time_point deadline) noexcept;

  /// Never waits, nor gives way to another fiber.
  ///
  /// Wakes:   all readers that wait; if none does, the longest waiting writer.
  /// Asserts: a writer holds the lock. Else the process ends with a report.
  void unlock() noexcept;

  /// Blocks: until no writer holds the lock or waits for it, or one has let the caller in.
  void lock_shared() noexcept;

  /// As lock_shared(), giving up when `ctx` ends.
  ///
  /// Returns: success with the lock held; else the context's error, also if it had ended before.
  [[nodiscard]] result<> lock_shared(const context& ctx) noexcept;

  /// Never waits, nor gives way.
  ///
  /// Returns: false if a writer holds the lock or waits for it.
  [[nodiscard]] bool try_lock_shared() noexcept;
  /// As lock_shared(), for at most `d`.
  [[nodiscard]] bool try_lock_shared_for(clock::duration d) noexcept;
  /// As lock_shared(), until `deadline`.
  [[nodiscard]] bool try_lock_shared_until(clock::time_point deadline) noexcept;

  /// Never waits, nor gives way to another fiber.
  ///
  /// Wakes:   the writer that waits, if this was the last reader.
  /// Asserts: a reader holds the lock. That none does is noticed by the next writer, whose lock()
  ///          then ends the process with a report.
  void unlock_shared() noexcept;

 private:
#ifdef EXEUNT_CORE_MODEL
  static constexpr std::size_t shards = 2;  // Each look at one is a step.
#else
  static constexpr std::size_t shards = 16;
#endif
  struct alignas(64) shard {
    detail::atomic<std::int64_t> readers{0};
  };

  void told_to_writer() const noexcept;
  shard& this_shard() noexcept;
  bool enter() noexcept;
  void leave(shard& in) noexcept;
  void convert() noexcept;
  [[nodiscard]] bool all_left() const noexcept;
  detail::wait_end acquire(detail::cancel_node* cancel, clock::time_point deadline) noexcept;
  detail::wait_end acquire_shared(detail::cancel_node* cancel, clock::time_point deadline) noexcept;
  detail::wait_end wait_for_readers(detail::cancel_node* cancel,
                                    clock::time_point deadline) noexcept;
  void let_go(bool writer_first = false) noexcept;

  shared_mutex turns_;                       // Who is next, if it is not plain.
  detail::atomic<std::uint32_t> writer_{0};  // 1: a writer holds turns_, and waits or writes.
  detail::spin_lock queue_lock_;
  detail::order_mark order_;
  detail::wait_queue queue_;  // The writer that waits for readers to leave.
  std::array<shard, shards> shards_;
};

}  // namespace exeunt
