// SPDX-License-Identifier: Apache-2.0
// Making and stopping a timer among 100 000 others, and how late 1000 sleepers of 1 ms wake up.

#include <algorithm>
#include <chrono>
#include <vector>

#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/wait_group.hpp>
#include <exeunt/time/timer.hpp>

#include "harness.hpp"

namespace {

using namespace std::chrono_literals;

void create_stop(rivals::harness& bench) {
  if (!bench.wants("timer_create_stop")) return;
  std::vector<exeunt::timer> others;
  for (int i = 0; i < 100'000; ++i) others.emplace_back(1h + i * 1ms);
  bench.per_op("timer_create_stop", 1'000'000, 1, [](long count) {
    for (long i = 0; i < count; ++i) {
      exeunt::timer one{1h + i % 1000 * 1ms};
      one.stop();
    }
  });
}

// By how much each sleep of 1 ms was too long.
std::vector<double> sleepers(long fibers, long rounds) {
  std::vector<double> late(fibers * rounds);
  exeunt::wait_group group;
  group.add(fibers);
  for (long i = 0; i < fibers; ++i) {
    exeunt::go([&, i] {
      for (long j = 0; j < rounds; ++j) {
        const auto start = rivals::steady::now();
        exeunt::sleep(1ms);
        late[i * rounds + j] = rivals::ns_since(start) - 1e6;
      }
      group.done();
    });
  }
  group.wait();
  return late;
}

void lateness(rivals::harness& bench, long fibers, long rounds) {
  if (!bench.wants("sleep_1ms")) return;
  sleepers(fibers, std::max(rounds / 10, 1L));  // Else the first round is that of making fibers.
  auto late = sleepers(fibers, rounds);
  bench.figure("sleep_1ms_late_p50", "ns", rivals::percentile(late, 50));
  bench.figure("sleep_1ms_late_p99", "ns", rivals::percentile(late, 99));
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return exeunt::run(
      [&] {
        create_stop(bench);
        lateness(bench, 1000, bench.scaled(100));
      },
      {.procs = bench.workers()});
}
