// SPDX-License-Identifier: Apache-2.0
// What the std::thread contenders share: a thread for each fiber, and channels made of a mutex and
// condition variables, as they are written where there is nothing else.
//
// N workers are N processors: the threads may run on no others.

#pragma once

#include <sched.h>

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "harness.hpp"

namespace rivals::std_thread {

template <typename F>
void go(F body) {
  std::thread{std::move(body)}.detach();
}

class wait_group {
 public:
  void add(long n) {
    const std::lock_guard lock{mutex_};
    left_ += n;
  }
  void done() {
    const std::lock_guard lock{mutex_};
    if (--left_ == 0) changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [this] { return left_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  long left_ = 0;
};

/// With capacity 0, send() waits until its value has been taken.
template <typename T>
class chan {
 public:
  explicit chan(std::size_t capacity = 0) : capacity_{capacity} {}

  void send(T value) {
    std::unique_lock lock{mutex_};
    room_.wait(lock, [this] { return kept_.size() < std::max<std::size_t>(capacity_, 1); });
    kept_.push_back(std::move(value));
    const long number = ++sent_;
    if (capacity_ != 0) {
      lock.unlock();
      some_.notify_one();
    } else {
      some_.notify_one();
      taken_.wait(lock, [&] { return received_ >= number; });
    }
  }

  T recv() {
    std::unique_lock lock{mutex_};
    some_.wait(lock, [this] { return !kept_.empty(); });
    T value = std::move(kept_.front());
    kept_.pop_front();
    ++received_;
    if (capacity_ == 0) taken_.notify_all();
    lock.unlock();
    room_.notify_one();
    return value;
  }

 private:
  const std::size_t capacity_;
  std::mutex mutex_;
  std::condition_variable room_;
  std::condition_variable some_;
  std::condition_variable taken_;
  std::deque<T> kept_;
  long sent_ = 0;
  long received_ = 0;
};

template <typename F>
int run(unsigned workers, F main) {
  cpu_set_t allowed;
  cpu_set_t chosen;
  CPU_ZERO(&chosen);
  require(sched_getaffinity(0, sizeof allowed, &allowed) == 0, "sched_getaffinity");
  for (int cpu = 0; workers > 0 && cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    CPU_SET(cpu, &chosen);
    --workers;
  }
  require(sched_setaffinity(0, sizeof chosen, &chosen) == 0, "sched_setaffinity");
  main();
  return 0;
}

}  // namespace rivals::std_thread
