// SPDX-License-Identifier: Apache-2.0
// The side pool.
//
// Invariants, whenever the lock is free:
//   I1  jobs not empty  =>  idle == 0, or a notification is under way.
//   I2  threads <= threads_max.
// The state is shared with the threads, which are detached: a job that never ends must not hold up
// the runtime that posted it.
// Tests: tests/sched/blocking_test.cpp.

#include "sched/blocking_pool.hpp"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "sched/thread_mask.hpp"

namespace exeunt::sched {

namespace {
// Long enough to serve bursts, short enough that a quiet process has no idle threads.
constexpr std::chrono::seconds idle_max{10};
}  // namespace

struct blocking_pool::shared : detail::ref_counted {
  explicit shared(const sigset_t& of_users) : mask{of_users} {}

  const sigset_t mask;
  std::mutex lock;
  std::condition_variable changed;
  std::deque<unique_function<void()>> jobs;
  unsigned threads = 0;
  unsigned idle = 0;
  bool closing = false;

  void release() const noexcept {
    if (drop()) delete this;
  }

  static void work(const detail::ref_ptr<shared>& self) {
    take_mask(self->mask);
    std::unique_lock guard{self->lock};
    for (;;) {
      while (!self->jobs.empty()) {
        unique_function<void()> job = std::move(self->jobs.front());
        self->jobs.pop_front();
        guard.unlock();
        job();
        job = nullptr;
        guard.lock();
      }
      if (self->closing) break;
      ++self->idle;
      const bool timed_out = self->changed.wait_for(guard, idle_max) == std::cv_status::timeout;
      --self->idle;
      if (timed_out && self->jobs.empty()) break;
    }
    --self->threads;
  }
};

blocking_pool::blocking_pool(const sigset_t& mask)
    : shared_{detail::ref_ptr<shared>::adopt(new shared{mask})} {}

blocking_pool::~blocking_pool() {
  const std::lock_guard guard{shared_->lock};
  shared_->closing = true;
  shared_->changed.notify_all();
}

void blocking_pool::post(unique_function<void()> job) {
  const std::lock_guard guard{shared_->lock};
  shared_->jobs.push_back(std::move(job));
  if (shared_->idle >= shared_->jobs.size()) {
    shared_->changed.notify_one();
    return;
  }
  if (shared_->threads >= threads_max) return;  // A busy thread will take it.
  try {
    std::thread{&shared::work, shared_}.detach();
    ++shared_->threads;
  } catch (...) {  // No thread, or no memory for one.
    if (shared_->threads == 0) {
      shared_->jobs.pop_back();
      throw;
    }
  }
}

}  // namespace exeunt::sched
