// SPDX-License-Identifier: Apache-2.0
// What the workers of one runtime share: fibers, queues, timers, the poller, and who sleeps.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/clock.hpp>
#include <exeunt/base/intrusive_list.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/runtime.hpp>

#include "arch/stack.hpp"
#include "poll/poller.hpp"
#include "sched/blocking_pool.hpp"
#include "sched/fence.hpp"
#include "sched/fiber.hpp"
#include "sched/inject_queue.hpp"
#include "sched/io_slot.hpp"
#include "sched/monitor.hpp"
#include "sched/seam.hpp"
#include "sched/thread_mask.hpp"
#include "sched/timers.hpp"
#include "sched/worker.hpp"
#include "sched/worker_list.hpp"

namespace exeunt::sched {

/// Keeps a runtime from being destroyed. Made under the lock of the slot or timer queue by which
/// the runtime was found, while that still names it: the runtime first takes its name out of these,
/// and then waits for those that found it before. Cost: nothing for its own workers, which it waits
/// for anyway.
class runtime_hold {
 public:
  runtime_hold() noexcept = default;
  /// Of null: of nobody.
  explicit runtime_hold(runtime_core* found) noexcept;
  runtime_hold(runtime_hold&& other) noexcept : held_{std::exchange(other.held_, nullptr)} {}
  runtime_hold& operator=(runtime_hold&& other) noexcept {
    std::swap(held_, other.held_);
    return *this;
  }
  ~runtime_hold();

 private:
  runtime_core* held_ = nullptr;
};

/// How many workers the affinity mask and the cgroup's CPU limit allow. Throws: std::bad_alloc.
[[nodiscard]] unsigned procs_allowed();
struct procs_choice {
  unsigned count = 1;
  bool follows = false;  // What is allowed, also when that changes.
};
/// What `asked` means: 0 is what EXEUNT_PROCS says, else as many as are allowed.
[[nodiscard]] procs_choice procs_wanted(unsigned asked);

class runtime_core {
 public:
  explicit runtime_core(runtime_options&& options);
  ~runtime_core();
  runtime_core(const runtime_core&) = delete;
  runtime_core& operator=(const runtime_core&) = delete;

  /// The calling fiber's runtime, else the default one, started if need be.
  static runtime_core& current();
  /// The same for callers that cannot fail: if the default one cannot be started, the process ends
  /// with a report of what was refused.
  static runtime_core& current_or_fatal() noexcept;

  void start(const fiber_options& options, unique_function<void()> body);
  /// Makes a parked or new fiber ready. Any thread.
  void make_ready(fiber& ready) noexcept;
  /// The same for one that was taken out of a queue unready, such as after a yield.
  void make_ready_last(fiber& ready) noexcept;

  struct stop_result {
    std::vector<fiber_info> left;
    bool all_workers_ended = true;
  };
  /// Ends the workers; see runtime::stop(). With `bounded`, all is over within 100 ms: workers
  /// whose fibers reach no scheduling point are given up, and this object must then be leaked. It
  /// may then be called by one of its own fibers, which goes on, as a plain thread, and is not
  /// among those left.
  stop_result stop(bool bounded) noexcept;

  /// After a stop() that ended all workers: destroys what never ran, and gives back what nobody can
  /// use any more.
  /// Returns: whether this object may be destroyed. If not, fibers were abandoned, and what they
  ///          wait for still refers to their stacks and to their home.
  [[nodiscard]] bool retire() noexcept;

  [[nodiscard]] std::vector<fiber_info> fibers() const;
  [[nodiscard]] runtime_stats stats() const noexcept;
  /// How many fibers have been started and have not ended; a count of the past when it returns.
  [[nodiscard]] std::uint64_t alive() const noexcept;
  [[nodiscard]] std::uint64_t started() const noexcept;
  void report_panic(const error& what) noexcept;

  // The parts.
  detail::timer_queue& timers() noexcept { return timers_.queue; }
  /// Cancelled when stop() is through: what has not ended by then never will. Never freed.
  detail::cancel_node& end() noexcept { return timers_.queue.end(); }
  fiber_slabs& slabs() noexcept { return slabs_; }
  inject_queue& injected() noexcept { return injected_; }
  /// Of a worker's loop: `fresh` has no stack, and cannot have one before another fiber gives its
  /// own back, or the system has memory again.
  void wait_for_stack(fiber& fresh) noexcept;
  /// Has the one that waits longest try again.
  void stack_came_back() noexcept {
    if (!stackless_.empty()) [[unlikely]]
      retry_stackless();
  }
  void retry_stackless() noexcept;
  bool has_stackless() const noexcept { return !stackless_.empty(); }
  poll::poller& poller() noexcept { return *poller_; }
  blocking_pool& blocking() noexcept { return blocking_; }
  io_registry& io() noexcept { return io_; }
  const runtime_options& options() const noexcept { return options_; }
  const detail::seam& seam() const noexcept { return seam_; }
  arch::stack_pool& stacks() noexcept { return stacks_; }
  /// What take_mask() gives this runtime's threads.
  const sigset_t& mask() const noexcept { return mask_; }
  clock::time_point now() const noexcept;

  // Sleeping and waking; idle.cpp has the protocol.
  bool may_search() noexcept;
  void stop_searching(worker& w, bool found) noexcept;
  void wake_one() noexcept;
  /// The same where nobody idle is the rule.
  void wake_if_idle() noexcept {
    light_fence();
    if (idle_count_.load(detail::memory_order_relaxed) != 0) [[unlikely]]
      wake_one();
  }
  void sleep(worker& w) noexcept;
  void timer_moved_forward(clock::time_point when) noexcept;
  bool stopping() const noexcept {
    return stopping_.load(detail::memory_order_acquire);  // order: pairs with stop().
  }
  /// Whether stop() has ended it: nobody would run a fiber that is started now.
  bool over() const noexcept {
    return over_.load(detail::memory_order_acquire);  // order: pairs with stop().
  }

  // Who takes what from whom; theft.cpp.
  fiber* steal(worker& thief, std::uint32_t least) noexcept;
  /// A worker that is busy, after the one with that index in a circle, but not `w`; null if there
  /// is none.
  worker* next_busy(const worker& w, unsigned index) noexcept;
  /// Returns: false, and nothing is done, if nobody would remain. Else takes_back() has to follow.
  bool lets_go(worker& w) noexcept;
  void takes_back(worker& w) noexcept;
  detail::atomic<clock::rep> stay_away_for{0};  ///< the last to have done so, in ns

  worker_list& workers() noexcept { return workers_; }
  /// Any thread: whether some worker sleeps for lack of work.
  bool somebody_idle() const noexcept {
    return idle_count_.load(detail::memory_order_relaxed) != 0;  // order: a hint.
  }
  /// Any thread: whether somebody sleeps in the poller, or is about to leave it.
  bool poller_is_taken() noexcept;
  /// A worker that is awake: whether all others sleep.
  bool others_sleep() const noexcept {
    // order: relaxed, both; a hint.
    return idle_count_.load(detail::memory_order_relaxed) + 1 >=
           in_service_.load(detail::memory_order_relaxed);
  }
  /// Any thread: whether all that could run fibers sleep, and one at least would wake for more.
  bool is_idle() const noexcept {
    // order: seq_cst, both; the monitor's half of the handshake in monitor.cpp.
    const std::uint32_t idle = idle_count_.load(detail::memory_order_seq_cst);
    return idle > 0 && idle >= in_service_.load(detail::memory_order_seq_cst);
  }

  // Who runs fibers; staffing.cpp.
  /// How many workers run fibers at a time.
  unsigned procs() const noexcept {
    return procs_.load(detail::memory_order_relaxed);  // order: acted on under idle_lock_.
  }
  void set_procs(unsigned count) noexcept;
  /// The monitor's, now and then: takes up a change of what is allowed, if nobody has said how many
  /// workers there are to be.
  void follow_procs_allowed() noexcept;
  /// The monitor's: `w` stays with its fiber, if it still does.
  void give_up_on(worker& w, std::uint32_t turns) noexcept;
  /// Any thread but the worker's: puts into the shared queue what waits behind `w`.
  void share_queue_of(worker& w) noexcept;
  /// The monitor's: has other threads do the work of those that stay.
  void fill_places() noexcept;
  /// A worker's own, in its loop.
  /// Returns: whether it may go on; if not, its thread is to end.
  bool report_back(worker& w) noexcept;
  /// The running fiber's: its worker is its own until as many unbind() have come.
  void bind(fiber& running) noexcept;
  void unbind(fiber& running) noexcept;
  /// Any thread: gives to others what was mailed to `w` and is not for its own fiber.
  void return_stray_mail(worker& w) noexcept;
  /// A bound worker's: it waits for its fiber to be woken.
  void out_of_service() noexcept;
  void back_in_service() noexcept;

  /// Turns ready descriptors into ready fibers, on a worker; `asleep`, if given, is one that has
  /// registered as idle, and is not any more when the first of them becomes ready.
  /// Returns: whether there were any.
  bool poll_io(clock::time_point until, worker* asleep = nullptr) noexcept;
  /// Of whoever has learnt that a registered descriptor is ready.
  void deliver_event(const poll::event& event) noexcept;
  /// The first of `count` numbers that no fiber of the process has as its id.
  static std::uint64_t take_ids(std::uint64_t count) noexcept;

  runtime* face = nullptr;            ///< the public object of this core
  runtime_core* next_kept = nullptr;  ///< of those that retire() does not let go

 private:
  friend class runtime_hold;
  // Destroyed with the rest when the constructor fails, too.
  struct closes_timers {
    detail::timer_queue& queue;
    ~closes_timers() { queue.close(); }
  };

  bool work_in_sight(worker& w) noexcept;
  void wake_idle(worker& w) noexcept;
  void wake_worker(worker& w) noexcept;
  void wake_up(worker& w, bool polled, bool found) noexcept;
  void wait_for_outsiders() noexcept;
  void wait_until_quiet(bool inside, clock::time_point limit) noexcept;
  void tell_quiet() noexcept;
  void call_all_in() noexcept;
  std::string stack_of_running(std::uint64_t id);
  void start_thread(worker& w);
  void put_in_place(worker& w) noexcept;
  void change_procs(unsigned count) noexcept;
  std::uint64_t seed_of(unsigned index) const noexcept;

  runtime_options options_;
  detail::seam seam_;
  std::unique_ptr<poll::poller> own_poller_;
  poll::poller* poller_;
  arch::stack_pool stacks_;
  fiber_slabs slabs_;
  inject_queue injected_;
  inject_queue stackless_;
  detail::atomic<bool> told_of_stackless_{false};
  closes_timers timers_{detail::timer_queue::open(*this)};
  io_registry io_;
  const sigset_t mask_ = mask_of_users();
  blocking_pool blocking_{
      mask_,
      {.threads_max = options_.blocking_threads_max,
       .keep_alive = options_.blocking_keep_alive,
       .refuse_thread = options_.seam == nullptr ? nullptr : options_.seam->refuse_thread}};
  worker_list workers_;
  monitor monitor_{*this};

  detail::spin_lock idle_lock_;
  detail::intrusive_list<worker, idle_tag> idle_;  // Sleeping on their own futex.
  worker* in_poller_ = nullptr;                    // Sleeping in the poller.
  bool poller_taken_ = false;                      // Somebody is in the poller, or leaving it.
  detail::atomic<std::uint32_t> idle_count_{0};    // Of both kinds.
  detail::atomic<std::uint32_t> in_service_{0};    // Workers that may run a fiber; staffing.cpp.
  unsigned active_ = 0;                            // Those that count for procs_.
  detail::atomic<unsigned> procs_{0};
  detail::atomic<bool> procs_follow_{false};   // What is allowed. Written under idle_lock_.
  bool short_of_threads_ = false;              // The monitor's.
  detail::atomic<bool> quiet_awaited_{false};  // stop() sleeps on what follows.
  detail::atomic<std::uint32_t> quiet_{0};     // A futex: what counts for quiet has changed.
  detail::atomic<std::int32_t> searching_{0};
  detail::atomic<clock::rep> polling_until_{0};  // Meaningful while in_poller_ is set.
  detail::atomic<bool> stopping_{false};
  detail::atomic<bool> over_{false};
  detail::atomic<std::uint32_t> threads_{0};  // Of workers; a futex for stop().
  bool stopped_ = false;
  bool retired_ = false;
  detail::atomic<std::uint32_t> outsiders_{
      0};  // Threads, not workers of ours, that are about to touch this.

  detail::atomic<std::uint64_t> started_outside_{0};  // By no worker of ours; see worker::started.
  detail::atomic<std::uint64_t> panics_{0};
};

}  // namespace exeunt::sched
