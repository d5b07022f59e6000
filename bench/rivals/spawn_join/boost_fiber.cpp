// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, with Boost.Fiber.

#include "boost_fiber.hpp"

namespace {

using namespace rivals::boost_fiber;

void spawn_join(long count, long batch) {
  wait_group group;
  for (long i = 0; i < count; i += batch) {
    group.add(batch);
    for (long j = 0; j < batch; ++j) go([&group] { group.done(); });
    group.wait();
  }
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return run(bench.workers(), [&] {
    bench.per_op("spawn_join_batch", 1'000'000, 10'000, [](long n) { spawn_join(n, 10'000); });
    bench.per_op("spawn_join_one", 500'000, 1, [](long n) { spawn_join(n, 1); });
  });
}
