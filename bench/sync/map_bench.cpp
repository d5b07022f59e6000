// SPDX-License-Identifier: Apache-2.0
// Question:  what does a look cost that hits, beside some stores, in a small map and in one that no
//            cache holds?
// Unit:      one item = one load() or store(), nine to one. Lower is better.
// Compare:   bench/rivals/map, the same in Go with its sync.Map.
// Not said:  nothing about growing, nor about values that are dear to copy.

#include <benchmark/benchmark.h>

#include <cstdint>

#include <exeunt/base/random.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sync/map.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "on_fiber.hpp"

namespace {

void map_reads(benchmark::State& state) {
  const std::int64_t fibers = state.range(0);
  const auto keys = static_cast<std::uint32_t>(state.range(1));
  exeunt::map<std::uint64_t, std::uint64_t> numbers;
  for (std::uint64_t key = 0; key < keys; ++key) numbers.store(key, key);
  exeunt::bench::in_batches(state, 100'000 * fibers, [&](std::int64_t count) {
    exeunt::wait_group group;
    for (std::int64_t f = 0; f < fibers; ++f) {
      group.go([&, f, share = count / fibers] {
        exeunt::detail::random_source random{static_cast<std::uint64_t>(f + 1)};
        for (std::int64_t i = 0; i < share; ++i) {
          const std::uint64_t key = random.below(keys);
          if (random.below(10) == 0) {
            numbers.store(key, key);
          } else {
            benchmark::DoNotOptimize(numbers.load(key));
          }
        }
      });
    }
    group.wait();
  });
}
BENCHMARK(map_reads)
    ->ArgNames({"workers", "keys"})
    ->ArgsProduct({{1, 2}, {1'000, 1'000'000}})
    ->UseRealTime();

}  // namespace
