// SPDX-License-Identifier: Apache-2.0
// Small programs that tell memory models apart: a few parties take one step each, all at once, and
// afterwards somebody judges what they have seen.

#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sim/gtest.hpp>
#include <exeunt/sync/wait_group.hpp>

namespace exeunt::test {

/// What a program does in one round: its parties' steps, and the judge, who runs alone after them.
struct litmus {
  std::vector<std::function<void()>> steps;
  std::function<void()> judge;
};

#if defined(EXEUNT_TSAN) || defined(EXEUNT_ASAN)
inline constexpr int litmus_rounds = 2'000;
#else
inline constexpr int litmus_rounds = 20'000;
#endif

/// Lets nobody go on before all have come.
class litmus_barrier {
 public:
  explicit litmus_barrier(std::size_t parties) : parties_{parties} {}
  void meet(std::size_t round) {
    const std::size_t all = (round + 1) * parties_;
    arrived_.fetch_add(1);
    for (int looks = 0; arrived_.load() < all; ++looks) {
      if (looks > 1000) std::this_thread::yield();
    }
  }

 private:
  const std::size_t parties_;
  std::atomic<std::size_t> arrived_{0};
};

/// Rounds on the machine: each party is the only fiber of a runtime of one worker, so that all run
/// at once, and they meet at a barrier before each round. The first one also judges.
inline void run_litmus(const litmus& program, int rounds = litmus_rounds) {
  litmus_barrier before{program.steps.size()};
  litmus_barrier after{program.steps.size()};
  litmus_barrier judged{program.steps.size()};
  std::vector<std::thread> parties;
  for (std::size_t i = 0; i < program.steps.size(); ++i) {
    parties.emplace_back([&, i] {
      runtime alone{{.procs = 1}};
      alone.run([&] {
        for (std::size_t round = 0; round < static_cast<std::size_t>(rounds); ++round) {
          before.meet(round);
          program.steps[i]();
          after.meet(round);
          if (i == 0) program.judge();
          judged.meet(round);
        }
      });
    });
  }
  for (std::thread& one : parties) one.join();
}

/// All orders of the parties' calls, one after the other. `make` makes the program anew for each.
/// Whether these are all is checked, and how many there were is returned.
inline std::uint64_t explore_litmus(const std::function<litmus()>& make, unsigned preemptions) {
  const auto* const test = ::testing::UnitTest::GetInstance()->current_test_info();
  const sim::explored seen =
      sim::expect_explored({.name = std::string{test->test_suite_name()} + "." + test->name(),
                            .schedules = 100'000,
                            .preemptions = preemptions,
                            .exhaustive = true},
                           [&make] {
                             const litmus program = make();
                             wait_group parties;
                             for (const auto& step : program.steps) parties.go(step);
                             parties.wait();
                             program.judge();
                           });
  EXPECT_TRUE(seen.covered) << "of " << seen.schedules << " schedules";
  return seen.schedules;
}

}  // namespace exeunt::test

/// The program that `make()` makes, on the machine, and in each order of its calls in which a party
/// is preempted so often at most.
#define EXEUNT_LITMUS_TEST(suite, name, make, preemptions)  \
  TEST(suite, name) { ::exeunt::test::run_litmus(make()); } \
  TEST(suite, name##_explored) { EXPECT_GT(::exeunt::test::explore_litmus(make, preemptions), 2U); }
