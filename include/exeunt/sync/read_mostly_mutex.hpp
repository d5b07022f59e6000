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

/// As shared_mutex, with readers that do not disturb each other: each worker has a count of its
/// own, on a cache line of its own, and a writer waits until the counts are zero in sum. A reader
/// may change its thread while it holds the lock, and unlock_shared() may be called elsewhere: then
/// one count goes below zero.
///
/// Readers and writers take turns as with shared_mutex. A writer has to look at all counts, and, if
/// there have been many readers since the last one, to interrupt the threads that run, which takes
/// 0.2 to 5 us; so this is for locks that are read more than some hundred times for each time they
/// are written. How many readers that are follows from what the interruption has taken last: it is
/// a fifth of the time at most, or no longer than what it has saved the readers. For values that
/// readers only look at, atomic snapshots are better still.
///
/// std::shared_lock, std::unique_lock, std::lock_guard and std::scoped_lock work. Not recursive,
/// not for readers either.
///
/// Threads:  all members may be called concurrently, from fibers and plain threads. The destructor
///           may be called only when all calls of unlock_shared() have returned.
/// Ordering: as shared_mutex.
/// Cost:     a little more than 2 KiB; lock_shared() and unlock_shared() are a plain store each, in
///           line, to a line of this worker's. Soon after a writer they are a call and a locked
///           instruction on that line; so they always are, on one of eight lines that are shared by
///           CPU, for plain threads and from the 25th worker on; and where membarrier(2) is
///           missing.
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
  EXEUNT_NO_TSAN void lock_shared() noexcept {
    if (detail::is_watched()) [[unlikely]]
      return lock_shared_watched();
    if (!enter_alone()) [[unlikely]]
      lock_shared_slowly();
    detail::race_acquire(this);
  }

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
  EXEUNT_NO_TSAN void unlock_shared() noexcept {
    if (detail::is_watched()) [[unlikely]]
      detail::watch_unlock("read_mostly_mutex unlock_shared", this, order_, true);
    detail::race_release(&shards_);
    if (!leave_alone()) [[unlikely]]
      leave();
  }

 private:
#ifdef EXEUNT_CORE_MODEL
  static constexpr std::size_t workers_max = 1;  // Each look at a count is a step.
  static constexpr std::size_t shards_of_others = 1;
#else
  static constexpr std::size_t workers_max = 24;
  static constexpr std::size_t shards_of_others = 8;
#endif
  struct alignas(64) shard {
    detail::atomic<std::int64_t> readers{0};
    detail::atomic<std::uint32_t> fenced{0};  // How many of them were, since the last opening.
  };
  enum class mode : std::uint32_t {
    fenced,    ///< Readers count by locked instructions.
    writing,   ///< A writer holds turns_, and waits or writes.
    unfenced,  ///< Readers that are alone at their count do it by plain stores.
  };

  // The count of the worker that runs here, if it has one and the mode is `unfenced`. Else null.
  EXEUNT_NO_TSAN shard* own_unfenced() noexcept {
#ifdef EXEUNT_CORE_MODEL
    return nullptr;  // Who is alone relies on it that fibers are not switched inside.
#endif
    // order: relaxed; who enters looks again, who leaves has entered since the mode is what it is.
    if (mode_.load(detail::memory_order_relaxed) != mode::unfenced) return nullptr;
    const detail::turn* const me = detail::workers_turn();
    return me != nullptr && me->number < workers_max ? &shards_[me->number] : nullptr;
  }
  EXEUNT_NO_TSAN static void add(shard& own, std::int64_t more) noexcept {
    // order: release; an entry releases nothing, an exit what the reader did.
    own.readers.store(own.readers.load(detail::memory_order_relaxed) + more,
                      detail::memory_order_release);
    asm volatile("" : : : "memory");  // The light fence; where it is not enough nobody opens.
  }
  EXEUNT_NO_TSAN bool enter_alone() noexcept {
    shard* const own = own_unfenced();
    if (own == nullptr) [[unlikely]]
      return false;
    add(*own, 1);
    // order: acquire; pairs with the last writer's release, which an opening goes on with.
    if (mode_.load(detail::memory_order_acquire) == mode::unfenced) [[likely]]
      return true;
    return stays_after_fence(*own);
  }
  // Returns: false if nothing is done yet.
  EXEUNT_NO_TSAN bool leave_alone() noexcept {
    shard* const own = own_unfenced();
    if (own == nullptr) [[unlikely]]
      return false;
    add(*own, -1);
    // order: relaxed; see I4.
    if (mode_.load(detail::memory_order_relaxed) == mode::writing) [[unlikely]]
      tell_writer();
    return true;
  }

  void told_to_writer() const noexcept;
  void lock_shared_watched() noexcept;
  void lock_shared_slowly() noexcept;
  bool enter() noexcept;
  bool stays_after_fence(shard& in) noexcept;
  bool has_entered(shard& in) noexcept;
  void leave() noexcept;
  void leave(shard& in) noexcept;
  shard& any_shard() noexcept;
  void tell_writer() noexcept;
  void convert() noexcept;
  void note_fenced(shard& in) noexcept;
  [[nodiscard]] bool all_left() const noexcept;
  mode close() noexcept;
  void note_heavy(clock::duration took, clock::duration open_for) noexcept;
  detail::wait_end acquire(detail::cancel_node* cancel, clock::time_point deadline) noexcept;
  detail::wait_end acquire_shared(detail::cancel_node* cancel, clock::time_point deadline) noexcept;
  detail::wait_end wait_for_readers(detail::cancel_node* cancel,
                                    clock::time_point deadline) noexcept;
  void give_up(mode before) noexcept;

  shared_mutex turns_;  // Who is next, if it is not plain.
  detail::atomic<mode> mode_{mode::fenced};
  detail::atomic<std::uint32_t> patience_{1};  // So many fenced readers at one count open the lock.
  detail::atomic<clock::time_point> opened_at_{clock::time_point{}};
  detail::spin_lock queue_lock_;
  detail::order_mark order_;
  detail::wait_queue queue_;  // The writer that waits for readers to leave.
  std::array<shard, workers_max + shards_of_others> shards_;
};

}  // namespace exeunt
