// SPDX-License-Identifier: Apache-2.0
// Which workers sleep, which look for work, and whom to wake.
//
// A *searching* worker has nothing of its own and looks at the others' queues. At most half of the
// busy ones search at a time. An *idle* one sleeps: one in the poller (so that descriptors and
// timers are watched), the others each on a futex.
//
// No lost wake-up. A producer publishes work (a queue, a mailbox, a timer), then fences, then
// looks for an idle worker. A worker going to sleep registers as idle, then fences, then looks at
// all work once more. Of two such sequences at least one sees the other's first step. The fences
// are the two of fence.hpp: the producer's costs nothing, the sleeper's a system call.
//
// One fiber that waits behind another is no work for others: to run it where its data are takes
// less time than to wake a thread. Nobody is woken for it, and the last look does not count it,
// unless its worker stays with the fiber it runs; if it does so later the monitor tells.
//
// The poller is watched by the first that goes to sleep. Who leaves it with one fiber to run wakes
// nobody to take its place there: most fibers wait again before another thread were awake, and a
// server with one busy connection needs one worker. With several, their pushes wake somebody. Until
// somebody sleeps there again those that are awake look at descriptors and timers in passing; and
// if one of them stays with a fiber while others sleep, the monitor sees to it that the poller is
// watched.
//
// No needless wake-up. A producer wakes nobody while somebody searches: the searcher either finds
// the work or, having given up searching, looks at everything again after its fence. The last
// searcher that finds work wakes the next one, so that a burst of work wakes workers one by one
// instead of all at once.
//
// A count without a searcher. A producer counts itself as searching until it knows whom to wake.
// Meanwhile others rely on a search that may not come: so it takes the lock, and if nobody is idle
// the count goes back under it. A worker that registers later does so after the count is gone, and
// whoever relied on it had published, and fenced, before: by the lock that fence comes before the
// worker's, whose last look therefore finds the work. Given back after the lock, the count would
// outlive the look of a worker that fell asleep in between, and work would be left to nobody.
//
// Invariants, whenever idle_lock_ is free:
//   I1  A worker is in idle_, or is in_poller_, or neither; never both.
//   I2  idle_count_ is the number of workers in either place.
//   I3  poller_taken_ is set from the moment a worker becomes in_poller_ until it has left the
//       poller, so that a wake-up of the poller reaches the one that it is meant for.
//   I4  Whoever takes a worker out of either place sets its woken_ and, for the poller, wakes it.
//   I5  searching_ counts workers that are awake and will look, or a producer that has yet to take
//       idle_lock_.
// Tests: tests/sched/sched_stress_test.cpp, runtime_test.cpp; models/idle.pml (no lost wake-up).

#include <utility>

#include "sched/fence.hpp"
#include "sched/futex.hpp"
#include "sched/runtime_core.hpp"

namespace exeunt::sched {

using detail::atomic_fence;
using detail::memory_order_acq_rel;
using detail::memory_order_acquire;
using detail::memory_order_relaxed;
using detail::memory_order_release;
using detail::memory_order_seq_cst;

bool runtime_core::may_search() noexcept {
  const auto busy = static_cast<std::int32_t>(procs()) -
                    static_cast<std::int32_t>(idle_count_.load(memory_order_relaxed));
  if (2 * searching_.load(memory_order_relaxed) >= busy) return false;
  searching_.fetch_add(1, memory_order_seq_cst);
  return true;
}

void runtime_core::stop_searching(worker& w, bool found) noexcept {
  w.searching_ = false;
  // order: seq_cst, so that a producer that saw us searching is ordered with what we look at next.
  if (searching_.fetch_sub(1, memory_order_seq_cst) == 1 && found) wake_one();
}

void runtime_core::wake_one() noexcept {
  light_fence();  // Between the work that was published and the look for idle workers.
  if (idle_count_.load(memory_order_relaxed) == 0) return;
  std::int32_t none = 0;
  if (searching_.load(memory_order_relaxed) != 0 ||
      !searching_.compare_exchange_strong(none, 1, memory_order_seq_cst, memory_order_relaxed)) {
    return;
  }
  const detail::spin_guard guard{idle_lock_};
  // The one in the poller last: while it sleeps there, descriptors are watched for nothing.
  worker* const chosen = idle_.empty() ? in_poller_ : idle_.front();
  if (chosen == nullptr) {
    searching_.fetch_sub(1, memory_order_seq_cst);  // Under the lock: see the file's comment.
    return;
  }
  chosen->searching_ = true;
  wake_idle(*chosen);
}

// Under idle_lock_.
void runtime_core::wake_idle(worker& w) noexcept {
  idle_count_.fetch_sub(1, memory_order_seq_cst);
  w.idle_.store(false, memory_order_relaxed);
  if (in_poller_ == &w) {
    in_poller_ = nullptr;
    w.woken_.store(1, memory_order_release);
    poller_->wake();
  } else {
    decltype(idle_)::remove(w);
    w.woken_.store(1, memory_order_release);
    futex_wake(w.woken_, 1);
  }
}

void runtime_core::wake_worker(worker& w) noexcept {
  atomic_fence();
  const detail::spin_guard guard{idle_lock_};
  if (w.idle_.load(memory_order_relaxed)) wake_idle(w);
}

bool runtime_core::poller_is_taken() noexcept {
  const detail::spin_guard guard{idle_lock_};
  return poller_taken_;
}

bool runtime_core::work_in_sight(worker& w) noexcept {
  if (stopping() || !injected_.empty() || w.has_mail_.load(memory_order_relaxed)) return true;
  if ((w.attention_.load(memory_order_relaxed) & attention::report) != 0) return true;
  for (const worker& other : workers_) {
    if (other.has_spare_work()) return true;
  }
  return false;
}

void runtime_core::sleep(worker& w) noexcept {
  bool polls = false;
  // Before anybody can choose us, and make us search.
  const bool searched = std::exchange(w.searching_, false);
  w.woken_.store(0, memory_order_relaxed);
  {
    const detail::spin_guard guard{idle_lock_};
    w.idle_.store(true, memory_order_relaxed);
    if (!poller_taken_) {
      poller_taken_ = true;
      in_poller_ = &w;
      polls = true;
      // Until the deadline is known, any new timer must wake us.
      polling_until_.store(clock::time_point::max().time_since_epoch().count(),
                           memory_order_seq_cst);
    } else {
      idle_.push_back(w);
    }
    idle_count_.fetch_add(1, memory_order_seq_cst);
  }
  tell_quiet();
  if (searched) searching_.fetch_sub(1, memory_order_seq_cst);
  heavy_fence();  // Between registering as idle and the last look.
  const bool found = work_in_sight(w);
  if (!found) {
    w.sleeps.fetch_add(1, memory_order_relaxed);
    if (polls) {
      const clock::time_point until = timers().next();
      polling_until_.store(until.time_since_epoch().count(), memory_order_seq_cst);
      // A timer started before that store is seen by this look; a later one sees the store.
      if (timers().next() >= until) {
        poll_io(until, &w);
        return;
      }
    } else {
      while (w.woken_.load(memory_order_acquire) == 0) futex_wait(w.woken_, 0);
    }
  }
  wake_up(w, polls, found);
}

// The sleeper's own side of the end of its sleep. Who `found` work searches: if there is more than
// it takes it is to wake the next one.
void runtime_core::wake_up(worker& w, bool polled, bool found) noexcept {
  {
    const detail::spin_guard guard{idle_lock_};
    if (polled) poller_taken_ = false;
    if (found && !std::exchange(w.searching_, true)) {
      searching_.fetch_add(1, memory_order_seq_cst);
    }
    if (w.idle_.load(memory_order_relaxed)) {  // Else somebody took us out, and counted us.
      w.idle_.store(false, memory_order_relaxed);
      if (in_poller_ == &w) {
        in_poller_ = nullptr;
      } else {
        decltype(idle_)::remove(w);
      }
      idle_count_.fetch_sub(1, memory_order_seq_cst);
    }
  }
  monitor_.somebody_is_busy();
}

void runtime_core::timer_moved_forward(clock::time_point when) noexcept {
  // order: seq_cst; the timer queue's store of `next` came before, see sleep().
  if (when.time_since_epoch().count() >= polling_until_.load(memory_order_seq_cst)) {
    // Somebody sleeps in the poller until then or earlier, or nobody does: who is awake will look.
    return;
  }
  const detail::spin_guard guard{idle_lock_};
  if (in_poller_ != nullptr) poller_->wake();
}

// Something that wait_until_quiet() counts has changed.
void runtime_core::tell_quiet() noexcept {
  // order: seq_cst, after the change; wait_until_quiet() does the reverse.
  if (!quiet_awaited_.load(memory_order_seq_cst)) return;
  quiet_.fetch_add(1, memory_order_seq_cst);
  futex_wake(quiet_, INT32_MAX);
}

// Until no worker runs anything, but the one that calls if it is `inside`.
void runtime_core::wait_until_quiet(bool inside, clock::time_point limit) noexcept {
  quiet_awaited_.store(true, memory_order_seq_cst);
  for (;;) {
    const std::uint32_t seen = quiet_.load(memory_order_seq_cst);
    const std::uint32_t in_service = in_service_.load(memory_order_seq_cst);
    if (idle_count_.load(memory_order_seq_cst) + (inside ? 1 : 0) >= in_service &&
        injected_.empty()) {
      return;
    }
    const auto left = limit - clock::now();
    if (left <= clock::duration::zero()) return;
    futex_wait_for(quiet_, seen, left);
  }
}

}  // namespace exeunt::sched
