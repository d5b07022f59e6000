// SPDX-License-Identifier: Apache-2.0
// Starting fibers that do nothing and waiting for them: 10 000 at a time, and one at a time.

#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"

namespace {

void spawn_join(long count, long batch) {
  exeunt::wait_group group;
  for (long i = 0; i < count; i += batch) {
    group.add(batch);
    for (long j = 0; j < batch; ++j) exeunt::go([&group] { group.done(); });
    group.wait();
  }
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return exeunt::run(
      [&] {
        bench.per_op("spawn_join_batch", 1'000'000, 10'000, [](long n) { spawn_join(n, 10'000); });
        bench.per_op("spawn_join_one", 500'000, 1, [](long n) { spawn_join(n, 1); });
      },
      {.procs = bench.workers()});
}
