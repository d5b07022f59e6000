// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, with two threads and std::mutex.

#include <algorithm>
#include <atomic>
#include <mutex>

#include "std_thread.hpp"

namespace {

constexpr double hold_ns = 100'000;
constexpr double patience_ns = 2e9;
constexpr long turns_wanted = 10;

void work() {
  const auto start = rivals::steady::now();
  while (rivals::ns_since(start) < hold_ns) {
  }
}

void starve() {
  std::mutex mutex;
  std::atomic<bool> over{false};
  long greedy_turns = 0;
  long modest_turns = 0;
  double longest = 0;
  rivals::std_thread::wait_group group;
  group.add(2);
  const auto start = rivals::steady::now();
  const auto modest = [&] {
    while (modest_turns < turns_wanted && rivals::ns_since(start) < patience_ns) {
      const auto asked = rivals::steady::now();
      mutex.lock();
      longest = std::max(longest, rivals::ns_since(asked));
      work();
      ++modest_turns;
      mutex.unlock();
      work();
    }
    over.store(true, std::memory_order_relaxed);
    group.done();
  };
  rivals::std_thread::go([&] {
    while (!over.load(std::memory_order_relaxed) && rivals::ns_since(start) < patience_ns) {
      mutex.lock();
      if (greedy_turns == 0) rivals::std_thread::go(modest);
      work();
      ++greedy_turns;
      mutex.unlock();
    }
    group.done();
  });
  group.wait();
  rivals::harness::figure("starvation_total", "ms", rivals::ns_since(start) / 1e6);
  rivals::harness::figure("starvation_longest_wait", "ms", longest / 1e6);
  rivals::harness::figure("starvation_greedy_turns", "times", static_cast<double>(greedy_turns));
  rivals::harness::figure("starvation_modest_turns", "times", static_cast<double>(modest_turns));
  rivals::harness::figure(
      "starvation_greedy_turns_for_one", "turns",
      static_cast<double>(greedy_turns) / static_cast<double>(std::max(modest_turns, 1L)));
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return rivals::std_thread::run(bench.workers(), [&] {
    if (bench.wants("starvation")) starve();
  });
}
