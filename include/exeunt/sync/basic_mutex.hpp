// SPDX-License-Identifier: Apache-2.0
// Three pure forms of a lock, for study and for those who need one of them. Else: mutex.
//
// What becomes of a lock that is let go while others wait? Whoever is quickest takes it (barging),
// the one who has waited longest has it (handoff), or those who wait find out by looking
// (spinning). mutex joins the first two. docs/guide/locks.md shows what each costs.

#pragma once

#include <concepts>
#include <cstdint>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sync/lock_order.hpp>
#include <exeunt/sync/wait_queue.hpp>

namespace exeunt {

class context;

/// unlock() frees the lock and wakes the longest waiter, who then competes for it with whoever
/// comes by, and waits again in the first place if he loses. The most sections for the time; no
/// bound on how long somebody waits.
struct barging {};

/// unlock() gives the lock to the longest waiter; it is free only when nobody waits. Strictly in
/// order; each section of a lock in demand costs a change of fibers.
struct handoff {};

/// Whoever waits looks at the lock again and again: with pauses at first, then with a yield()
/// between looks. Never parks, so a holder that waits long costs a worker's whole time meanwhile,
/// and nobody is in any order. For sections much shorter than a change of fibers, on locks that are
/// seldom held.
///
/// In a simulation, whose time stands still while somebody looks, waiters are woken by each
/// unlock() instead, all of them, and compete.
struct spinning {};

template <typename T>
concept lock_policy =
    std::same_as<T, barging> || std::same_as<T, handoff> || std::same_as<T, spinning>;

namespace detail {
struct lock_state {
  constexpr lock_state() noexcept = default;
  explicit constexpr lock_state(lock_rank rank) noexcept : order{rank} {}

  // The bits are explained in basic_mutex.cpp; 0 is free, with nobody waiting.
  atomic<std::uint32_t> word{0};
  spin_lock queue_lock;
  order_mark order;
  wait_queue queue;
};
}  // namespace detail

/// A lock that follows one policy.
///
/// The members are those of mutex and mean the same: std::lock_guard, std::unique_lock and
/// std::scoped_lock work, it may be held across anything that parks, and it belongs to nobody. Not
/// recursive.
///
/// Threads:  all members may be called concurrently, from fibers and plain threads.
/// Ordering: an unlock() happens before the next lock.
/// Cost:     16 bytes; a call and one locked instruction each for lock() and unlock() without
///           contention.
template <lock_policy Policy>
class EXEUNT_API basic_mutex {
 public:
  constexpr basic_mutex() noexcept = default;
  /// With a place in an order; see lock_rank.
  explicit constexpr basic_mutex(lock_rank rank) noexcept : state_{rank} {}
  basic_mutex(const basic_mutex&) = delete;
  basic_mutex& operator=(const basic_mutex&) = delete;

  /// Blocks: until the lock is the caller's.
  void lock() noexcept;

  /// As lock(), giving up when `ctx` ends.
  ///
  /// Returns: success with the lock held; else the context's error, also if the lock was free but
  ///          the context had ended before.
  [[nodiscard]] result<> lock(const context& ctx) noexcept;

  /// Never waits, nor gives way.
  ///
  /// Returns: false if the lock is held.
  [[nodiscard]] bool try_lock() noexcept;
  /// As lock(), for at most `d`.
  [[nodiscard]] bool try_lock_for(clock::duration d) noexcept;
  /// As lock(), until `deadline`.
  [[nodiscard]] bool try_lock_until(clock::time_point deadline) noexcept;

  /// Never waits, nor gives way to another fiber.
  ///
  /// Wakes:   barging: one waiter, unless one is awake already. handoff: the longest waiter, who
  ///          holds the lock then.
  /// Asserts: the mutex is locked; unlock of an unlocked mutex ends the process.
  void unlock() noexcept;

 private:
  detail::lock_state state_;
};

extern template class EXEUNT_API basic_mutex<barging>;
extern template class EXEUNT_API basic_mutex<handoff>;
extern template class EXEUNT_API basic_mutex<spinning>;

}  // namespace exeunt
