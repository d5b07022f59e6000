// SPDX-License-Identifier: Apache-2.0
// Runs a test's body as a fiber of a runtime of 1, 2 and 4 workers, and checks what it leaves.

#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>

#include <exeunt/base/clock.hpp>
#include <exeunt/sched/runtime.hpp>

namespace exeunt::test {

/// Stops `workers` when all of its fibers have ended. Those that are ready when run() returns may
/// need longer than a stop waits: a sanitizer's build maps a stack anew for each.
inline void stop_and_expect_none_left(runtime& workers) {
  const clock::time_point limit = clock::now() + std::chrono::seconds{30};
  while (workers.stats().fibers_alive > 0 && clock::now() < limit) std::this_thread::yield();
  EXPECT_EQ(workers.stop(), 0U) << "fibers were left behind";
}

/// Parameter: the number of workers.
class on_workers : public ::testing::TestWithParam<unsigned> {
 protected:
  /// Runs `body` as the main fiber and expects that it leaves no fiber behind.
  template <typename F>
  void run(F&& body) {
    runtime workers{{.procs = GetParam()}};
    workers.run(body);
    stop_and_expect_none_left(workers);
  }
};

/// The same for one number of workers, in a plain TEST.
template <typename F>
void run_on(unsigned procs, F&& body) {
  runtime workers{{.procs = procs}};
  workers.run(body);
  stop_and_expect_none_left(workers);
}

}  // namespace exeunt::test

/// For each suite derived from on_workers: 1, 2 and 4 workers.
#define EXEUNT_ON_WORKERS(suite)                                          \
  INSTANTIATE_TEST_SUITE_P(workers, suite, ::testing::Values(1U, 2U, 4U), \
                           [](const auto& workers) { return std::to_string(workers.param); })
