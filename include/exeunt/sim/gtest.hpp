// SPDX-License-Identifier: Apache-2.0
// Simulations as tests of GoogleTest, one line each:
//
//   EXEUNT_SIM_TEST(cache, forgets_after_an_hour) { … sim::advance(1h); EXPECT_FALSE(…); }
//   EXEUNT_EXPLORE_TEST(cache, survives_two_writers, .schedules = 5'000) { … }
//
// and with a fixture, which is made, set up and torn down inside, anew for each schedule:
//
//   class with_server : public ::testing::Test { … sim::network wires_; http::server app_{…}; };
//   EXEUNT_SIM_TEST_F(with_server, closes_an_idle_connection) { … app_ … }
//   EXEUNT_EXPLORE_TEST_F(with_server, answers_whom_it_let_in, .schedules = 300) { … }
//
// A failure is told at the line of the macro, or of the call; a GTEST_SKIP() inside skips the test.
// For any other test library call bubble() and explore(): what they throw fails its test.

#pragma once

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <source_location>
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
#define EXEUNT_EXPLORE_TEST(suite, test, ...)                                   \
  static void exeunt_sim_##suite##_##test();                                    \
  TEST(suite, test) {                                                           \
    ::exeunt::sim::expect_explored(::exeunt::sim::explore_options{__VA_ARGS__}, \
                                   exeunt_sim_##suite##_##test);                \
  }                                                                             \
  static void exeunt_sim_##suite##_##test()

/// EXEUNT_SIM_TEST with a fixture, a class derived from ::testing::Test with a default constructor.
/// It may stand beside TEST_F of the same fixture; SetUpTestSuite() is called outside, once.
#define EXEUNT_SIM_TEST_F(fixture, test)                                                   \
  EXEUNT_SIM_FIXTURE_(fixture, test) {                                                     \
    ::exeunt::sim::expect_bubble([] { exeunt_inside_##fixture##_##test{}.run_inside(); }); \
  }                                                                                        \
  void exeunt_inside_##fixture##_##test::body_inside()

/// EXEUNT_EXPLORE_TEST with a fixture, as EXEUNT_SIM_TEST_F has it.
#define EXEUNT_EXPLORE_TEST_F(fixture, test, ...)                                            \
  EXEUNT_SIM_FIXTURE_(fixture, test) {                                                       \
    ::exeunt::sim::expect_explored(::exeunt::sim::explore_options{__VA_ARGS__},              \
                                   [] { exeunt_inside_##fixture##_##test{}.run_inside(); }); \
  }                                                                                          \
  void exeunt_inside_##fixture##_##test::body_inside()

// The test that GoogleTest runs is none of the fixture, but belongs to its suite.
#define EXEUNT_SIM_FIXTURE_(fixture, test)                               \
  class exeunt_inside_##fixture##_##test final                           \
      : public ::exeunt::detail::fixture_inside<fixture> {               \
    void body_inside() override;                                         \
  };                                                                     \
  GTEST_TEST_(fixture, test, ::exeunt::detail::fixture_outside<fixture>, \
              ::testing::internal::GetTypeId<fixture>())

namespace exeunt::detail {

/// Where the results go while an exploration of this program tries schedules; else null.
inline ::testing::TestPartResultArray* noted_by_exploration = nullptr;

/// A fixture in the simulation that it belongs to.
template <typename Fixture>
class fixture_inside : public Fixture {
 public:
  /// As GoogleTest does it: a set-up that fails for good or skips is followed by no body.
  void run_inside() {
    const ::testing::TestPartResultArray* const noted = noted_by_exploration;
    const int before = noted == nullptr ? 0 : noted->size();
    this->SetUp();
    bool goes_on = !this->HasFatalFailure() && !this->IsSkipped();
    for (int i = before; noted != nullptr && i < noted->size(); ++i) {
      const ::testing::TestPartResult& one = noted->GetTestPartResult(i);
      goes_on = goes_on && !one.fatally_failed() && !one.skipped();
    }
    try {
      if (goes_on) body_inside();
    } catch (...) {
      this->TearDown();
      throw;
    }
    this->TearDown();
  }

 private:
  virtual void body_inside() = 0;
  void TestBody() final {}
};

template <typename Fixture>
class fixture_outside : public ::testing::Test {
  struct open : Fixture {
    using Fixture::SetUpTestSuite;
    using Fixture::TearDownTestSuite;
  };

 public:
  static void SetUpTestSuite() { open::SetUpTestSuite(); }
  static void TearDownTestSuite() { open::TearDownTestSuite(); }
};

}  // namespace exeunt::detail

namespace exeunt::sim {

/// bubble(f), whose failure is one of the running test.
template <typename F>
void expect_bubble(F&& f, std::source_location where = std::source_location::current()) {
  try {
    bubble(std::forward<F>(f), where);
  } catch (const failure& failed) {
    ADD_FAILURE_AT(where.file_name(), static_cast<int>(where.line())) << failed.what();
  }
}

/// explore(options, f), whose failure is one of the running test. Failures that `f` notes down make
/// the schedule fail; if it skips the test in any, and none fails, the test is skipped. An
/// exhaustive exploration that has not covered all is a failure, too. Without a name of its own the
/// exploration has that of the test.
/// Returns: what was explored; nothing if it failed.
template <typename F>
explored expect_explored(explore_options options, F&& f,
                         std::source_location where = std::source_location::current()) {
  const ::testing::TestInfo* const test = ::testing::UnitTest::GetInstance()->current_test_info();
  const std::string test_name =
      test == nullptr ? std::string{} : std::string{test->test_suite_name()} + "." + test->name();
  if (test != nullptr && options.name == explore_options{}.name) options.name = test_name;
  if (test != nullptr && options.command.empty()) {
    options.command = exeunt::detail::quoted_for_shell(::testing::internal::GetArgvs().front()) +
                      " --gtest_filter=" + exeunt::detail::quoted_for_shell(test_name);
  }
  ::testing::TestPartResultArray noted;
  int seen = 0;
  int skip = -1;
  options.verdict = [&] {
    std::string text;
    for (; seen < noted.size(); ++seen) {
      const ::testing::TestPartResult& one = noted.GetTestPartResult(seen);
      if (one.skipped() && skip < 0) skip = seen;
      if (!one.failed()) continue;
      text += one.file_name() == nullptr ? "" : one.file_name();
      text += ":" + std::to_string(one.line_number()) + "\n" + one.message() + "\n";
    }
    return text;
  };
  explored sum;
  std::string failed;
  {
    const ::testing::ScopedFakeTestPartResultReporter interceptor{
        ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ALL_THREADS, &noted};
    exeunt::detail::noted_by_exploration = &noted;
    try {
      sum = explore(options, std::forward<F>(f), where);
    } catch (const failure& why) {
      failed = why.what();
    } catch (...) {
      exeunt::detail::noted_by_exploration = nullptr;
      throw;
    }
    exeunt::detail::noted_by_exploration = nullptr;
  }
  if (!failed.empty()) {
    ADD_FAILURE_AT(where.file_name(), static_cast<int>(where.line())) << failed;
  } else if (options.exhaustive && !sum.covered && !sum.replayed && skip < 0) {
    ADD_FAILURE_AT(where.file_name(), static_cast<int>(where.line()))
        << "\"" << options.name << "\" has more than " << sum.schedules
        << " schedules, and not all were tried: raise .schedules, or bound .preemptions";
  } else if (skip >= 0) {
    const ::testing::TestPartResult& one = noted.GetTestPartResult(skip);
    GTEST_MESSAGE_AT_(one.file_name(), one.line_number(), one.message(),
                      ::testing::TestPartResult::kSkip);
  }
  return sum;
}

}  // namespace exeunt::sim
