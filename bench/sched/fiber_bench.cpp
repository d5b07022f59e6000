// SPDX-License-Identifier: Apache-2.0
// Question:  what does a fiber's turn cost, with a partner and among many?
// Unit:      one item = one yield(). Lower time is better.
// Compare:   bench/rivals/yield, the same in Go and with Boost.Fiber.
// Not said:  nothing about waking a fiber, which a yield does not do.

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>

#include <exeunt/sched/go.hpp>

#include "on_fiber.hpp"

namespace {

void yield_among(benchmark::State& state) {
  const std::int64_t fibers = state.range(1);
  exeunt::bench::in_batches(state, 1000 * fibers, [fibers](std::int64_t count) {
    std::atomic<std::int64_t> running{fibers};
    for (std::int64_t i = 0; i < fibers; ++i) {
      exeunt::go([&running, share = count / fibers] {
        for (std::int64_t j = 0; j < share; ++j) exeunt::yield();
        running.fetch_sub(1);
      });
    }
    while (running.load() > 0) exeunt::yield();
  });
}
BENCHMARK(yield_among)
    ->ArgNames({"workers", "fibers"})
    ->ArgsProduct({{1, 2}, {2, 1000}})
    ->UseRealTime();

// The same for any number of them; they are there before the clock runs. While the fiber that
// measures yields once, all others do: on one worker only.
void yield_lap(benchmark::State& state) {
  const std::int64_t fibers = state.range(1);
  exeunt::bench::on_fiber(state, [&state, fibers] {
    bool over = false;
    std::int64_t others = 0;
    for (std::int64_t i = 1; i < fibers; ++i) {
      exeunt::go([&over, &others] {
        ++others;
        while (!over) exeunt::yield();
        --others;
      });
    }
    while (others < fibers - 1) exeunt::yield();
    while (state.KeepRunningBatch(fibers)) exeunt::yield();
    over = true;
    while (others > 0) exeunt::yield();
  });
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(yield_lap)
    ->ArgNames({"workers", "fibers"})
    ->ArgsProduct({{1}, {10, 100, 1'000, 10'000, 100'000, 1'000'000}})
    ->UseRealTime();

}  // namespace
