// SPDX-License-Identifier: Apache-2.0
// What a pool costs: as many fibers as workers take an object and give it back; and eight at a
// time. Then objects that one fiber takes, and another one gives back.

#include <array>
#include <cstdint>

#include <exeunt/chan/chan.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/pool.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"

namespace {

struct buffer {
  std::uint64_t words[8];
};

template <std::size_t AtOnce>
void get_and_put(long count, unsigned fibers) {
  exeunt::pool<buffer> buffers;
  exeunt::wait_group over;
  for (unsigned f = 0; f < fibers; ++f) {
    over.go([&] {
      const long share = count / static_cast<long>(fibers);
      for (long i = 0; i < share; i += static_cast<long>(AtOnce)) {
        std::array<exeunt::pooled<buffer>, AtOnce> mine;
        for (auto& one : mine) {
          one = buffers.get();
          ++one->words[0];
        }
      }
    });
  }
  over.wait();
}

void pass_on(long count) {
  exeunt::pool<buffer> buffers;
  exeunt::chan<exeunt::pooled<buffer>> line{64};
  exeunt::wait_group over;
  over.go([&] {
    for (long i = 0; i < count; ++i) line.send(buffers.get());
    line.close();
  });
  over.go([&] {
    while (auto one = line.recv()) ++(*one)->words[0];
  });
  over.wait();
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  const unsigned fibers = bench.workers();
  return exeunt::run(
      [&] {
        bench.per_op("pool_get_put", 50'000'000, fibers,
                     [&](long n) { get_and_put<1>(n, fibers); });
        bench.per_op("pool_eight_at_once", 50'000'000, 8 * fibers,
                     [&](long n) { get_and_put<8>(n, fibers); });
        bench.per_op("pool_passed_on", 5'000'000, 1, pass_on);
      },
      {.procs = bench.workers()});
}
