// SPDX-License-Identifier: Apache-2.0
// Question:  what does a hand-over between fibers cost, with and without a buffer?
// Unit:      one item = one round trip, one value taken, or one hop of the ring. Lower is better.
// Compare:   bench/rivals/ping_pong, producer_consumer and ring: the same in Go, with Boost.Fiber.
// Not said:  nothing about fairness, nor about values that are dear to move.

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include <exeunt/chan/chan.hpp>
#include <exeunt/sched/go.hpp>

#include "on_fiber.hpp"

namespace {

using numbers = exeunt::chan<std::int64_t>;

void ping_pong(benchmark::State& state) {
  exeunt::bench::on_fiber(state, [&state] {
    const numbers there;
    const numbers back;
    exeunt::go([there, back] {
      for (const std::int64_t value : there) back.send(value);
      back.close();
    });
    for (auto _ : state) {
      there.send(1);
      benchmark::DoNotOptimize(back.recv());
    }
    there.close();
    static_cast<void>(back.recv());
  });
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(ping_pong)->ArgName("workers")->Arg(1)->Arg(2)->UseRealTime();

void producer_consumer(benchmark::State& state) {
  const auto capacity = static_cast<std::size_t>(state.range(1));
  exeunt::bench::in_batches(state, 100'000, [capacity](std::int64_t count) {
    const numbers values{capacity};
    exeunt::go([values, count] {
      for (std::int64_t i = 0; i < count; ++i) values.send(i);
      values.close();
    });
    for (const std::int64_t value : values) benchmark::DoNotOptimize(value);
  });
}
BENCHMARK(producer_consumer)
    ->ArgNames({"workers", "capacity"})
    ->ArgsProduct({{1, 2}, {0, 1, 128}})
    ->UseRealTime();

void ring(benchmark::State& state) {
  const auto size = static_cast<std::size_t>(state.range(1));
  exeunt::bench::on_fiber(state, [&state, size] {
    const std::vector<numbers> links(size + 1);
    for (std::size_t i = 0; i < size; ++i) {
      exeunt::go([in = links[i], out = links[i + 1]] {
        for (const std::int64_t value : in) out.send(value);
        out.close();
      });
    }
    const auto hops = static_cast<std::int64_t>(size);
    while (state.KeepRunningBatch(hops)) {
      links.front().send(1);
      benchmark::DoNotOptimize(links.back().recv());
    }
    links.front().close();
    static_cast<void>(links.back().recv());
  });
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(ring)->ArgNames({"workers", "fibers"})->ArgsProduct({{1, 2}, {1000}})->UseRealTime();

}  // namespace
