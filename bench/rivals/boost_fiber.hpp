// SPDX-License-Identifier: Apache-2.0
// What the Boost.Fiber contenders share: threads that run fibers, and what Boost lacks.
//
// Boost.Fiber gets what favours it: round robin on one thread, work stealing on more, stacks of
// 16 KiB without guards, and a malloc that keeps freed memory. Its stealing threads never sleep.

#pragma once

#include <malloc.h>

#include <atomic>
#include <boost/fiber/all.hpp>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "harness.hpp"

namespace rivals::boost_fiber {

namespace bf = boost::fibers;

template <typename F>
void go(F body) {
  bf::fiber(bf::launch::post, std::allocator_arg, bf::fixedsize_stack(16 * 1024), std::move(body))
      .detach();
}

class wait_group {
 public:
  void add(long n) {
    if (left_.fetch_add(n) == 0) {
      const std::lock_guard lock{mutex_};
      zero_ = false;
    }
  }
  void done() {
    if (left_.fetch_sub(1) != 1) return;
    const std::lock_guard lock{mutex_};
    zero_ = left_.load() == 0;
    if (zero_) changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [this] { return zero_; });
  }

 private:
  std::atomic<long> left_{0};
  bf::mutex mutex_;
  bf::condition_variable changed_;
  bool zero_ = true;
};

/// An unbuffered channel, or a buffered one: of a power of two, less one.
template <typename T>
class chan {
 public:
  explicit chan(std::size_t capacity = 0) {
    if (capacity == 0) {
      direct_ = std::make_unique<bf::unbuffered_channel<T>>();
      return;
    }
    std::size_t size = 2;
    while (size < capacity) size *= 2;
    buffered_ = std::make_unique<bf::buffered_channel<T>>(size);
  }
  void send(T value) {
    if (direct_) {
      direct_->push(std::move(value));
    } else {
      buffered_->push(std::move(value));
    }
  }
  T recv() {
    T value{};
    if (direct_) {
      direct_->pop(value);
    } else {
      buffered_->pop(value);
    }
    return value;
  }

 private:
  std::unique_ptr<bf::unbuffered_channel<T>> direct_;
  std::unique_ptr<bf::buffered_channel<T>> buffered_;
};

/// Runs `main` in a fiber, on `threads` threads: the first fiber of a thread cannot move.
template <typename F>
int run(unsigned threads, F main) {
  mallopt(M_TRIM_THRESHOLD, 0x7fffffff);
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  bf::mutex mutex;
  bf::condition_variable_any changed;
  bool ended = false;
  const auto install = [threads] {
    if (threads > 1) bf::use_scheduling_algorithm<bf::algo::work_stealing>(std::uint32_t{threads});
  };
  std::vector<std::thread> others;
  for (unsigned i = 1; i < threads; ++i) {
    others.emplace_back([&] {
      install();
      std::unique_lock lock{mutex};
      changed.wait(lock, [&] { return ended; });
    });
  }
  install();
  bf::fiber(std::move(main)).join();
  {
    const std::lock_guard lock{mutex};
    ended = true;
  }
  changed.notify_all();
  for (std::thread& one : others) one.join();
  return 0;
}

}  // namespace rivals::boost_fiber
