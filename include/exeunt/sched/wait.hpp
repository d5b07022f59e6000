// SPDX-License-Identifier: Apache-2.0
// detail: the one waiting mechanism, for fibers and plain threads alike.
//
// A *source* is what one waits for: a channel's end, a mutex, a timer, a context. It has a spin
// lock and a list of waiters. A *waiter* is one caller's interest in one source and lives on the
// caller's stack. There are two ways to wait:
//
//   One source.   Link a waiter under the source's lock and call park(lock, …): the lock is
//                 released only when the caller is off its stack (a thread: before it sleeps), so
//                 that whoever then takes the lock may unlink the waiter, write what the caller
//                 is to find in it, unlock, and wake it. No further synchronisation is needed.
//   Several.      All waiters share a *ticket*, which exactly one waker can claim. Register with
//                 each source in turn, park(ticket, …), and afterwards take each source's lock
//                 once more to unlink from it, *also from the winner's*: that is what makes sure
//                 that the winner's waker has let go of the waiter.
//
// Rules for wakers: under the source's lock unlink the waiter, claim() it, deliver; after
// unlocking, fire() the wake-up. After that nothing of the waiter may be touched.
//
// Each park() is ended by exactly one fired wake-up. src/sched/park.cpp has the proof.

#pragma once

#include <cstdint>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/atomic.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/intrusive_list.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/base/thread_word.hpp>

namespace exeunt::detail {

/// What a parked caller waits for, as dumps print it.
enum class wait_reason : std::uint8_t {
  none,
  chan_send,
  chan_recv,
  chan_nil,
  select,
  select_none,
  mutex,
  shared_mutex,
  wait_group,
  once,
  condition,
  semaphore,
  singleflight,
  queue,
  rate,
  sleep,
  context,
  join,
  errgroup,
  io_read,
  io_write,
  io_accept,
  io_connect,
  blocking,
  drain,
  simulation,
};

/// The words for it: "channel send", "network read".
EXEUNT_API const char* to_string(wait_reason reason) noexcept;

/// Whoever waits: a fiber, or a thread that is none. One word; copies name the same caller.
class caller {
 public:
  constexpr caller() noexcept = default;

  /// The running fiber, or the calling thread. Starts nothing.
  EXEUNT_API static caller current() noexcept;

  /// Ends the caller's current park. Exactly once for each park, and only when the caller is
  /// known to have parked (see the file comment).
  ///
  /// Threads: any, also from timer call-backs. Never parks, never allocates.
  EXEUNT_API void wake() const noexcept;

  explicit operator bool() const noexcept { return word_ != 0; }
  friend bool operator==(caller, caller) noexcept = default;

 private:
  friend struct caller_access;
  explicit constexpr caller(std::uintptr_t word) noexcept : word_{word} {}
  std::uintptr_t word_ = 0;  // Bit 0 set: a thread's block. Else a fiber's.
};

/// A wake-up that is due: fire() it after unlocking.
class [[nodiscard]] wakeup {
 public:
  constexpr wakeup() noexcept = default;
  explicit constexpr wakeup(caller whom) noexcept : whom_{whom} {}
  EXEUNT_NO_TSAN void fire() const noexcept {
    if (whom_) whom_.wake();
  }
  /// Whether there is a parked caller to wake; if not, it may leave its wait at any time.
  EXEUNT_NO_TSAN explicit operator bool() const noexcept { return static_cast<bool>(whom_); }

 private:
  caller whom_;  // None: the caller had not parked yet and will see the claim by itself.
};

/// Of a waiter or a ticket: park() writes down who waits, before it unlocks.
struct named_by_park {};

/// Decides which of several wakers wins one wait. Lives on the caller's stack.
class ticket {
 public:
  ticket() noexcept : whom_{caller::current()} {}
  /// For the park() of a caller that holds the locks of all its sources.
  explicit ticket(named_by_park) noexcept {}
  ticket(const ticket&) = delete;
  ticket& operator=(const ticket&) = delete;

  /// Makes `winner` (any address above 1) the one that ended this wait.
  ///
  /// Returns: false if somebody else did; then touch nothing. On true, `due` is to be fired.
  EXEUNT_NO_TSAN [[nodiscard]] bool claim(const void* winner, wakeup& due) noexcept {
    const auto won = reinterpret_cast<std::uintptr_t>(winner);
    std::uintptr_t seen = state_.load(memory_order_relaxed);  // order: the exchange below decides.
    while (seen <= parked) {
      // order: acq_rel; release hands what the waker delivered to the caller, which acquires in
      // winner(); acquire sees the caller's registration.
      if (state_.compare_exchange_weak(seen, won, memory_order_acq_rel, memory_order_relaxed)) {
        due = seen == parked ? wakeup{whom_} : wakeup{};
        return true;
      }
    }
    return false;
  }

  /// Who won, or null while nobody has.
  EXEUNT_NO_TSAN [[nodiscard]] const void* winner() const noexcept {
    const std::uintptr_t seen = state_.load(memory_order_acquire);  // order: see claim().
    return seen <= parked ? nullptr : reinterpret_cast<const void*>(seen);
  }

  /// For park() only: from now on a claim must wake. False: already claimed.
  EXEUNT_NO_TSAN [[nodiscard]] bool commit_park() noexcept {
    std::uintptr_t expected = open;
    // order: acq_rel; release publishes the saved stack to the waker that finds `parked`.
    return state_.compare_exchange_strong(expected, parked, memory_order_acq_rel,
                                          memory_order_acquire);
  }
  /// As commit_park(), for a caller that holds the locks of all its sources.
  EXEUNT_NO_TSAN void commit_unseen(caller whom) noexcept {
    whom_ = whom;
    state_.store(parked, memory_order_relaxed);  // order: relaxed; published by the unlocks.
  }

 private:
  static constexpr std::uintptr_t open = 0;
  static constexpr std::uintptr_t parked = 1;

  atomic<std::uintptr_t> state_{open};
  caller whom_;
};

/// One caller's interest in one source. Derive to add what the source delivers into.
struct waiter : list_hook<> {
  /// Waits on one source only.
  waiter() noexcept : whom{caller::current()} {}
  /// The same, for park(held, self, …).
  explicit waiter(named_by_park) noexcept {}
  /// Waits on several, of which one wins.
  explicit waiter(ticket& several) noexcept : shared{&several} {}
  waiter(const waiter&) = delete;
  waiter& operator=(const waiter&) = delete;

  /// For wakers, under the source's lock: true if this waiter is the waker's to end.
  EXEUNT_NO_TSAN [[nodiscard]] bool claim(wakeup& due) noexcept {
    if (shared != nullptr) return shared->claim(this, due);
    due = wakeup{whom};
    return true;
  }
  /// For the caller of a shared wait, afterwards: did this one win?
  EXEUNT_NO_TSAN [[nodiscard]] bool won() const noexcept {
    return shared != nullptr && shared->winner() == this;
  }

  caller whom;
  ticket* shared = nullptr;
};

/// Unlinks and claims the first waiter that nobody else has ended, under the source's lock.
/// Returns: null if there is none. Waiters that lost are unlinked, too.
template <typename Waiter>
EXEUNT_NO_TSAN Waiter* claim_first(intrusive_list<Waiter>& waiters, wakeup& due) noexcept;

/// Suspends the caller, releasing `held` when it can be woken. `on` is shown in dumps.
///
/// Blocks: until the waiter that was linked under `held` is claimed and its wake-up fired.
EXEUNT_API void park(spin_lock& held, wait_reason why, const void* on) noexcept;

/// The same, of a `self` that is named_by_park.
EXEUNT_API void park(spin_lock& held, waiter& self, wait_reason why, const void* on) noexcept;

/// Suspends the caller until `several` is claimed; returns at once if it has been.
EXEUNT_API void park(ticket& several, wait_reason why, const void* on) noexcept;

/// Suspends the caller, who holds the locks of all sources it has registered with; as park(lock) it
/// calls `unlock(argument)` when it can be woken. Nobody can have claimed `several` before.
EXEUNT_API void park(ticket& several, wait_reason why, const void* on,
                     void (*unlock)(void* argument) noexcept, void* argument) noexcept;

/// Suspends the caller for good. Nobody wakes it.
[[noreturn]] EXEUNT_API void park_forever(wait_reason why) noexcept;

/// What a thread has for the fiber that it runs. A worker's is never freed, only given to another
/// worker; its address names the thread.
struct turn {
  static constexpr std::uint32_t operations_max = 128;  ///< as tokio's budget
  static constexpr std::uint32_t holds_max = 4;

  /// That the thread is inside a lock of its own; see biased_lock.
  struct hold {
    atomic<const void*> what{nullptr};
    spin_lock inside;  ///< taken by the thread itself, looked at by others
  };

  std::uint32_t operations = 0;  ///< that succeeded without parking, since the last switch
  std::uint32_t number = 0;      ///< of a worker: the first is 0; small, as turns are used again
  bool is_lasting = false;       ///< a worker's
  bool unfenced = false;         ///< what it did in a lock may not be seen by others yet
  hold holds[holds_max];
  std::int64_t waited = 0;  ///< ns, for biased locks that others held; its owner counts anew
};

/// The calling thread's own. Ask again after whatever may park.
[[gnu::noinline]] EXEUNT_API turn& this_turn() noexcept;

extern "C" {
EXEUNT_API extern constinit thread_local turn* exeunt_this_turn;
}
/// The turn of the worker that runs here, or null. Ask again after whatever may park.
EXEUNT_NO_TSAN [[gnu::always_inline]] inline turn* workers_turn() noexcept {
  return EXEUNT_READ_THREAD_WORD(exeunt_this_turn);
}

/// For who looks without a lock and finds nothing: that what the thread has done under locks is to
/// be seen by others before it looks. Else two could each do something, look for what the other has
/// done, and both find nothing, which no order of the four explains.
/// Returns: false if it was so already, and the look was good.
EXEUNT_NO_TSAN inline bool show_all(turn& here) noexcept {
  if (!here.unfenced) return false;
  here.unfenced = false;
  atomic_fence();
  return true;
}

/// The rest of checkpoint(), for a caller that has had all its operations.
EXEUNT_API void end_turn(turn& here) noexcept;

/// Gives way to a fiber that is ready, if the caller has used up its turn. Every primitive that
/// succeeds without parking calls this, so that a busy pair cannot starve the others. `here` is the
/// calling thread's.
EXEUNT_NO_TSAN inline void checkpoint(turn& here) noexcept {
  if (++here.operations >= turn::operations_max) [[unlikely]]
    end_turn(here);
}
EXEUNT_NO_TSAN inline void checkpoint() noexcept { checkpoint(this_turn()); }

/// Who wants to know what is done with locks, channels and their like: the detector of lock orders
/// (bit watches_locks), and, in steps of one_simulation, as many simulated runtimes as there have
/// been in this process. In one word, so that a lock nobody watches costs one load.
EXEUNT_API extern atomic<unsigned> watchers;
inline constexpr unsigned watches_locks = 1;
inline constexpr unsigned one_simulation = 2;

/// Whether there has been a simulated runtime.
EXEUNT_NO_TSAN inline bool any_simulation() noexcept {
  // order: relaxed; a simulation begins by starting a fiber.
  return watchers.load(memory_order_relaxed) >= one_simulation;
}
EXEUNT_API void step_simulated(const char* call, const void* on) noexcept;
/// What is done with a channel, a lock, a group, a timer or a cancel begins with this: a simulation
/// may let another fiber run before it. In production it is a load and a branch. `call` names what
/// is about to be done, and `on` with what, as park() has it; both are for the simulation's report.
EXEUNT_NO_TSAN inline void step(const char* call, const void* on = nullptr) noexcept {
#ifdef EXEUNT_CORE_MODEL
  static_cast<void>(call), static_cast<void>(on);
  return;  // Each atomic operation is one.
#endif
  if (any_simulation()) [[unlikely]]
    step_simulated(call, on);
}

/// The number of the simulation that the caller is in; 0: none.
[[nodiscard]] EXEUNT_API std::uint32_t simulation_here() noexcept;
/// Of what has noted where it was made, by simulation_here(). To use inside what was made outside
/// fails the simulation; the reverse ends the process.
EXEUNT_API void check_made_here(const char* call, std::uint32_t made_in) noexcept;
/// step() and check_made_here() for the price of one.
EXEUNT_NO_TSAN inline void step(const char* call, const void* on, std::uint32_t made_in) noexcept {
  if (!any_simulation()) [[likely]]
    return;
  check_made_here(call, made_in);
  step(call, on);
}

/// Whether the caller is a fiber of a simulated runtime, which has one worker.
[[nodiscard]] EXEUNT_API bool is_simulated() noexcept;

/// A number for ordering locks: sources are locked in the order of their ids (never of addresses,
/// so that a simulated run repeats).
EXEUNT_API std::uint64_t next_source_id() noexcept;

/// The random choice of the runtime: uniform in [0, bound). Seeded under simulation.
EXEUNT_API std::uint32_t choose_below(std::uint32_t bound) noexcept;

template <typename Waiter>
Waiter* claim_first(intrusive_list<Waiter>& waiters, wakeup& due) noexcept {
  // A list of `waiter`s is kept as list_hook<>; Waiter derives from waiter.
  while (Waiter* const first = waiters.pop_front()) {
    if (first->claim(due)) return first;
  }
  return nullptr;
}

}  // namespace exeunt::detail
