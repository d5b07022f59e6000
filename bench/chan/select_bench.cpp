// SPDX-License-Identifier: Apache-2.0
// Question:  what does choosing among channels cost, when one is ready, when none is, when parked?
// Unit:      one item = one select(), or one round trip of four. Lower time is better.
// Compare:   bench/rivals/select, the same in Go; chan_bench for the channels alone.
// Not said:  nothing about many fibers that select on the same channels.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <optional>

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

}  // namespace
