// SPDX-License-Identifier: Apache-2.0
// Question:  how many schedules does an exploration run in a second, and what does it cost to
// choose
//            among many fibers?
// Unit:      hand_overs: one item = one schedule of three fibers that hand on a number ten times.
//            many_ready: one item = one turn of a fiber while `fibers` of them are ready.
// Compare:   with nothing; tools/benchdiff.py shows before and after.
// Not said:  nothing about what the tested program itself costs.

#include <benchmark/benchmark.h>

#include <array>
#include <cstdint>

#include <exeunt/chan/chan.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sim/explore.hpp>

namespace {

// Step n is handed from fiber n - 1 to fiber n, modulo 3.
void ten_hand_overs() {
  const std::array<exeunt::chan<int>, 3> to;
  const auto play = [=](int me) {
    for (int step = 1; step <= 10; ++step) {
      if (step % 3 == me) {
        benchmark::DoNotOptimize(to[static_cast<std::size_t>(me)].recv());
      } else if ((step - 1) % 3 == me) {
        to[static_cast<std::size_t>(step % 3)].send(step);
      }
    }
  };
  exeunt::go([=] { play(1); });
  exeunt::go([=] { play(2); });
  play(0);
}

// An exploration starts a runtime, which so many schedules share.
constexpr std::uint64_t schedules = 10'000;

void hand_overs(benchmark::State& state) {
  std::int64_t sum = 0;
  for (auto _ : state) {
    sum += static_cast<std::int64_t>(
        exeunt::sim::explore({.schedules = schedules,
                              .preemptions = static_cast<unsigned>(state.range(0)),
                              .exhaustive = state.range(1) != 0},
                             ten_hand_overs)
            .schedules);
  }
  state.SetItemsProcessed(sum);
}
BENCHMARK(hand_overs)
    ->ArgNames({"preemptions", "exhaustive"})
    ->Args({0, 0})
    ->Args({3, 0})
    ->Args({3, 1})
    ->UseRealTime();

void many_ready(benchmark::State& state) {
  constexpr int turns = 10;
  const std::int64_t fibers = state.range(0);
  for (auto _ : state) {
    exeunt::sim::explore({.schedules = 10, .preemptions = 0}, [fibers] {
      for (std::int64_t i = 0; i < fibers; ++i) {
        exeunt::go([] {
          for (int turn = 1; turn < turns; ++turn) exeunt::yield();
        });
      }
    });
  }
  state.SetItemsProcessed(state.iterations() * 10 * turns * fibers);
}
BENCHMARK(many_ready)
    ->ArgNames({"fibers"})
    ->Arg(10)
    ->Arg(100)
    ->Arg(1'000)
    ->Arg(10'000)
    ->UseRealTime();

}  // namespace
