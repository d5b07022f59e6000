// SPDX-License-Identifier: Apache-2.0
// One greedy fiber, which holds the lock for 100 us, lets it go, and wants it again at once, and a
// modest one, which needs it ten times, for 100 us, and does 100 us of work of its own after each.
// It starts while the greedy one has the lock.
//
// Figures: the time until the modest one is through, or out of patience; the longest that it
// waited; how often each of the two had the lock, and the greedy one for each time that the modest
// one had it. Of mutex, and of the three pure forms, which have no rivals. bench/starvation_picture
// draws them.

#include <algorithm>
#include <atomic>
#include <string>

#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/basic_mutex.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"

namespace {

constexpr double hold_ns = 100'000;
constexpr double patience_ns = 2e9;  // Of a modest one that gets nothing.
constexpr long turns_wanted = 10;

void work() {
  const auto start = rivals::steady::now();
  while (rivals::ns_since(start) < hold_ns) {
  }
}

template <typename Mutex>
void starve(const rivals::harness& bench, const std::string& name) {
  if (!bench.wants(name)) return;
  Mutex mutex;
  std::atomic<bool> over{false};
  long greedy_turns = 0;
  long modest_turns = 0;
  double longest = 0;
  exeunt::wait_group group;
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
  };
  group.go([&] {
    while (!over.load(std::memory_order_relaxed) && rivals::ns_since(start) < patience_ns) {
      mutex.lock();
      if (greedy_turns == 0) group.go(modest);
      work();
      ++greedy_turns;
      mutex.unlock();
    }
  });
  group.wait();
  rivals::harness::figure(name + "_total", "ms", rivals::ns_since(start) / 1e6);
  rivals::harness::figure(name + "_longest_wait", "ms", longest / 1e6);
  rivals::harness::figure(name + "_greedy_turns", "times", static_cast<double>(greedy_turns));
  rivals::harness::figure(name + "_modest_turns", "times", static_cast<double>(modest_turns));
  rivals::harness::figure(
      name + "_greedy_turns_for_one", "turns",
      static_cast<double>(greedy_turns) / static_cast<double>(std::max(modest_turns, 1L)));
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return exeunt::run(
      [&] {
        starve<exeunt::mutex>(bench, "starvation");
        starve<exeunt::basic_mutex<exeunt::barging>>(bench, "starvation_barging");
        starve<exeunt::basic_mutex<exeunt::handoff>>(bench, "starvation_handoff");
        starve<exeunt::basic_mutex<exeunt::spinning>>(bench, "starvation_spinning");
      },
      {.procs = bench.workers()});
}
