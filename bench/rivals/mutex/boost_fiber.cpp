// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, with Boost.Fiber.

#include <mutex>

#include "boost_fiber.hpp"
#include "locking.hpp"

namespace {

using namespace rivals::boost_fiber;

void lock_by_many(long count, long fibers) {
  bf::mutex mutex;
  wait_group group;
  long total = 0;
  group.add(fibers);
  for (long i = 0; i < fibers; ++i) {
    go([&, share = count / fibers] {
      for (long j = 0; j < share; ++j) {
        const std::lock_guard lock{mutex};
        ++total;
      }
      group.done();
    });
  }
  group.wait();
  rivals::require(total == count, "mutex");
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return run(bench.workers(), [&] {
    bench.per_op("mutex_uncontended", 20'000'000, 1, rivals::lock_alone<bf::mutex>);
    bench.per_op("mutex_2_fibers", 4'000'000, 2, [](long n) { lock_by_many(n, 2); });
    bench.per_op("mutex_8_fibers", 4'000'000, 8, [](long n) { lock_by_many(n, 8); });
    bench.per_op("mutex_64_fibers", 4'000'000, 64, [](long n) { lock_by_many(n, 64); });
  });
}
