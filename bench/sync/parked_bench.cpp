// SPDX-License-Identifier: Apache-2.0
// Question:  does a fiber cost the same among ten and among a million?
// Unit:      one fiber; nanoseconds. `create` is starting it and letting it run until it waits,
//            `wake_join` is waking it and waiting for its end. `fresh_*` is a runtime's first
//            crowd, whose stacks are new memory; the others are the second one's. The time column
//            is the sum. `bytes` are pages and page tables, `mappings` the lines of
//            /proc/self/maps, both with all of them parked.
// Compare:   bench/rivals/parked, the same for one size, in Go and with Boost.Fiber.
// Not said:  nothing about fibers that use more than a page of stack.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <limits>

#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "rivals/harness.hpp"

namespace {

double mappings() {
  std::ifstream maps{"/proc/self/maps"};
  double lines = 0;
  while (maps.ignore(std::numeric_limits<std::streamsize>::max(), '\n')) ++lines;
  return lines;
}

// Sums over all rounds.
struct sums {
  double create = 0;
  double wake_join = 0;
  double bytes = 0;
  double mappings = 0;
};

void crowd(std::int64_t fibers, bool look, sums& to) {
  exeunt::wait_group gate;
  exeunt::wait_group started;
  exeunt::wait_group ended;
  gate.add(1);
  started.add(fibers);
  ended.add(fibers);
  const double before = look ? rivals::resident_bytes() : 0;
  auto start = rivals::steady::now();
  for (std::int64_t i = 0; i < fibers; ++i) {
    exeunt::go([&] {
      started.done();
      gate.wait();
      ended.done();
    });
  }
  started.wait();
  to.create += rivals::ns_since(start);
  if (look) {
    to.bytes += rivals::resident_bytes() - before;
    to.mappings += mappings();
  }
  start = rivals::steady::now();
  gate.done();
  ended.wait();
  to.wake_join += rivals::ns_since(start);
}

void parked_among(benchmark::State& state) {
  const std::int64_t fibers = state.range(1);
  sums fresh;
  sums again;
  for (auto _ : state) {
    const double before = fresh.create + fresh.wake_join + again.create + again.wake_join;
    exeunt::runtime home{{.procs = static_cast<unsigned>(state.range(0))}};
    home.run([&] {
      crowd(fibers, true, fresh);
      crowd(fibers, false, again);
    });
    const double after = fresh.create + fresh.wake_join + again.create + again.wake_join;
    state.SetIterationTime((after - before) / static_cast<double>(fibers) * 1e-9);
  }
  const auto rounds = static_cast<double>(state.iterations());
  const auto all = rounds * static_cast<double>(fibers);
  state.counters["fresh_create"] = fresh.create / all;
  state.counters["fresh_wake_join"] = fresh.wake_join / all;
  state.counters["create"] = again.create / all;
  state.counters["wake_join"] = again.wake_join / all;
  state.counters["bytes"] = fresh.bytes / all;
  state.counters["mappings"] = fresh.mappings / rounds;
}

// As many fibers in all for each size, but for the largest.
void register_sizes() {
  for (const int workers : {1, 2}) {
    for (std::int64_t fibers = 10; fibers <= 1'000'000; fibers *= 10) {
      benchmark::RegisterBenchmark("parked_among", parked_among)
          ->ArgNames({"workers", "fibers"})
          ->Args({workers, fibers})
          ->Iterations(std::max<std::int64_t>(100'000 / fibers, 1))
          ->UseManualTime();
    }
  }
}
[[maybe_unused]] const bool registered = (register_sizes(), true);

}  // namespace
