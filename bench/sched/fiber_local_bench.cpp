// SPDX-License-Identifier: Apache-2.0
// Question:  what does a look at a fiber's own variable cost, and what a turn with switch hooks?
// Unit:      one item = one look, one fiber with one value, or one yield(). Lower time is better.
// Compare:   a_thread_local is the least that any such variable could cost; yield_hooked without
//            hooks is what hooks are added to.
// Not said:  nothing about the first use by a fiber, but in fiber_with_a_value.

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>
#include <utility>

#include <exeunt/sched/fiber_local.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>

#include "on_fiber.hpp"

namespace {

thread_local std::int64_t of_thread = 0;
[[gnu::noinline]] std::int64_t& thread_value() {
  std::int64_t* here = &of_thread;
  asm volatile("" : "+r"(here) : : "memory");
  return *here;
}
constinit exeunt::fiber_local<std::int64_t> of_fiber;

void a_thread_local(benchmark::State& state) {
  exeunt::bench::in_batches(state, 1000, [](std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) benchmark::DoNotOptimize(++thread_value());
  });
}
BENCHMARK(a_thread_local)->Arg(1)->UseRealTime();

void a_fiber_local(benchmark::State& state) {
  exeunt::bench::in_batches(state, 1000, [](std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) benchmark::DoNotOptimize(++*of_fiber);
  });
}
BENCHMARK(a_fiber_local)->Arg(1)->UseRealTime();

void fiber_with_a_value(benchmark::State& state) {
  const bool uses = state.range(1) != 0;
  exeunt::bench::in_batches(state, 100, [uses](std::int64_t count) {
    std::atomic<std::int64_t> running{count};
    for (std::int64_t i = 0; i < count; ++i) {
      exeunt::go([&running, uses] {
        if (uses) benchmark::DoNotOptimize(++*of_fiber);
        running.fetch_sub(1);
      });
    }
    while (running.load() > 0) exeunt::yield();
  });
}
BENCHMARK(fiber_with_a_value)
    ->ArgNames({"workers", "uses"})
    ->ArgsProduct({{1}, {0, 1}})
    ->UseRealTime();

void swap_it(void* state) noexcept {
  std::swap(*static_cast<std::int64_t*>(state), thread_value());
}

void yield_hooked(benchmark::State& state) {
  exeunt::runtime_options options{.procs = 1};
  if (state.range(0) != 0) options.on_switch = {{.enter = swap_it, .leave = swap_it}};
  exeunt::runtime fibers{std::move(options)};
  fibers.run([&] {
    std::atomic<bool> ends{false};
    exeunt::go([&] {
      while (!ends.load()) exeunt::yield();
      ends.store(false);
    });
    for (auto _ : state) exeunt::yield();
    ends.store(true);
    while (ends.load()) exeunt::yield();
  });
  state.SetItemsProcessed(2 * state.iterations());
}
BENCHMARK(yield_hooked)->ArgName("hooks")->Arg(0)->Arg(1)->UseRealTime();

}  // namespace
