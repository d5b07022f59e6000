// SPDX-License-Identifier: Apache-2.0
// Runs a benchmark's loop in a fiber of a runtime that lives as long as the benchmark.
//
// Such a loop may end on another thread than it began on: its time is wall time, so benchmarks say
// ->UseRealTime().

#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>

#include <exeunt/sched/runtime.hpp>

namespace exeunt::bench {

/// Calls `body()` in a fiber; the workers are the benchmark's first argument.
template <typename F>
void on_fiber(benchmark::State& state, F body) {
  runtime fibers{{.procs = static_cast<unsigned>(state.range(0))}};
  fibers.run(body);
}

/// Calls `work(count)` for batches of `batch` operations until the benchmark has enough of them.
template <typename F>
void in_batches(benchmark::State& state, std::int64_t batch, F work) {
  on_fiber(state, [&] {
    while (state.KeepRunningBatch(batch)) work(batch);
  });
  state.SetItemsProcessed(state.iterations());
}

}  // namespace exeunt::bench
