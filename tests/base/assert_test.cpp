// SPDX-License-Identifier: Apache-2.0

#include <exeunt/base/assert.hpp>

#include <cstring>

#include <gtest/gtest.h>

namespace exeunt {
namespace {

TEST(base_assert, lets_a_true_condition_pass_and_evaluates_it_once) {
  int evaluations = 0;
  EXEUNT_ASSERT(++evaluations == 1);
  EXPECT_EQ(evaluations, 1);
}

TEST(base_assert, is_an_expression) {
  const int value = (EXEUNT_ASSERT(true), 7);
  EXPECT_EQ(value, 7);
}

#ifdef EXEUNT_DCHECKS
TEST(base_assert_death, dcheck_aborts_when_it_is_on) {
  EXPECT_DEATH(EXEUNT_DCHECK(1 > 2, "numbers have changed"), "1 > 2: numbers have changed");
}
#else
TEST(base_assert, dcheck_evaluates_nothing_when_it_is_off) {
  int evaluations = 0;
  EXEUNT_DCHECK(++evaluations > 0);
  EXPECT_EQ(evaluations, 0);
}
#endif

TEST(base_assert_death, says_the_condition_the_place_and_the_reason) {
  const auto fail_here = [](int count) { EXEUNT_ASSERT(count > 0, "nobody came"); };
  EXPECT_DEATH(fail_here(0), "fatal: .*assert_test\\.cpp:[0-9]+: count > 0: nobody came");
}

TEST(base_assert_death, needs_no_reason) {
  const auto fail_here = [](int count) { EXEUNT_ASSERT(count > 0); };
  EXPECT_DEATH(fail_here(0), "assert_test\\.cpp:[0-9]+: count > 0\n");
}

TEST(base_assert_death, unreachable_aborts_in_every_build) {
  EXPECT_DEATH(EXEUNT_UNREACHABLE("a seventh day"), "unreachable: a seventh day");
}

TEST(base_assert_death, fatal_says_what_happened) {
  EXPECT_DEATH(detail::fatal("unlock of unlocked mutex"),
               "exeunt: fatal: unlock of unlocked mutex");
}

TEST(base_assert_death, a_report_names_who_was_running) {
  const auto fail_described = [] {
    detail::set_describe_running([](char* buffer, unsigned long size) noexcept {
      std::strncpy(buffer, "fiber 7 'reader'", size - 1);
    });
    detail::fatal("broken");
  };
  EXPECT_DEATH(fail_described(), "fatal: broken\n  in fiber 7 'reader'");
}

}  // namespace
}  // namespace exeunt
