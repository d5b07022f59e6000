// SPDX-License-Identifier: Apache-2.0
// Simulations as tests of GoogleTest, one line each:
//
//   EXEUNT_SIM_TEST(cache, forgets_after_an_hour) { … sim::advance(1h); EXPECT_FALSE(…); }
//   EXEUNT_EXPLORE_TEST(cache, survives_two_writers, .schedules = 5'000) { … }
//
// For any other test library call bubble() and explore(): what they throw fails its test.

#pragma once

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <exception>
#include <string>
#include <utility>

#include <exeunt/sim/bubble.hpp>
#include <exeunt/sim/explore.hpp>

/// A test whose body runs as bubble() runs it.
#define EXEUNT_SIM_TEST(suite, test)                                               \
  static void exeunt_sim_##suite##_##test();                                       \
  TEST(suite, test) { ::exeunt::sim::expect_bubble(exeunt_sim_##suite##_##test); } \
  static void exeunt_sim_##suite##_##test()

/// A test whose body runs as explore() runs it. What follows the name are members of
/// explore_options in their order, such as `.schedules = 5'000, .preemptions = 2`. A schedule fails
/// by an EXPECT_ or ASSERT_, too. Its name in a replay is "suite.test".
#define EXEUNT_EXPLORE_TEST(suite, test, ...)                                                   \
  static void exeunt_sim_##suite##_##test();                                                    \
  TEST(suite, test) {                                                                           \
    const ::exeunt::sim::explore_options exeunt_options{.name = #suite "." #test __VA_OPT__(, ) \
                                                            __VA_ARGS__};                       \
    ::exeunt::sim::expect_explored(exeunt_options, exeunt_sim_##suite##_##test);                \
  }                                                                                             \
  static void exeunt_sim_##suite##_##test()

namespace exeunt::sim {

/// bubble(f), whose failure is one of the running test.
template <typename F>
void expect_bubble(F&& f) {
  try {
    bubble(std::forward<F>(f));
  } catch (const failure& failed) {
    ADD_FAILURE() << failed.what();
  }
}

/// explore(options, f), whose failure is one of the running test. Failures that `f` notes down make
/// the schedule fail.
/// Returns: what was explored; nothing if it failed.
template <typename F>
explored expect_explored(explore_options options, F&& f) {
  ::testing::TestPartResultArray noted;
  int seen = 0;
  options.verdict = [&noted, &seen] {
    std::string text;
    for (; seen < noted.size(); ++seen) {
      const ::testing::TestPartResult& one = noted.GetTestPartResult(seen);
      if (!one.failed()) continue;
      text += one.file_name() == nullptr ? "" : one.file_name();
      text += ":" + std::to_string(one.line_number()) + "\n" + one.message() + "\n";
    }
    return text;
  };
  if (options.command.empty()) {
    const ::testing::TestInfo* const test = ::testing::UnitTest::GetInstance()->current_test_info();
    options.command = ::testing::internal::GetArgvs().front() +
                      " --gtest_filter=" + test->test_suite_name() + "." + test->name();
  }
  std::string failed;
  try {
    const ::testing::ScopedFakeTestPartResultReporter interceptor{
        ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ALL_THREADS, &noted};
    return explore(options, std::forward<F>(f));
  } catch (const failure& why) {
    failed = why.what();
  }
  ADD_FAILURE() << failed;
  return {};
}

}  // namespace exeunt::sim
