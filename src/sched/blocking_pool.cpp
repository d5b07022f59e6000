// SPDX-License-Identifier: Apache-2.0
// The side pool.
//
// A thread is *coming* if it was woken or is being started, and has not looked at the queue since.
//
// Invariants, whenever the lock is free:
//   I1  queued > coming  =>  nobody is idle. So a job waits only for threads that are on their way
//       or busy.
//   I2  queued > 0  =>  threads > 0. So somebody takes it, or refuses it: a start that fails and
//       leaves no thread refuses all that is queued.
//   I3  threads <= threads_max, those being started included.
//   I4  A job that was posted is run and finished once, or refused once, or withdrawn once. It is
//       in the queue until then, and nothing of it is touched after finish() or refuse().
//   I5  A thread is counted as idle, or as gone, before its last job's finish(): a caller that
//       comes back at once finds it, and starts no other.
// Idle threads are woken last in, first out: under less load than before the others stay untouched
// until their time is over.
//
// Locks: the lock is a leaf; nothing is started, called or woken under it. It is no std::mutex,
//   since ThreadSanitizer would take that for an order between callers.
// Wake-ups: an idle thread is woken by post(), by a start that fails, and by close(). Its block is
//   on its stack, so the word is written under the lock, while the thread cannot have left.
//   wait_until_quiet() is woken by the last job.
// The state is shared with the threads, which are detached: a job that never ends must not hold up
// the runtime that posted it.
// Tests: tests/sched/blocking_pool_test.cpp, blocking_test.cpp, tests/context/blocking_test.cpp.

#include "sched/blocking_pool.hpp"

#include <pthread.h>
#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <utility>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/base/spin_lock.hpp>

#include "sched/futex.hpp"
#include "sched/thread_mask.hpp"

namespace exeunt::sched {

using detail::blocking_job;
using detail::memory_order_acquire;
using detail::memory_order_relaxed;
using detail::memory_order_release;
using detail::memory_order_seq_cst;
using detail::spin_guard;

namespace {

struct idle_thread : detail::list_hook<> {
  detail::atomic<std::uint32_t> woken{0};  // A futex.
};

using job_list = detail::intrusive_list<blocking_job, detail::blocking_job_tag>;

error no_thread(int why) noexcept {
  const error plain = error::from_errno(why);
  try {
    return plain.wrap("blocking: no thread can be started");
  } catch (...) {
    return plain;
  }
}

}  // namespace

struct blocking_pool::shared : detail::ref_counted {
  shared(const sigset_t& of_users, const blocking_limits& asked) : mask{of_users}, limits{asked} {
    limits.threads_max = std::max(limits.threads_max, 1U);
  }

  const sigset_t mask;
  blocking_limits limits;
  detail::spin_lock lock;
  job_list jobs;
  detail::intrusive_list<idle_thread> idle;
  std::size_t queued = 0;
  unsigned threads = 0;
  unsigned idle_count = 0;
  unsigned coming = 0;
  std::uint64_t completed = 0;
  bool closed = false;
  detail::atomic<std::uint32_t> unsettled{0};  // Jobs that are not through; a futex.
  detail::atomic<bool> quiet_awaited{false};   // wait_until_quiet() sleeps on it.

  void release() const noexcept {
    if (drop()) delete this;
  }

  // Under the lock.
  blocking_job* take() noexcept {
    blocking_job* const job = jobs.pop_front();
    if (job != nullptr) --queued;
    return job;
  }
  blocking_job* take_to_run() noexcept { return closed ? nullptr : take(); }

  // Under the lock, if anybody is idle. Returns: what to wake after unlocking; it may be gone then.
  detail::atomic<std::uint32_t>* call_idle() noexcept {
    idle_thread* const thread = idle.pop_front();
    if (thread == nullptr) return nullptr;
    --idle_count;
    ++coming;
    // order: release, pairs with the thread's look; what counts is under the lock.
    thread->woken.store(1, memory_order_release);
    return &thread->woken;
  }

  void settle(std::uint32_t count) noexcept {
    // order: seq_cst, both; wait_until_quiet() does the reverse.
    if (unsettled.fetch_sub(count, memory_order_seq_cst) == count &&
        quiet_awaited.load(memory_order_seq_cst)) {
      futex_wake(unsettled, INT_MAX);
    }
  }

  void refuse_queued(const error& why) noexcept;
  int start() noexcept;
  void start_failed(int why) noexcept;
  void work() noexcept;
  bool wait_idle(idle_thread& self) noexcept;
};

int blocking_pool::shared::start() noexcept {
  if (limits.refuse_thread != nullptr) {
    if (const int why = limits.refuse_thread(); why != 0) return why;
  }
  pthread_attr_t detached;
  if (const int why = ::pthread_attr_init(&detached); why != 0) return why;
  ::pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
  add_ref();  // The thread's.
  pthread_t thread{};
  const int why = ::pthread_create(
      &thread, &detached,
      [](void* state) -> void* {
        const auto self = detail::ref_ptr<shared>::adopt(static_cast<shared*>(state));
        self->work();
        return nullptr;
      },
      this);
  ::pthread_attr_destroy(&detached);
  if (why != 0) release();  // Not the last one: the pool has its own.
  return why;
}

// One by one, as each may be withdrawn until it is taken.
void blocking_pool::shared::refuse_queued(const error& why) noexcept {
  for (;;) {
    blocking_job* job = nullptr;
    {
      const spin_guard guard{lock};
      if (closed || threads == 0) job = take();
    }
    if (job == nullptr) return;
    job->refuse(why);
    settle(1);
  }
}

void blocking_pool::shared::start_failed(int why) noexcept {
  detail::atomic<std::uint32_t>* called = nullptr;
  {
    const spin_guard guard{lock};
    --threads;
    --coming;
    if (queued > coming) called = call_idle();
  }
  if (called != nullptr) futex_wake(*called, 1);
  refuse_queued(no_thread(why));
}

void blocking_pool::shared::work() noexcept {
  take_mask(mask);
  ::pthread_setname_np(::pthread_self(), "exeunt-blocking");
  blocking_job* job = nullptr;
  {
    const spin_guard guard{lock};
    --coming;
    job = take_to_run();
  }
  for (;;) {
    if (job != nullptr) {
      detail::race_acquire(job);
      job->run();
    }
    idle_thread self;
    blocking_job* next = nullptr;
    bool ends = false;
    {
      const spin_guard guard{lock};
      if (job != nullptr) ++completed;
      next = take_to_run();
      ends = next == nullptr && closed;
      if (ends) {
        --threads;
      } else if (next == nullptr) {
        idle.push_front(self);
        ++idle_count;
      }
    }
    if (job != nullptr) {
      job->finish();
      settle(1);
    }
    job = next;
    if (ends || (next == nullptr && !wait_idle(self))) return;
    if (next != nullptr) continue;
    const spin_guard guard{lock};
    --coming;
    job = take_to_run();
  }
}

// Returns: false if nobody called for the thread in time; it is counted as gone then.
bool blocking_pool::shared::wait_idle(idle_thread& self) noexcept {
  const clock::time_point begun = clock::now();
  const bool for_ever = limits.keep_alive >= clock::time_point::max() - begun;
  const clock::time_point end = for_ever ? clock::time_point::max() : begun + limits.keep_alive;
  while (self.woken.load(memory_order_acquire) == 0) {
    const clock::duration left = end - clock::now();
    if (left > clock::duration::zero()) {
      futex_wait_for(self.woken, 0, left);
      continue;
    }
    const spin_guard guard{lock};
    if (!self.linked()) return true;
    idle.remove(self);
    --idle_count;
    --threads;
    return false;
  }
  return true;
}

blocking_pool::blocking_pool(const sigset_t& mask, const blocking_limits& limits)
    : shared_{detail::ref_ptr<shared>::adopt(new shared{mask, limits})} {}

blocking_pool::~blocking_pool() { close(); }

void blocking_pool::post(blocking_job& job) noexcept {
  shared& self = *shared_;
  // Once it is queued the job may be through, and all that it belongs to.
  const auto kept = shared_;
  detail::race_release(&job);
  job.posted_to_ = &self;
  bool starts = false;
  bool refused = false;
  detail::atomic<std::uint32_t>* called = nullptr;
  {
    const spin_guard guard{self.lock};
    refused = self.closed;
    if (!refused) {
      self.unsettled.fetch_add(1, memory_order_relaxed);  // order: see settle().
      self.jobs.push_back(job);
      ++self.queued;
      if (self.queued > self.coming) {
        called = self.call_idle();
        starts = called == nullptr && self.threads < self.limits.threads_max;
      }
      if (starts) {
        ++self.threads;
        ++self.coming;
      }
    }
  }
  if (refused) return job.refuse(errc::shutting_down);
  if (called != nullptr) futex_wake(*called, 1);
  if (!starts) return;
  if (const int why = self.start(); why != 0) self.start_failed(why);
}

bool blocking_pool::withdraw(blocking_job& job) noexcept {
  shared& self = *static_cast<shared*>(job.posted_to_);
  {
    const spin_guard guard{self.lock};
    if (!job.linked()) return false;
    job_list::remove(job);
    --self.queued;
  }
  self.settle(1);
  return true;
}

void blocking_pool::wait_until_quiet(clock::time_point limit) noexcept {
  shared& self = *shared_;
  self.quiet_awaited.store(true, memory_order_seq_cst);
  for (;;) {
    const std::uint32_t left = self.unsettled.load(memory_order_seq_cst);
    if (left == 0) return;
    const clock::duration time = limit - clock::now();
    if (time <= clock::duration::zero()) return;
    futex_wait_for(self.unsettled, left, time);
  }
}

void blocking_pool::close() noexcept {
  shared& self = *shared_;
  for (;;) {
    detail::atomic<std::uint32_t>* called = nullptr;
    {
      const spin_guard guard{self.lock};
      self.closed = true;
      called = self.call_idle();
    }
    if (called == nullptr) break;
    futex_wake(*called, 1);
  }
  self.refuse_queued(errc::shutting_down);
}

blocking_pool::counts blocking_pool::stats() const noexcept {
  shared& self = *shared_;
  const spin_guard guard{self.lock};
  return {.threads = self.threads,
          .idle = self.idle_count,
          .queued = self.queued,
          .completed = self.completed};
}

}  // namespace exeunt::sched
