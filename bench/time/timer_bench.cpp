// SPDX-License-Identifier: Apache-2.0
// Question:  what does a timer cost that is stopped before it is due, as most are?
// Unit:      one item = making a timer and stopping it. Lower time is better.
// Compare:   bench/rivals/timers, the same in Go.
// Not said:  nothing about how late timers fire.

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdint>
#include <vector>

#include <exeunt/time/timer.hpp>

#include "on_fiber.hpp"

namespace {

using namespace std::chrono_literals;

void create_stop(benchmark::State& state) {
  exeunt::bench::on_fiber(state, [&state] {
    std::vector<exeunt::timer> others;
    for (std::int64_t i = 0; i < state.range(1); ++i) others.emplace_back(1h + i * 1ms);
    std::int64_t turn = 0;
    for (auto _ : state) {
      exeunt::timer one{1h + ++turn % 1000 * 1ms};
      one.stop();
    }
  });
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(create_stop)
    ->ArgNames({"workers", "others"})
    ->ArgsProduct({{1}, {0, 10, 100, 1'000, 10'000, 100'000, 1'000'000}})
    ->UseRealTime();

}  // namespace
