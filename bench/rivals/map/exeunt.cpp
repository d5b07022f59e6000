// SPDX-License-Identifier: Apache-2.0
// A map of a million numbers that as many fibers as there are workers use at once: nine of ten
// times they look a number up, else they store one, each time another, by chance.

#include <cstdint>

#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/map.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"

namespace {

constexpr std::uint64_t keys = 1'000'000;

// Marsaglia's xorshift64, as in main.go.
std::uint64_t next(std::uint64_t& state) {
  state ^= state << 13U;
  state ^= state >> 7U;
  state ^= state << 17U;
  return state;
}

void use(exeunt::map<std::uint64_t, std::uint64_t>& numbers, long count, long fibers) {
  exeunt::wait_group group;
  group.add(fibers);
  for (long i = 0; i < fibers; ++i) {
    exeunt::go([&, i, share = count / fibers] {
      std::uint64_t state = 88'172'645'463'325'252U + static_cast<std::uint64_t>(i);
      std::uint64_t found = 0;
      for (long j = 0; j < share; ++j) {
        const std::uint64_t chance = next(state);
        const std::uint64_t key = chance % keys;
        if ((chance >> 32U) % 10 == 0) {
          numbers.store(key, key);
        } else {
          found += *numbers.load(key) == key ? 1 : 0;
        }
      }
      rivals::require(found > 0, "map");
      group.done();
    });
  }
  group.wait();
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return exeunt::run(
      [&] {
        exeunt::map<std::uint64_t, std::uint64_t> numbers;
        for (std::uint64_t key = 0; key < keys; ++key) numbers.store(key, key);
        const auto fibers = static_cast<long>(bench.workers());
        bench.per_op("map_90_reads", 10'000'000, fibers, [&](long n) { use(numbers, n, fibers); });
      },
      {.procs = bench.workers()});
}
