// SPDX-License-Identifier: Apache-2.0
// As on_workers.hpp; and once more in a simulation, under a few dozen schedules.

#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include <exeunt/sched/go.hpp>
#include <exeunt/sim/bubble.hpp>
#include <exeunt/sim/gtest.hpp>

#include "support/on_workers.hpp"

namespace exeunt::test {

/// Parameter: the number of workers; 0 is a simulation.
class explored : public on_workers {
 protected:
  static constexpr std::uint64_t schedules = 50;

  [[nodiscard]] static bool is_simulated() { return GetParam() == 0; }

  /// For what must not happen: until all others wait; without a simulation, for some turns.
  static void let_others_run() {
    if (sim::inside()) return sim::settle();
    for (int turn = 0; turn < 100; ++turn) yield();
  }

  /// Runs `body` as on_workers does, or under some schedules.
  template <typename F>
  void run(F&& body) {
    if (!is_simulated()) return on_workers::run(body);
    sim::expect_explored({.schedules = schedules}, body);
  }
};

}  // namespace exeunt::test

/// For each suite derived from explored: simulated, and with 1, 2 and 4 workers; in core_model
/// simulated only.
#ifdef EXEUNT_CORE_MODEL
#define EXEUNT_EXPLORED_WITH ::testing::Values(0U)
#else
#define EXEUNT_EXPLORED_WITH ::testing::Values(0U, 1U, 2U, 4U)
#endif
#define EXEUNT_EXPLORED(suite)                                                          \
  INSTANTIATE_TEST_SUITE_P(workers, suite, EXEUNT_EXPLORED_WITH, [](const auto& with) { \
    return with.param == 0 ? std::string{"simulated"} : std::to_string(with.param);     \
  })
