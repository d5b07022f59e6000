// SPDX-License-Identifier: Apache-2.0
// A small world under every schedule; in core_model with a step at each atomic operation.

#pragma once

#include <gtest/gtest.h>

#include <string>

#include <exeunt/sim/explore.hpp>
#include <exeunt/sim/gtest.hpp>

namespace exeunt::test {

/// How many are enough where each run, or each step, costs more.
#if defined(EXEUNT_TSAN) || defined(EXEUNT_ASAN) || defined(EXEUNT_CORE_MODEL)
inline constexpr unsigned covered_preemptions = 1;
#else
inline constexpr unsigned covered_preemptions = 2;
#endif

/// Expects that `world` holds under all schedules with at most so many preemptions, and that these
/// are all.
template <typename F>
void explore_all(const std::string& name, unsigned most, F world) {
  const auto sum = sim::expect_explored(
      {.name = name, .schedules = 2'000'000, .preemptions = most, .exhaustive = true}, world);
  EXPECT_TRUE(sum.covered);
  ::testing::Test::RecordProperty("schedules_of_" + name, std::to_string(sum.schedules));
}
template <typename F>
void explore_all(const std::string& name, F world) {
  explore_all(name, covered_preemptions, world);
}

}  // namespace exeunt::test
