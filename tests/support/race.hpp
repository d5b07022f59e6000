// SPDX-License-Identifier: Apache-2.0
// Programs with a race: each in a process of its own, which ThreadSanitizer ends with 66 after a
// report that names both fibers and the lines that started them.

#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>

#include "support/on_workers.hpp"

#ifdef EXEUNT_TSAN

namespace exeunt::test {

/// One worker, where an order between fibers that the program does not have is easiest taken for
/// one that it has.
template <typename F>
[[noreturn]] void in_own_process(F&& body) {
  run_on(1, body);
  std::exit(0);
}

/// That a report is of a race between the two fibers of these names, both started by a test.
class tells_of_race {
 public:
  using is_gtest_matcher = void;
  tells_of_race(std::string one, std::string two) : one_{std::move(one)}, two_{std::move(two)} {}

  bool MatchAndExplain(const std::string& report, std::ostream* listener) const {
    std::string missing;
    if (report.find("WARNING: ThreadSanitizer: data race") == std::string::npos) {
      missing = "that it is a data race";
    } else if (!was_started(report, one_)) {
      missing = "where \"" + one_ + "\" was started";
    } else if (!was_started(report, two_)) {
      missing = "where \"" + two_ + "\" was started";
    }
    if (listener != nullptr && !missing.empty()) *listener << "not said is " << missing;
    return missing.empty();
  }
  void DescribeTo(std::ostream* out) const {
    *out << "is a race of \"" << one_ << "\" and \"" << two_ << "\"";
  }
  void DescribeNegationTo(std::ostream* out) const { *out << "is no such race"; }

 private:
  // Whether there is a paragraph "Thread T1 'name' (…) created by … at:" with a line of a test.
  static bool was_started(std::string_view report, const std::string& name) {
    const std::string who = " '" + name + "' (";
    for (std::size_t at = report.find(who); at != std::string_view::npos;
         at = report.find(who, at + 1)) {
      const std::string_view rest = report.substr(at);
      const std::string_view paragraph = rest.substr(0, rest.find("\n\n"));
      const std::string_view first_line = paragraph.substr(0, paragraph.find('\n'));
      if (first_line.find("created by") != std::string_view::npos &&
          paragraph.find("_test.cpp:") != std::string_view::npos) {
        return true;
      }
    }
    return false;
  }

  std::string one_;
  std::string two_;
};

/// For suites of racy programs.
class race_death_test : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

}  // namespace exeunt::test

/// Expects that the program (a lambda, the main fiber's function) has a race between the fibers of
/// these names; the main fiber's is "main".
#define EXEUNT_EXPECT_RACE(one, two, ...)                                               \
  EXPECT_EXIT(exeunt::test::in_own_process(__VA_ARGS__), ::testing::ExitedWithCode(66), \
              ::testing::Matcher<const std::string&>(exeunt::test::tells_of_race(one, two)))

#endif
