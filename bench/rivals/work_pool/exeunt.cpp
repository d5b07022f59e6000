// SPDX-License-Identifier: Apache-2.0
// Eight consumers that compute for so many steps of some nanosecond on each number that a producer
// sends them, and send on what they get: from where on do two workers take less time than one?

#include <cstdint>
#include <string>

#include <exeunt/chan/chan.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"

namespace {

// Each step needs the one before: 4 cycles.
std::uint64_t compute(std::uint64_t seed, long steps) {
  for (long i = 0; i < steps; ++i) {
    seed = seed * 6364136223846793005U + 1442695040888963407U;
  }
  return seed;
}

void work_pool(long count, long steps) {
  constexpr long consumers = 8;
  exeunt::chan<std::uint64_t> tasks{100};
  exeunt::chan<std::uint64_t> results{100};
  exeunt::wait_group group;
  for (long i = 0; i < consumers; ++i) {
    group.go([&] {
      while (const auto task = tasks.recv()) results.send(compute(*task, steps));
    });
  }
  group.go([&] {
    for (long i = 0; i < count; ++i) tasks.send(static_cast<std::uint64_t>(i));
    tasks.close();
  });
  std::uint64_t sum = 0;
  for (long i = 0; i < count; ++i) sum += *results.recv();
  group.wait();
  rivals::keep(sum);
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return exeunt::run(
      [&] {
        for (const long steps : {100L, 300L, 1000L, 3000L, 10'000L}) {
          bench.per_op("work_of_" + std::to_string(steps) + "_steps", 100'000'000 / (steps + 100),
                       1, [steps](long n) { work_pool(n, steps); });
        }
      },
      {.procs = bench.workers()});
}
