// SPDX-License-Identifier: Apache-2.0
// Question:  what does a mutex cost alone, and with fibers that want nothing else?
// Unit:      one item = one lock() and unlock(). Lower time is better.
// Compare:   bench/rivals/mutex, the same in Go and with Boost.Fiber.
// Not said:  nothing about how long the unluckiest waits, nor about longer critical sections.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <mutex>

#include <exeunt/sched/go.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "on_fiber.hpp"

namespace {

void uncontended(benchmark::State& state) {
  exeunt::bench::on_fiber(state, [&state] {
    exeunt::mutex mutex;
    for (auto _ : state) {
      mutex.lock();
      benchmark::ClobberMemory();
      mutex.unlock();
    }
  });
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(uncontended)->ArgName("workers")->Arg(1)->UseRealTime();

void contended(benchmark::State& state) {
  const std::int64_t fibers = state.range(1);
  exeunt::bench::in_batches(state, 10'000 * fibers, [fibers](std::int64_t count) {
    exeunt::mutex mutex;
    exeunt::wait_group group;
    std::int64_t total = 0;
    for (std::int64_t i = 0; i < fibers; ++i) {
      group.go([&, share = count / fibers] {
        for (std::int64_t j = 0; j < share; ++j) {
          const std::lock_guard lock{mutex};
          benchmark::DoNotOptimize(++total);
        }
      });
    }
    group.wait();
  });
}
BENCHMARK(contended)
    ->ArgNames({"workers", "fibers"})
    ->ArgsProduct({{1, 2}, {2, 8, 64}})
    ->UseRealTime();

}  // namespace
