// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, with Boost.Fiber, which has sleeping fibers but no timers.

#include <algorithm>
#include <chrono>
#include <vector>

#include "boost_fiber.hpp"

namespace {

using namespace rivals::boost_fiber;
using namespace std::chrono_literals;

std::vector<double> sleepers(long fibers, long rounds) {
  std::vector<double> late(fibers * rounds);
  wait_group group;
  group.add(fibers);
  for (long i = 0; i < fibers; ++i) {
    go([&, i] {
      for (long j = 0; j < rounds; ++j) {
        const auto start = rivals::steady::now();
        boost::this_fiber::sleep_for(1ms);
        late[i * rounds + j] = rivals::ns_since(start) - 1e6;
      }
      group.done();
    });
  }
  group.wait();
  return late;
}

void lateness(rivals::harness& bench, long fibers, long rounds) {
  if (!bench.wants("sleep_1ms")) return;
  sleepers(fibers, std::max(rounds / 10, 1L));
  auto late = sleepers(fibers, rounds);
  bench.figure("sleep_1ms_late_p50", "ns", rivals::percentile(late, 50));
  bench.figure("sleep_1ms_late_p99", "ns", rivals::percentile(late, 99));
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return run(bench.workers(), [&] { lateness(bench, 1000, bench.scaled(100)); });
}
