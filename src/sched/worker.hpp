// SPDX-License-Identifier: Apache-2.0
// One thread's loop: run what is ready, steal, look at timers and descriptors, sleep.

#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <thread>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/clock.hpp>
#include <exeunt/base/intrusive_list.hpp>
#include <exeunt/base/random.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/wait.hpp>

#include "arch/eh_state.hpp"
#include "arch/sanitizer.hpp"
#include "arch/stack.hpp"
#include "arch/switch.hpp"
#include "sched/fiber.hpp"
#include "sched/held_locks.hpp"
#include "sched/run_queue.hpp"
#include "sched/turn_lease.hpp"

namespace exeunt::sched {

class runtime_core;
class worker;

struct idle_tag;

/// Why a worker must pass by its loop instead of switching from fiber to fiber.
namespace attention {
inline constexpr unsigned stop = 1;    ///< the runtime stops
inline constexpr unsigned report = 2;  ///< its standing may have changed; see staffing.cpp
inline constexpr unsigned bound = 4;   ///< it belongs to one fiber, by lock_os_thread
inline constexpr unsigned seam = 8;    ///< for good: a chooser is asked, or mail is looked for
}  // namespace attention

/// What the monitor saw of a worker.
struct worker_sight {
  std::uint32_t turns = 0;
  clock::time_point since{};   ///< when `turns` was seen first
  std::int64_t cpu_time = -1;  ///< of its thread by then, in ns; negative: not looked at
  bool slept = false;          ///< its thread, at the last look
  bool rested = false;         ///< it, at the last look; see rests()
};

/// Fibers that were taken from one worker by another; none if `count` is 0.
struct theft {
  std::uint32_t count = 0;
  std::uint32_t turn = 0;  ///< of whom it is told
  clock::time_point at{};
};

/// The last theft from a worker: told by the thief, looked at by the worker. Order: hints, all.
class shared_theft {
 public:
  void store(const theft& one) noexcept {
    turn_.store(one.turn, detail::memory_order_relaxed);
    at_.store(one.at, detail::memory_order_relaxed);
    count_.store(one.count, detail::memory_order_relaxed);
  }
  void clear() noexcept { count_.store(0, detail::memory_order_relaxed); }
  [[nodiscard]] theft load() const noexcept {
    return {.count = count_.load(detail::memory_order_relaxed),
            .turn = turn_.load(detail::memory_order_relaxed),
            .at = at_.load(detail::memory_order_relaxed)};
  }

 private:
  detail::atomic<std::uint32_t> count_{0};
  detail::atomic<std::uint32_t> turn_{0};
  detail::atomic<clock::time_point> at_{clock::time_point{}};
};

/// Of a worker in its runtime; staffing.cpp has the moves.
enum class standing : std::uint8_t {
  vacant,   ///< has no thread
  active,   ///< counts for procs
  stuck,    ///< did, until its fiber had not reached a scheduling point for too long
  bound,    ///< runs the fiber that it belongs to, and no other
  retired,  ///< a spare: its thread sleeps
  leaving,  ///< its thread ends, and has not let go of the worker yet
};

class worker : public detail::list_hook<idle_tag> {
 public:
  worker(runtime_core& home, unsigned index, std::uint64_t seed);
  ~worker() { drop_held(spare_held); }
  worker(const worker&) = delete;
  worker& operator=(const worker&) = delete;

  /// The thread's whole life.
  void loop() noexcept;

  /// Leaves the running fiber, which others may see as parked already, and goes on with the next
  /// ready one, or with the loop.
  /// Returns: when the fiber is run again, possibly by another worker.
  EXEUNT_NO_ASAN [[gnu::always_inline]] static inline void park(worker* here) noexcept;
  /// The same for a fiber that stays ready: it goes to the end of the queue. Returns at once if
  /// nobody else is ready.
  EXEUNT_NO_ASAN [[gnu::always_inline]] static inline void yield(worker* here) noexcept;

  /// Owner only: makes `ready` the next to run; what was next goes to the queue.
  void push_next(fiber& ready) noexcept;
  /// Owner only: to the end of the queue.
  void push_last(fiber& ready) noexcept;
  /// Any thread: a queue only this worker takes from, for forced migration and lock_os_thread.
  void push_mail(fiber& ready) noexcept;

  /// Of a simulated runtime: how many wait for this worker.
  std::size_t count_ready() const noexcept;
  /// For a fiber that has used up its operations: whether somebody else is ready, or may be.
  bool turn_is_over() noexcept;
  /// Any thread: whether others should take from this worker's queue: more than one fiber waits
  /// there, or one does and the worker stays with the one it runs.
  bool has_spare_work() const noexcept;
  /// Any thread: makes the worker pass by its loop at its next scheduling point, see attention.
  void call_for(unsigned why) noexcept {
    // order: seq_cst, before the limit is taken back; renew_limit() does the reverse.
    attention_.fetch_or(why, detail::memory_order_seq_cst);
    turn_limit_.store(turns(), detail::memory_order_relaxed);
  }

  /// Owner only: whether a fiber that it wakes is to be the next one it runs.
  bool takes_what_it_wakes() const noexcept {
    constexpr unsigned other_rules = attention::bound | attention::seam;
    return (attention_.load(detail::memory_order_relaxed) & other_rules) == 0;
  }
  /// Any thread: scheduling points so far, modulo 2^32.
  std::uint32_t turns() const noexcept { return turns_.load(detail::memory_order_relaxed); }
  /// Any thread: how many fibers wait here.
  std::uint32_t queued() const noexcept { return queue_.count(); }
  /// Any thread: whether there is mail; a hint.
  bool has_mail() const noexcept { return has_mail_.load(detail::memory_order_relaxed); }
  /// Any thread: active, and neither asleep nor away; final under the runtime's idle lock.
  bool is_busy() const noexcept {
    return standing_.load(detail::memory_order_relaxed) == standing::active &&
           !idle_.load(detail::memory_order_relaxed) && !away_.load(detail::memory_order_relaxed);
  }
  /// Any thread: runs no fiber that others could wait behind.
  bool rests() const noexcept {
    const standing now = standing_.load(detail::memory_order_relaxed);
    return idle_.load(detail::memory_order_relaxed) || away_.load(detail::memory_order_relaxed) ||
           (now != standing::active && now != standing::stuck);
  }
  /// Any thread: the clock of the thread's processor time; 0 if it has none.
  clockid_t cpu_clock() const noexcept { return cpu_clock_.load(detail::memory_order_relaxed); }
  /// Any thread: the kernel's number of the thread.
  int thread_id() const noexcept { return thread_id_.load(detail::memory_order_relaxed); }
  /// Whether it belongs to one fiber. Of others than the owner's: true may be old.
  bool is_bound() const noexcept {
    return (attention_.load(detail::memory_order_relaxed) & attention::bound) != 0;
  }

  fiber* running() const noexcept { return running_; }
  runtime_core& home() const noexcept { return home_; }
  unsigned index() const noexcept { return index_; }
  detail::random_source& random() noexcept { return random_; }
  clock::time_point last_look() const noexcept { return last_look_; }

  /// Owner only: a control block from the worker's cache.
  fiber* get_block();
  void put_block(fiber& block) noexcept;

  arch::stack_cache& stacks() noexcept { return stacks_; }

  /// Owner only: an id that no other fiber of the process has had.
  std::uint64_t take_id() noexcept;

 private:
  friend class runtime_core;
  friend class monitor;

  bool takes_turn() noexcept;
  void renew_limit() noexcept;
  fiber* pick() noexcept;
  fiber* pick_slowly() noexcept;
  fiber* take_queued() noexcept;
  fiber* give_way(fiber& next) noexcept;
  fiber* pick_before(fiber& self) noexcept;
  void share_if_idle() noexcept;
  fiber* take_local() noexcept;
  fiber* take_chosen() noexcept;
  fiber* find_ready() noexcept;
  fiber* search() noexcept;
  bool is_reluctant() noexcept;
  bool is_entangled() noexcept;
  bool leaves_entangled() noexcept;
  bool leaves_reluctant() noexcept;
  bool stay_away(clock::duration how_long, clock::duration keeps_worker) noexcept;
  void queue_rest(fiber* rest) noexcept;
  fiber* take_in_turn() noexcept;
  fiber* take_shared(std::size_t most) noexcept;
  bool has_backlog() noexcept;
  bool look_around(bool in_passing) noexcept;
  enum class mail_for : std::uint8_t { anybody, bound, strays };
  fiber* take_mail(mail_for whom) noexcept;
  fiber* wait_for_mail() noexcept;
  fiber* steal_from(worker& victim, std::uint32_t least) noexcept;
  bool stays() const noexcept;
  void hand_over_queue() noexcept;
  bool bind_stack(fiber& fresh) noexcept;
  bool lend_stack(fiber& ended, fiber* next) noexcept;
  void run(fiber& next) noexcept;
  fiber* prepare(fiber& next) noexcept;
  void mark_running(fiber& next) noexcept;
  void finish_switch() noexcept;
  void bury() noexcept;
  void retire_block(fiber& ended) noexcept;
  EXEUNT_NO_ASAN [[gnu::always_inline]] static inline void leave(worker* here, fiber& self,
                                                                 fiber* next, bool dies) noexcept;
  [[gnu::cold]] static void check_unguarded(const fiber& self) noexcept;
  static void fiber_entry(void* block, void* message);

  runtime_core& home_;
  const unsigned index_;
  const bool has_hooks_;
  detail::random_source random_;

  // The switch.
  fiber* running_ = nullptr;
  arch::switch_context loop_;
  detail::atomic<fiber_seat>* left_ = nullptr;  // on_stack of whom the last switch left,
  fiber* ended_ = nullptr;                      // unless it was this one, for good.
  void* eh_globals_ = nullptr;
  arch::eh_state loop_eh_;
  arch::san_context loop_san_;
  detail::atomic<fiber_seat> loop_seat_{fiber_seat::free};  // Nobody asks.

  // What is ready.
  detail::atomic<unsigned> attention_;  // Bits of `attention`: why not to switch at once.
  // Scheduling points so far, which tells others who is stuck; and up to which one the worker may
  // go straight from fiber to fiber: at most to where it is to look around.
  detail::atomic<std::uint32_t> turns_{0};
  detail::atomic<std::uint32_t> turn_limit_{0};
  std::uint32_t look_at_ = 0;
  std::uint32_t next_turns_ = 0;  // Runs from the next slot in a row.
  const turn_lease turn_;
  std::uint32_t lends_ = 0;     // Of a stack, from a fiber that ended to a new one.
  fiber* candidate_ = nullptr;  // Taken, but not off its stack when it was.
  run_queue queue_;
  std::uint32_t looks_without_poll_ = 0;
  clock::time_point last_look_{};
  clock::time_point last_poll_{};
  mutable detail::spin_lock mail_lock_;
  fiber* mail_first_ = nullptr;
  fiber* mail_last_ = nullptr;
  detail::atomic<bool> has_mail_{false};

  // Caches.
  arch::stack_cache stacks_;
  std::uint64_t next_id_ = 0;  // Fibers' ids are taken in blocks.
  std::uint64_t ids_end_ = 0;
  fiber* free_blocks_ = nullptr;
  std::uint32_t free_count_ = 0;

  // Sleep and staffing. idle_, away_ and standing_ change under the runtime's idle lock.
  bool searching_ = false;
  detail::atomic<bool> idle_{false};
  detail::atomic<bool> away_{false};
  detail::atomic<standing> standing_{standing::vacant};
  detail::atomic<std::uint32_t> woken_{0};
  detail::atomic<std::uint32_t> mailed_{0};  // A futex for a bound worker.
  detail::atomic<clockid_t> cpu_clock_{0};   // Of the thread; 0: none yet.
  detail::atomic<int> thread_id_{0};         // The same thread's.

  // What thefts were worth; theft.cpp.
  theft stole_;                        // The last one, as long as nobody knows.
  shared_theft robbed_;                // The last one from here.
  clock::time_point tried_at_{};       // Since when nothing is known of thefts.
  clock::duration reluctance_{};       // To steal.
  clock::time_point watched_since_{};  // For entanglement.
  bool came_back_ = false;             // And has not been watched since.

  std::thread thread_;

 public:
  // Counters, written by the owner alone.
  detail::atomic<std::uint64_t> started{0};  ///< fibers
  detail::atomic<std::uint64_t> ended{0};
  detail::atomic<std::uint64_t> steals{0};
  detail::atomic<std::uint64_t> sleeps{0};
  detail::atomic<std::uint64_t> withdrawals{0};

  worker_sight seen;  ///< the monitor's

  held_locks* spare_held = nullptr;  ///< owner only: an empty list for the next one that locks
};

}  // namespace exeunt::sched
