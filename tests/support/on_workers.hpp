// SPDX-License-Identifier: Apache-2.0
// Runs a test's body as a fiber of a runtime of 1, 2 and 4 workers, and checks what it leaves.

#pragma once

#include <gtest/gtest.h>

#include <exeunt/sched/runtime.hpp>

namespace exeunt::test {

/// Parameter: the number of workers.
class on_workers : public ::testing::TestWithParam<unsigned> {
 protected:
  /// Runs `body` as the main fiber and expects that it leaves no fiber behind.
  template <typename F>
  void run(F&& body) {
    runtime workers{{.procs = GetParam()}};
    workers.run(body);
    EXPECT_EQ(workers.stop(), 0U) << "fibers were left behind";
  }
};

/// The same for one number of workers, in a plain TEST.
template <typename F>
void run_on(unsigned procs, F&& body) {
  runtime workers{{.procs = procs}};
  workers.run(body);
  EXPECT_EQ(workers.stop(), 0U) << "fibers were left behind";
}

}  // namespace exeunt::test

/// For each suite derived from on_workers: 1, 2 and 4 workers.
#define EXEUNT_ON_WORKERS(suite)                                          \
  INSTANTIATE_TEST_SUITE_P(workers, suite, ::testing::Values(1U, 2U, 4U), \
                           [](const auto& workers) { return std::to_string(workers.param); })
