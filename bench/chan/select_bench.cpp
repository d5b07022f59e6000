// SPDX-License-Identifier: Apache-2.0
// Question:  what does choosing among channels cost, when one is ready, when none is, when parked?
// Unit:      one item = one select(), or one round trip of four. Lower time is better.
// Compare:   bench/rivals/select, the same in Go; chan_bench for the channels alone.
//            losing_in_a_crowd with losing_apart: whoever leaves a channel that he has not been
//            chosen from may not pay for those who wait there, too. That both grow is the caches'.
// Not said:  nothing about many fibers that are chosen from the same channel.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/sched/go.hpp>

#include "on_fiber.hpp"

namespace {

using numbers = exeunt::chan<std::int64_t>;
constexpr auto nothing = [] {};

void one_of_two_ready(benchmark::State& state) {
  exeunt::bench::on_fiber(state, [&state] {
    const numbers a{1};
    const numbers b{1};
    for (auto _ : state) {
      b.send(1);
      exeunt::select(exeunt::on_recv(a, nothing), exeunt::on_recv(b, nothing));
    }
  });
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(one_of_two_ready)->ArgName("workers")->Arg(1)->UseRealTime();

void none_ready(benchmark::State& state) {
  exeunt::bench::on_fiber(state, [&state] {
    const numbers a;
    for (auto _ : state) {
      exeunt::select(exeunt::on_recv(a, nothing), exeunt::otherwise(nothing));
    }
  });
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(none_ready)->ArgName("workers")->Arg(1)->UseRealTime();

void parked_ping_pong(benchmark::State& state) {
  exeunt::bench::on_fiber(state, [&state] {
    const numbers there;
    const numbers back;
    const numbers never;
    const exeunt::chan<void> ended;
    exeunt::go([there, back, never, ended] {
      bool more = true;
      while (more) {
        exeunt::select(
            exeunt::on_recv(
                there, [&more](std::optional<std::int64_t> value) { more = value.has_value(); }),
            exeunt::on_recv(never, nothing));
        if (!more) break;
        exeunt::select(exeunt::on_send(back, 1, nothing), exeunt::on_recv(never, nothing));
      }
      ended.close();
    });
    for (auto _ : state) {
      exeunt::select(exeunt::on_send(there, 1, nothing), exeunt::on_recv(never, nothing));
      exeunt::select(exeunt::on_recv(back, nothing), exeunt::on_recv(never, nothing));
    }
    there.close();
    static_cast<void>(ended.recv());
  });
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(parked_ping_pong)->ArgName("workers")->Arg(1)->Arg(2)->UseRealTime();

// `count` fibers select again and again, each between a channel of its own, on which they are
// served in no order, and one on which nothing comes: the same for all of them, or for each
// another.
void losing(benchmark::State& state, bool in_a_crowd) {
  exeunt::bench::on_fiber(state, [&state, in_a_crowd] {
    const std::int64_t count = state.range(1);
    std::vector<numbers> own(static_cast<std::size_t>(count));
    const numbers crowded;
    const exeunt::chan<void> ended;
    for (const numbers& mine : own) {
      exeunt::go([mine, idle = in_a_crowd ? crowded : numbers{}, ended] {
        bool more = true;
        const auto see = [&more](std::optional<std::int64_t> value) { more = value.has_value(); };
        while (more) exeunt::select(exeunt::on_recv(idle, nothing), exeunt::on_recv(mine, see));
        ended.send();
      });
    }
    std::ranges::shuffle(own, std::minstd_rand{7});
    for (const numbers& each : own) each.send(0);  // Now each has its stack.
    while (state.KeepRunningBatch(count)) {
      for (const numbers& each : own) each.send(1);
    }
    for (const numbers& each : own) each.close();
    for (std::int64_t i = 0; i < count; ++i) static_cast<void>(ended.recv());
  });
  state.SetItemsProcessed(state.iterations());
}

void losing_in_a_crowd(benchmark::State& state) { losing(state, true); }
BENCHMARK(losing_in_a_crowd)
    ->ArgNames({"workers", "count"})
    ->ArgsProduct({{1}, {10, 100, 1'000, 10'000}})
    ->UseRealTime();

void losing_apart(benchmark::State& state) { losing(state, false); }
BENCHMARK(losing_apart)
    ->ArgNames({"workers", "count"})
    ->ArgsProduct({{1}, {10, 100, 1'000, 10'000}})
    ->UseRealTime();

}  // namespace
