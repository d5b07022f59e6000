// SPDX-License-Identifier: Apache-2.0
// Question:  what do the things that bound what goes on cost a caller who need not wait?
// Unit:      one item = one acquire() and release(), one allow(), one wait(), one call() of a
//            function, or one value through a queue. Lower is better.
// Compare:   bench/rivals/flows.
// Not said:  nothing about those who wait.

#include <benchmark/benchmark.h>

#include <cstdint>

#include <exeunt/context/context.hpp>
#include <exeunt/sync/queue.hpp>
#include <exeunt/sync/rate_limiter.hpp>
#include <exeunt/sync/semaphore.hpp>
#include <exeunt/sync/singleflight.hpp>

#include "on_fiber.hpp"

namespace {

template <typename F>
void alone(benchmark::State& state, F operation) {
  exeunt::bench::on_fiber(state, [&] {
    for (auto _ : state) operation();
  });
  state.SetItemsProcessed(state.iterations());
}

void semaphore_alone(benchmark::State& state) {
  exeunt::semaphore units{8};
  alone(state, [&] {
    units.acquire();
    units.release();
  });
}
BENCHMARK(semaphore_alone)->ArgName("workers")->Arg(1)->UseRealTime();

void rate_allowed(benchmark::State& state) {
  exeunt::rate_limiter limiter{1e12, 1'000'000};
  alone(state, [&] { benchmark::DoNotOptimize(limiter.allow()); });
}
BENCHMARK(rate_allowed)->ArgName("workers")->Arg(1)->UseRealTime();

void rate_refused(benchmark::State& state) {
  exeunt::rate_limiter limiter{1e-9, 1};
  alone(state, [&] { benchmark::DoNotOptimize(limiter.allow()); });
}
BENCHMARK(rate_refused)->ArgName("workers")->Arg(1)->UseRealTime();

void rate_waited(benchmark::State& state) {
  exeunt::rate_limiter limiter{1e12, 1'000'000};
  const exeunt::context ctx = exeunt::context::background();
  alone(state, [&] { benchmark::DoNotOptimize(limiter.wait(ctx).has_value()); });
}
BENCHMARK(rate_waited)->ArgName("workers")->Arg(1)->UseRealTime();

void singleflight_alone(benchmark::State& state) {
  exeunt::singleflight<std::uint64_t, std::uint64_t> flights;
  std::uint64_t key = 0;
  alone(state,
        [&] { benchmark::DoNotOptimize(**flights.call(++key % 1024, [&] { return key; })); });
}
BENCHMARK(singleflight_alone)->ArgName("workers")->Arg(1)->UseRealTime();

void queue_alone(benchmark::State& state) {
  exeunt::queue<std::uint64_t> numbers;
  alone(state, [&] {
    benchmark::DoNotOptimize(numbers.push(1));
    benchmark::DoNotOptimize(numbers.pop());
  });
}
BENCHMARK(queue_alone)->ArgName("workers")->Arg(1)->UseRealTime();

}  // namespace
