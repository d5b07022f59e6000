// SPDX-License-Identifier: Apache-2.0
// Question:  what does it cost to start fibers and join them, and how much memory holds one?
// Unit:      one item = one fiber. Lower is better; bytes are those of pages and page tables.
// Compare:   bench/rivals/spawn_join and parked, the same in Go and with Boost.Fiber.
// Not said:  parked fibers touched one page of their stacks; those with deep calls hold more. What
//            the allocators keep from one repetition to the next counts for nothing.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>

#include <exeunt/sched/go.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "on_fiber.hpp"

namespace {

void spawn_join(benchmark::State& state) {
  const std::int64_t batch = state.range(1);
  exeunt::bench::in_batches(state, batch, [](std::int64_t count) {
    exeunt::wait_group group;
    group.add(count);
    for (std::int64_t i = 0; i < count; ++i) exeunt::go([&group] { group.done(); });
    group.wait();
  });
}
BENCHMARK(spawn_join)
    ->ArgNames({"workers", "batch"})
    ->ArgsProduct({{1, 2}, {1, 10'000}})
    ->UseRealTime();

double resident_bytes() {
  double kib = 0;
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:") || line.starts_with("VmPTE:")) kib += std::atof(&line[6]);
  }
  return kib * 1024;
}

void parked(benchmark::State& state) {
  const std::int64_t fibers = state.range(1);
  double bytes = 0;
  exeunt::bench::on_fiber(state, [&] {
    while (state.KeepRunningBatch(fibers)) {
      const double before = resident_bytes();
      exeunt::wait_group gate;
      exeunt::wait_group started;
      exeunt::wait_group ended;
      gate.add();
      started.add(fibers);
      ended.add(fibers);
      for (std::int64_t i = 0; i < fibers; ++i) {
        exeunt::go([&] {
          started.done();
          gate.wait();
          ended.done();
        });
      }
      started.wait();
      bytes = (resident_bytes() - before) / static_cast<double>(fibers);
      gate.done();
      ended.wait();
    }
  });
  state.counters["bytes"] = bytes;
  state.SetItemsProcessed(state.iterations());
}
// One round: stacks that were used before would seem to be free.
BENCHMARK(parked)
    ->ArgNames({"workers", "fibers"})
    ->Args({1, 100'000})
    ->Iterations(100'000)
    ->UseRealTime();

}  // namespace
