// SPDX-License-Identifier: Apache-2.0
// Who is called when, for all runtimes of the process.
//
// Who is called goes by a *job*, which may lie in a side pool's queue for as long as others block
// all of the pool's threads: so it outlives its upkeep, whose end waits only for a call that runs.
//
// Invariants, whenever the lock is free:
//   I1  Who has begun and not ended is in the list, and its job's `of` names it.
//   I2  A job is idle, posted or running. Posted from before it is given to a pool; running while
//       call() is. A job without `of` is posted, and deletes itself when it is through.
//   I3  While a job is running its upkeep stays: end() waits.
// Locks: the lock is a leaf; nothing is posted, called or woken under it, but has_some().
// Wake-ups: end() by the job that ran, after the lock is released; it touches nothing then.
// Tests: tests/sched/upkeep_test.cpp.

#include "sched/upkeep.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>

#include <exeunt/base/race.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/blocking.hpp>
#include <exeunt/sched/wait.hpp>

#include "sched/blocking_pool.hpp"
#include "sched/current.hpp"

namespace exeunt::sched {

using detail::spin_guard;

namespace {

enum class state : std::uint8_t { idle, posted, running };

detail::spin_lock lock;

// Under lock. Has no destructor: upkeeps of static objects end late.
detail::intrusive_list<upkeep, upkeep_tag>& members() noexcept {
  static detail::intrusive_list<upkeep, upkeep_tag> list;
  return list;
}

}  // namespace

struct upkeep::job final : detail::blocking_job {
  explicit job(upkeep& whose) noexcept : of{&whose} {}

  void run() noexcept override {
    {
      const spin_guard guard{lock};
      if (of == nullptr) return;
      at = state::running;
      detail::race_acquire(of);
    }
    of->call();
  }
  void finish() noexcept override { over(); }
  void refuse(const error& /*why*/) noexcept override { over(); }

  void over() noexcept {
    detail::wakeup due;
    bool is_last = false;
    {
      const spin_guard guard{lock};
      at = state::idle;
      if (of != nullptr) detail::race_release(of);
      is_last = of == nullptr;
      if (!is_last) detail::claim_first(ending, due);
    }
    if (is_last) {
      const detail::race_ignore own;  // The lock, which orders, is not shown.
      delete this;
    }
    due.fire();
  }

  // Under lock.
  upkeep* of;
  state at = state::idle;
  detail::intrusive_list<detail::waiter> ending;
  job* next = nullptr;  // Of those that keep_up() is about to post.
};

void upkeep::begin() {
  if (detail::is_simulated()) return;
  detail::race_release(this);  // To the first call.
  const detail::race_ignore own;
  job* const mine = new job{*this};
  const spin_guard guard{lock};
  job_ = mine;
  members().push_back(*this);
}

void upkeep::end() noexcept {
  // Whoever might be calling it, or hold the lock, is in the parent.
  if (job_ == nullptr || forked_without_exec()) return;
  {
    detail::waiter self;
    spin_guard guard{lock};
    detail::intrusive_list<upkeep, upkeep_tag>::remove(*this);
    detail::race_acquire(this);
    if (job_->at == state::posted) {
      job_->of = nullptr;
      return;
    }
    if (job_->at == state::running) {
      job_->ending.push_back(self);
      detail::park(guard.release(), detail::wait_reason::join, this);  // Woken by: job::over().
    }
  }
  detail::race_acquire(this);
  const detail::race_ignore own;
  delete job_;
}

clock::time_point keep_up(clock::time_point now, blocking_pool& threads) noexcept {
  clock::time_point next = no_deadline;
  upkeep::job* due = nullptr;
  {
    const spin_guard guard{lock};
    for (upkeep* one = members().front(); one != nullptr; one = members().next(*one)) {
      // A tick that is longer than time itself never comes.
      const clock::time_point then = deadline_after(now, one->every_);
      if (one->job_->at != state::idle) {
        next = std::min(next, then);  // It may leave something.
        continue;
      }
      if (!one->has_some()) {
        one->due_ = no_deadline;
        continue;
      }
      if (one->due_ == no_deadline) {
        one->due_ = then;
      } else if (one->due_ <= now) {
        one->due_ = then;
        one->job_->at = state::posted;
        one->job_->next = std::exchange(due, one->job_);
      }
      next = std::min(next, one->due_);
    }
  }
  // Each stays until it was posted: who ends meanwhile leaves it to itself.
  while (due != nullptr) threads.post(*std::exchange(due, due->next));
  return next;
}

}  // namespace exeunt::sched
