// SPDX-License-Identifier: Apache-2.0
// Fibers that do nothing but let each other run: 2 of them, and 1000.

#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"

namespace {

void yielders(long count, long fibers) {
  exeunt::wait_group group;
  group.add(fibers);
  for (long i = 0; i < fibers; ++i) {
    exeunt::go([&group, share = count / fibers] {
      for (long j = 0; j < share; ++j) exeunt::yield();
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
        bench.per_op("yield_2", 4'000'000, 2, [](long n) { yielders(n, 2); });
        bench.per_op("yield_1000", 4'000'000, 1000, [](long n) { yielders(n, 1000); });
      },
      {.procs = bench.workers()});
}
