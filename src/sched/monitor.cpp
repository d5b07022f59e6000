// SPDX-License-Identifier: Apache-2.0
// What the monitor looks for.
//
// A worker *stays* if it has begun to run no fiber since the last look. What waits in its queue
// then goes to an idle worker, which is woken to take it; and so is one if nobody watches the
// poller. If no worker is idle, timers, descriptors and started fibers wait for those that stay.
// One of them is *stuck*, and its place is filled (staffing.cpp), if its thread sleeps at two looks
// in a row, in a system call or for a lock, or if it has stayed for 10 ms and had the processor
// meanwhile. A thread that is ready but gets no processor is neither: one more of them would help
// nobody. A worker that comes back to its loop learns there what has become of it, so that to judge
// wrongly costs a thread for a while, and nothing else.
//
// Besides, the monitor lets a fiber that found no memory for a stack try again now and then, has
// the pool of stacks give back what nobody needs (stack_pool::tend()) and others do the same
// (keep_up()), and has the number of workers follow what the system allows.
//
// No duty is forgotten. Whenever a worker is not idle the monitor is awake, or is woken: it says
// that it sleeps, then looks whether all are idle; a worker that stops being idle counts itself
// out, then looks whether the monitor sleeps; both by sequentially consistent operations.
// Tests: tests/sched/monitor_test.cpp, starvation_test.cpp; models/monitor.pml.

#include "sched/monitor.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <utility>

#include <exeunt/base/race.hpp>

#include "sched/futex.hpp"
#include "sched/runtime_core.hpp"
#include "sched/thread_mask.hpp"
#include "sched/upkeep.hpp"
#include "sched/worker.hpp"

namespace exeunt::sched {

using detail::memory_order_acquire;
using detail::memory_order_relaxed;
using detail::memory_order_release;
using detail::memory_order_seq_cst;

namespace {

using std::chrono::milliseconds;

// Looks come in ever longer intervals, and begin anew when one has found work for an idle worker:
// what waits then waits about as long as there was nothing to do. While all work and get on, they
// are rarer.
constexpr clock::duration shortest = std::chrono::microseconds{20};
constexpr clock::duration longest = milliseconds{1};
constexpr clock::duration longest_calm = milliseconds{4};
// Who has blocked a thread is likely to do it again: for a while looks come at least so often, and
// a thread that sleeps as long is stuck.
constexpr clock::duration longest_wary = std::chrono::microseconds{200};
constexpr clock::duration wary_for = milliseconds{100};
// All idle for so long. To sleep at once would cost a wake-up for each request of a server that has
// few.
constexpr clock::duration sleep_after = milliseconds{50};
// While fibers come and go, stacks and the like are looked after at least so often.
constexpr clock::duration tend_at_least = std::chrono::seconds{1};
// While any worker is busy, what limits the CPUs is read so often (Go 1.25 does as well): less
// than 100 us.
constexpr clock::duration follow_every = std::chrono::seconds{1};
// For memory that others have given back to the system.
constexpr clock::duration retry_every = milliseconds{10};
// As Go's time slice.
constexpr clock::duration stays_too_long = milliseconds{10};
constexpr std::int64_t uses_too_much = 5'000'000;  // ns of processor time within that.

std::int64_t cpu_time_of(clockid_t thread) noexcept {
  timespec used{};
  if (thread == 0 || ::clock_gettime(thread, &used) != 0) return -1;
  return std::int64_t{used.tv_sec} * 1'000'000'000 + used.tv_nsec;
}

// By the kernel's word: neither running nor waiting for a processor.
bool is_asleep(int thread) noexcept {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  char text[128];
  const ssize_t size = ::read(fd, text, sizeof text);
  ::close(fd);
  // "1234 (name) S …", where the name, which we gave, holds no parenthesis.
  const char* const end = size > 0 ? std::find(text, text + size, ')') : text;
  return end + 2 < text + std::max<ssize_t>(size, 0) && (end[2] == 'S' || end[2] == 'D');
}

}  // namespace

void monitor::start() {
  thread_ = std::thread{[this] {
    ::pthread_setname_np(::pthread_self(), "exeunt-monitor");
    take_mask(home_.mask());
    loop();
  }};
}

void monitor::stop() noexcept {
  if (!thread_.joinable()) return;
  over_.store(true, memory_order_relaxed);  // order: released by wake().
  wake();
  thread_.join();
}

void monitor::wake() noexcept {
  called_.fetch_add(1, memory_order_release);  // order: pairs with the load in loop().
  futex_wake(called_, 1);
}

void monitor::loop() noexcept {
  const detail::race_ignore own;
  ::prctl(PR_SET_TIMERSLACK, 1UL);
  clock::duration interval = longest;
  clock::time_point busy_until = clock::now();
  clock::time_point tend_at{};
  clock::time_point retry_at{};
  clock::time_point follow_at = busy_until + follow_every;
  for (;;) {
    const std::uint32_t called = called_.load(memory_order_acquire);
    if (over_.load(memory_order_relaxed)) return;
    futex_wait_for(called_, called, interval);
    const clock::time_point now = clock::now();
    if (home_.has_stackless() && now >= retry_at) {
      retry_at = now + retry_every;
      home_.retry_stackless();
    }
    if (!home_.is_idle()) {
      busy_until = now;
      switch (look(now)) {
        case found::work:
          interval = shortest;
          break;
        case found::idlers:
          interval = std::min(2 * interval, longest);
          break;
        case found::nothing:
          interval = std::min(2 * interval, longest_calm);
          break;
      }
      if (is_wary(now)) interval = std::min(interval, longest_wary);
    } else if (now - busy_until < sleep_after || home_.has_stackless()) {
      interval = std::min(2 * interval, longest_calm);
    } else {
      sleep(called);
      interval = shortest;
      busy_until = clock::now();
    }
    if (busy_until == now && now >= follow_at) {
      follow_at = now + follow_every;
      home_.follow_procs_allowed();
    }
    if (busy_until == now && now >= tend_at) {
      tend_at = std::min(std::max(tend(now), now + longest), now + tend_at_least);
    }
  }
}

// Returns: when there is something to give back again; no_deadline if nothing is left.
clock::time_point monitor::tend(clock::time_point now) noexcept {
  return std::min(home_.stacks().tend(now), keep_up(now, home_.blocking()));
}

// Until a worker is busy. What is held that nobody needs is given back first.
void monitor::sleep(std::uint32_t called) noexcept {
  asleep_.store(true, memory_order_seq_cst);  // order: before the look; see the top.
  while (home_.is_idle() && called_.load(memory_order_acquire) == called) {
    const clock::time_point now = clock::now();
    const clock::time_point again = tend(now);
    if (again == no_deadline) {
      futex_wait(called_, called);
    } else {
      futex_wait_for(called_, called, std::max<clock::duration>(again - now, longest));
    }
  }
  asleep_.store(false, memory_order_relaxed);
}

monitor::found monitor::look(clock::time_point now) noexcept {
  const bool somebody_idle = home_.somebody_idle();
  bool waits = false;
  bool stays = false;
  for (worker& w : home_.workers()) {
    worker_sight& last = w.seen;
    const std::uint32_t turns = w.turns();
    const bool rests = w.rests();
    if (turns != last.turns || rests || last.rested) {
      last = {.turns = turns, .since = now, .rested = rests};
      continue;
    }
    if (somebody_idle) {  // Also of one that was given up on before.
      waits = waits || w.queued() > 0 || !home_.poller_is_taken();
      if (w.has_mail() && now - last.since >= stays_too_long) home_.return_stray_mail(w);
      continue;
    }
    if (!w.is_busy()) {  // Stuck. The others are busy with what is their own, and do not search.
      home_.share_queue_of(w);
      continue;
    }
    stays = true;
    if (now - last.since >= (is_wary(now) ? longest_wary : longest) && is_stuck(w, last, now)) {
      stuck_at_ = now;
      home_.give_up_on(w, turns);
      home_.share_queue_of(w);
    }
  }
  if (waits) home_.wake_one();
  home_.fill_places();
  if (waits) return found::work;
  return somebody_idle || stays ? found::idlers : found::nothing;
}

bool monitor::is_wary(clock::time_point now) const noexcept { return now - stuck_at_ < wary_for; }

// Of a worker that has stayed for a while.
bool monitor::is_stuck(const worker& w, worker_sight& last, clock::time_point now) noexcept {
  const bool sleeps = is_asleep(w.thread_id());
  if (std::exchange(last.slept, sleeps) && sleeps) return true;
  const std::int64_t used = cpu_time_of(w.cpu_clock());
  if (last.cpu_time < 0) last.cpu_time = used;
  return now - last.since >= stays_too_long && used - last.cpu_time >= uses_too_much;
}

}  // namespace exeunt::sched
