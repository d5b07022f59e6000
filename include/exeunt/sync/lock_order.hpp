// SPDX-License-Identifier: Apache-2.0
// Finds locks that are taken in orders that can deadlock, before they do.
//
// Two fibers deadlock if one holds A and wants B, and the other one holds B and wants A; but only
// if they do it at the same time, which may be once a year. The two orders show in every run. So
// the detector writes down in which orders locks are waited for, whoever does it and whenever, and
// reports the first one that closes a cycle with those it knows: after Linux's lockdep. Where the
// order is a rule, locks have ranks (after Go's lockrank), and the first offence is reported even
// though nobody has ever kept the rule.

#pragma once

#include <cstdint>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/atomic.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/sched/wait.hpp>

namespace exeunt {

/// What is done about locks in an order that can deadlock.
enum class lock_order : std::uint8_t {
  off,     ///< nothing, and nobody looks
  report,  ///< one record in the log for each pair of locks
  fatal,   ///< the same, and the process ends
};

/// Sets what is done from now on, for all mutex, basic_mutex, shared_mutex and read_mostly_mutex of
/// the process. At first it is `report` in a library built with EXEUNT_DCHECKS, else `off`, unless
/// the environment has EXEUNT_LOCK_ORDER=off, report or fatal.
///
/// A call that may wait for a lock is judged before it does, whether it has to or not: with every
/// lock that the caller holds it makes an order. Calls that give up, by a deadline or a context,
/// are judged as others: a deadlock that ends after a second is one. A try_lock() cannot wait, and
/// makes no order with what was taken before; what it took is held like the rest. A shared hold
/// counts as an exclusive one, since a writer that waits between two readers makes it one. Who
/// waits for a lock that he holds is reported, too; though another may unlock it, that is seldom
/// meant.
///
/// A report says for each order of the cycle who made it, and where he took the one lock and wanted
/// the other. Stacks are walked by frame pointers (-fno-omit-frame-pointer).
///
/// Not seen are: locks that were taken while it was off; what is simulated, where deadlocks are
/// found by themselves; more than 32 locks that one caller holds; more than 65,536 orders.
///
/// Returns: what it was.
/// Threads: any.
/// Cost:    off: none. Else some 100 ns for each lock and unlock, without memory or words that are
///          shared by fibers that hold no other lock; for an order that is known a look at a table,
///          for a new one microseconds and some 700 bytes until one of the two locks is destroyed.
EXEUNT_API lock_order set_lock_order(lock_order mode) noexcept;

/// A lock's place in an order that is a rule: `mutex m{lock_rank{20}};`. While a lock with a rank
/// is held, only those with a higher one may be waited for; locks without a rank are not concerned.
/// Of two with the same rank neither may be waited for under the other. It is checked when the
/// detector looks.
class lock_rank {
 public:
  static constexpr unsigned max = 16'383;

  /// Asserts: `rank` is from 1 to max.
  explicit constexpr lock_rank(unsigned rank) noexcept : value_{static_cast<std::uint16_t>(rank)} {
    EXEUNT_ASSERT(rank >= 1 && rank <= max, "a lock_rank is from 1 to 16383");
  }
  [[nodiscard]] constexpr unsigned value() const noexcept { return value_; }
  friend constexpr bool operator==(lock_rank, lock_rank) noexcept = default;

 private:
  std::uint16_t value_;
};

namespace detail {

/// What a lock has of its own for the detector, which knows it by the address of this.
class order_mark {
 public:
  constexpr order_mark() noexcept = default;
  explicit constexpr order_mark(lock_rank rank) noexcept
      : word_{static_cast<std::uint16_t>(rank.value())} {}
  order_mark(const order_mark&) = delete;
  order_mark& operator=(const order_mark&) = delete;
  // A lock without marks costs a load; and it may still be used afterwards, as locks of static
  // objects are while the process ends.
  EXEUNT_NO_TSAN constexpr ~order_mark() {
#ifndef EXEUNT_CORE_MODEL
    if consteval {
    } else {
      // order: relaxed; who destroys a lock has been told that nobody uses it.
      if ((word_.load(memory_order_relaxed) & ~rank_bits) != 0) [[unlikely]]
        forget();
    }
#endif
  }

  // Set in the word beside the rank.
  static constexpr std::uint16_t held = 0x4000;   ///< it may be in the list of a holder
  static constexpr std::uint16_t known = 0x8000;  ///< it is in the table of orders

  /// 0: none.
  [[nodiscard]] std::uint16_t rank() const noexcept {
    return word_.load(memory_order_relaxed) & rank_bits;  // order: it never changes.
  }
  // order: relaxed, all; a bit is looked at by who holds the lock or wants it, and says nothing of
  // other memory.
  [[nodiscard]] bool has(std::uint16_t bit) const noexcept {
    return (word_.load(memory_order_relaxed) & bit) != 0;
  }
  void set(std::uint16_t bit) noexcept {
    if (!has(bit)) word_.fetch_or(bit, memory_order_relaxed);
  }
  void clear(std::uint16_t bit) noexcept {
    word_.fetch_and(static_cast<std::uint16_t>(~bit), memory_order_relaxed);
  }

 private:
  static constexpr unsigned rank_bits = lock_rank::max;
  static_assert((rank_bits & (held | known)) == 0);

  EXEUNT_API void forget() noexcept;

  atomic<std::uint16_t> word_{0};
};

/// Which form of a lock it is, for reports.
enum class lock_form : std::uint8_t { mutex, barging, handoff, spinning, shared, read_mostly };

/// Whether anybody wants to know of what is done with a lock; see watchers. For inline paths, which
/// then go by the call's long form.
EXEUNT_NO_TSAN inline bool is_watched() noexcept {
#ifdef EXEUNT_CORE_MODEL
  return false;  // As step() has it.
#else
  // order: relaxed; a lock that is taken while this changes may go unseen.
  return watchers.load(memory_order_relaxed) != 0;
#endif
}

/// What comes before an unlock that is watched: a step(), and `mark` is not held any more.
EXEUNT_API void watch_unlock(const char* call, const void* lock, order_mark& mark,
                             bool shared = false) noexcept;

}  // namespace detail
}  // namespace exeunt
