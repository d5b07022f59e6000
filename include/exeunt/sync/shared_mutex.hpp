// SPDX-License-Identifier: Apache-2.0
// Many readers or one writer, for fibers and threads.

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

/// A lock that several readers hold at a time, or one writer alone, in Go's order.
///
/// A writer that waits holds new readers back, so that readers without end cannot keep him out; and
/// readers that wait while a writer holds the lock go before the next writer, so that writers
/// cannot keep them out either. Writers among themselves are served in order.
///
/// So a reader must not lock_shared() once more while it holds the lock: a writer that came in
/// between would wait for it, and it for the writer. Nor can a reader become a writer without
/// unlock_shared().
///
/// std::shared_lock, std::unique_lock, std::lock_guard and std::scoped_lock work, the timed forms
/// with durations that convert to clock::duration and points of exeunt::clock. It may be held
/// across anything that parks, and belongs to nobody: another fiber or thread may unlock it.
///
/// Threads:  all members may be called concurrently, from fibers and plain threads.
/// Ordering: an unlock() happens before each later lock() and lock_shared(); an unlock_shared()
///           before each later lock(). Readers are not ordered among themselves.
/// Cost:     24 bytes; one locked instruction for each call without contention. Readers share a
///           cache line: see read_mostly_mutex.
class EXEUNT_API shared_mutex {
 public:
  constexpr shared_mutex() noexcept = default;
  /// With a place in an order; see lock_rank.
  explicit constexpr shared_mutex(lock_rank rank) noexcept : order_{rank} {}
  shared_mutex(const shared_mutex&) = delete;
  shared_mutex& operator=(const shared_mutex&) = delete;

  /// Blocks: until the lock is the caller's alone.
  EXEUNT_NO_TSAN void lock() noexcept {
    if (detail::is_watched()) [[unlikely]]
      return lock_watched();
    if (!take()) lock_slowly();
    told_to_writer();
  }

  /// As lock(), giving up when `ctx` ends. Readers that were held back go on then.
  ///
  /// Returns: success with the lock held; else the context's error, also if the lock was free but
  ///          the context had ended before.
  [[nodiscard]] result<> lock(const context& ctx) noexcept;

  /// Never waits, nor gives way.
  ///
  /// Returns: false if anybody holds the lock.
  [[nodiscard]] EXEUNT_NO_TSAN bool try_lock() noexcept {
    if (detail::is_watched()) [[unlikely]]
      return try_lock_watched();
    if (!take()) return false;
    told_to_writer();
    return true;
  }
  /// As lock(), for at most `d`.
  [[nodiscard]] bool try_lock_for(clock::duration d) noexcept;
  /// As lock(), until `deadline`.
  [[nodiscard]] bool try_lock_until(clock::time_point deadline) noexcept;

  /// Never waits, nor gives way to another fiber.
  ///
  /// Wakes:   all readers that wait; if none does, the longest waiting writer.
  /// Asserts: a writer holds the lock. Else the process ends with a report, also if readers hold
  ///          it.
  EXEUNT_NO_TSAN void unlock() noexcept {
    if (detail::is_watched()) [[unlikely]]
      detail::watch_unlock("shared_mutex unlock", this, order_);
    detail::race_release(this);
    let_go();
  }

  /// Blocks: until no writer holds the lock or waits for it, or one has let the caller in.
  EXEUNT_NO_TSAN void lock_shared() noexcept {
    if (detail::is_watched()) [[unlikely]]
      return lock_shared_watched();
    if (!take_shared()) lock_shared_slowly();
    detail::race_acquire(this);
  }

  /// As lock_shared(), giving up when `ctx` ends.
  ///
  /// Returns: success with the lock held; else the context's error, also if it had ended before.
  [[nodiscard]] result<> lock_shared(const context& ctx) noexcept;

  /// Never waits, nor gives way.
  ///
  /// Returns: false if a writer holds the lock or waits for it.
  [[nodiscard]] EXEUNT_NO_TSAN bool try_lock_shared() noexcept {
    if (detail::is_watched()) [[unlikely]]
      return try_lock_shared_watched();
    if (!take_shared()) return false;
    detail::race_acquire(this);
    return true;
  }
  /// As lock_shared(), for at most `d`.
  [[nodiscard]] bool try_lock_shared_for(clock::duration d) noexcept;
  /// As lock_shared(), until `deadline`.
  [[nodiscard]] bool try_lock_shared_until(clock::time_point deadline) noexcept;

  /// Never waits, nor gives way to another fiber.
  ///
  /// Wakes:   the longest waiting writer, if this was the last reader.
  /// Asserts: a reader holds the lock. Else the process ends with a report, also if a writer holds
  ///          it.
  EXEUNT_NO_TSAN void unlock_shared() noexcept {
    if (detail::is_watched()) [[unlikely]]
      detail::watch_unlock("shared_mutex unlock_shared", this, order_, true);
    detail::race_release(&queue_lock_);
    let_go_shared();
  }

 private:
  static constexpr std::uint32_t writer_bit = 1;   // A writer holds it; unlock() is legal.
  static constexpr std::uint32_t waiting_bit = 2;  // A queue has somebody; set under queue_lock_.
  static constexpr std::uint32_t one_reader = 4;   // The rest counts readers that hold it.

  friend class read_mostly_mutex;

  // What ThreadSanitizer is told, by the public members only: writers release this object and
  // readers queue_lock_; readers acquire this object, and writers both.
  EXEUNT_NO_TSAN void told_to_writer() const noexcept {
    detail::race_acquire(this);
    detail::race_acquire(&queue_lock_);
  }

  EXEUNT_NO_TSAN bool take() noexcept {
    std::uint32_t expected = 0;
    // order: acquire, pairs with the releases in let_go() and let_go_shared().
    return __builtin_expect(
        state_.compare_exchange_strong(expected, writer_bit, detail::memory_order_acquire,
                                       detail::memory_order_relaxed),
        1);
  }
  EXEUNT_NO_TSAN bool take_shared() noexcept {
    std::uint32_t seen = state_.load(detail::memory_order_relaxed);  // order: the exchange decides.
    while (__builtin_expect((seen & (writer_bit | waiting_bit)) == 0, 1)) {
      // order: acquire, pairs with the release in let_go().
      if (__builtin_expect(
              state_.compare_exchange_strong(seen, seen + one_reader, detail::memory_order_acquire,
                                             detail::memory_order_relaxed),
              1)) {
        return true;
      }
      stand_back();
      seen = state_.load(detail::memory_order_relaxed);  // order: as above.
    }
    return false;
  }
  // `writer_first`: for a writer that gives up before it has read or written: the next one takes
  // its place.
  EXEUNT_NO_TSAN void let_go(bool writer_first = false) noexcept {
    std::uint32_t expected = writer_bit;
    // order: release, pairs with the acquire in take() and take_shared().
    if (__builtin_expect(!state_.compare_exchange_strong(expected, 0, detail::memory_order_release,
                                                         detail::memory_order_relaxed),
                         0)) {
      unlock_slowly(writer_first);
    }
  }
  EXEUNT_NO_TSAN void let_go_shared() noexcept {
    std::uint32_t seen = state_.load(detail::memory_order_relaxed);  // order: the exchange decides.
    while (__builtin_expect(seen >= one_reader && seen != (one_reader | waiting_bit), 1)) {
      // order: release, pairs with the acquire in take().
      if (__builtin_expect(
              state_.compare_exchange_weak(seen, seen - one_reader, detail::memory_order_release,
                                           detail::memory_order_relaxed),
              1)) {
        return;
      }
    }
    unlock_shared_slowly();
  }

  static void stand_back() noexcept;
  void lock_watched() noexcept;
  void lock_shared_watched() noexcept;
  bool try_lock_watched() noexcept;
  bool try_lock_shared_watched() noexcept;
  void lock_slowly() noexcept;
  void lock_shared_slowly() noexcept;
  void unlock_slowly(bool writer_first) noexcept;
  void unlock_shared_slowly() noexcept;
  detail::wait_end acquire(detail::cancel_node* cancel, clock::time_point deadline) noexcept;
  detail::wait_end acquire_shared(detail::cancel_node* cancel, clock::time_point deadline) noexcept;
  detail::wait_end wait(detail::ticket& several, detail::queued_waiter& self,
                        detail::wait_queue& queue, detail::cancel_node* cancel,
                        clock::time_point deadline) noexcept;
  bool has_to_wait(std::uint32_t obstacles, std::uint32_t hold) noexcept;
  std::uint32_t claim_readers(detail::wake_list& woken) noexcept;
  std::uint32_t claim_writer(detail::wake_list& woken) noexcept;
  [[nodiscard]] std::uint32_t waiting() const noexcept {
    return writers_.empty() && readers_.empty() ? 0 : waiting_bit;
  }

  detail::atomic<std::uint32_t> state_{0};
  detail::spin_lock queue_lock_;
  detail::order_mark order_;
  detail::wait_queue writers_;
  detail::wait_queue readers_;
};

}  // namespace exeunt
