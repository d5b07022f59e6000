// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, with Boost.Fiber.

#include "boost_fiber.hpp"

namespace {

using namespace rivals::boost_fiber;

void yielders(long count, long fibers) {
  wait_group group;
  group.add(fibers);
  for (long i = 0; i < fibers; ++i) {
    go([&group, share = count / fibers] {
      for (long j = 0; j < share; ++j) boost::this_fiber::yield();
      group.done();
    });
  }
  group.wait();
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return run(bench.workers(), [&] {
    bench.per_op("yield_2", 4'000'000, 2, [](long n) { yielders(n, 2); });
    bench.per_op("yield_1000", 4'000'000, 1000, [](long n) { yielders(n, 1000); });
  });
}
