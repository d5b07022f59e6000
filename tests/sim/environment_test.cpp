// SPDX-License-Identifier: Apache-2.0
#include <exeunt/sim/explore.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>

#include <exeunt/sched/go.hpp>
#include <exeunt/sync/wait_group.hpp>

namespace exeunt {
namespace {

// This program's tests count schedules, so that a nightly run with more must not change theirs.
[[maybe_unused]] const bool counts_its_own =
    ::unsetenv("EXEUNT_SIM_SCHEDULES") == 0 && ::unsetenv("EXEUNT_SIM_SEED") == 0;

// Sets a variable of the environment while it lives.
class variable {
 public:
  variable(const char* name, const char* value) : name_{name} { ::setenv(name, value, 1); }
  ~variable() { ::unsetenv(name_); }
  variable(const variable&) = delete;
  variable& operator=(const variable&) = delete;

 private:
  const char* name_;
};

// The orders in which three fibers ran, one schedule after the other.
std::string orders_of(sim::explore_options options, sim::explored* sum = nullptr) {
  std::string orders;
  options.preemptions = 0;
  const sim::explored all = sim::explore(options, [&orders] {
    std::string order(3, ' ');
    std::atomic<std::size_t> places{0};
    wait_group group;
    for (const char name : {'a', 'b', 'c'}) {
      group.go([&order, &places, name] { order[places++] = name; });
    }
    group.wait();
    orders += order + ' ';
  });
  if (sum != nullptr) *sum = all;
  return orders;
}

std::uint64_t schedules_of(sim::explore_options options) {
  sim::explored sum;
  static_cast<void>(orders_of(std::move(options), &sum));
  return sum.schedules;
}

TEST(environment, says_how_many_schedules_are_tried) {
  const std::uint64_t all = schedules_of({.exhaustive = true});
  ASSERT_GT(all, 5U);
  {
    const variable more{"EXEUNT_SIM_SCHEDULES", "70"};
    EXPECT_EQ(schedules_of({.schedules = 10}), 70U);
    EXPECT_EQ(schedules_of({.schedules = 100}), 70U);
    EXPECT_EQ(schedules_of({.schedules = 5, .exhaustive = true}), all) << "a limit is raised";
  }
  const variable less{"EXEUNT_SIM_SCHEDULES", "5"};
  EXPECT_EQ(schedules_of({.exhaustive = true}), all) << "and not lowered";
  EXPECT_EQ(schedules_of({.schedules = 3, .exhaustive = true}), 5U);
}

TEST(environment, says_which_schedules_are_tried) {
  const std::string by_option = orders_of({.schedules = 30, .seed = 12'345});
  EXPECT_NE(orders_of({.schedules = 30}), by_option);
  const variable other{"EXEUNT_SIM_SEED", "12345"};
  EXPECT_EQ(orders_of({.schedules = 30}), by_option);
}

TEST(environment, nonsense_is_refused) {
  for (const char* const name : {"EXEUNT_SIM_SCHEDULES", "EXEUNT_SIM_SEED"}) {
    for (const char* const bad : {"", "many", "1k", "-1", "99999999999999999999"}) {
      const variable set{name, bad};
      try {
        sim::explore({}, [] {});
        ADD_FAILURE() << name << '=' << bad;
      } catch (const std::invalid_argument& refused) {
        EXPECT_NE(std::string{refused.what()}.find(name), std::string::npos) << refused.what();
      }
    }
  }
}

TEST(environment, a_word_of_a_command_is_quoted) {
  EXPECT_EQ(detail::quoted_for_shell("build/dev/a_test"), "build/dev/a_test");
  EXPECT_EQ(detail::quoted_for_shell("all/suite.test/simulated"), "all/suite.test/simulated");
  EXPECT_EQ(detail::quoted_for_shell("two words"), "'two words'");
  EXPECT_EQ(detail::quoted_for_shell("it's"), "'it'\\''s'");
  EXPECT_EQ(detail::quoted_for_shell("$HOME"), "'$HOME'");
  EXPECT_EQ(detail::quoted_for_shell(""), "''");
}

}  // namespace
}  // namespace exeunt
