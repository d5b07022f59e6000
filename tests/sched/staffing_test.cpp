// SPDX-License-Identifier: Apache-2.0
// How many workers a runtime has that was not told: EXEUNT_PROCS, in child processes, whose
// environment nobody else reads. That the number follows the affinity mask: monitor_test.cpp.

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include <exeunt/sched/runtime.hpp>

#include "support/child.hpp"

namespace exeunt {
namespace {

using test::child;

// For the child: the environment says `value`.
void set_variable(const std::string& value) {
  EXPECT_EQ(::setenv("EXEUNT_PROCS", value.c_str(), 1), 0);
}

[[noreturn]] void end_child() { std::exit(::testing::Test::HasFailure() ? 1 : 0); }

TEST(exeunt_procs, a_number_is_honoured_where_none_was_asked_for) {
  if (child::body() == "number") {
    set_variable("3");
    runtime told_nothing;
    EXPECT_EQ(told_nothing.procs(), 3U);
    EXPECT_EQ(told_nothing.stats().threads, 3U);
    EXPECT_EQ(told_nothing.run([] { return 6; }), 6);
    runtime told{{.procs = 2}};
    EXPECT_EQ(told.procs(), 2U);
    told.set_procs(0);
    EXPECT_EQ(told.procs(), 3U);
    EXPECT_EQ(runtime::current().procs(), 3U);
    end_child();
  }
  child number{"number"};
  EXPECT_EQ(number.finish(), 0) << number.output();
  EXPECT_EQ(number.output().find("EXEUNT_PROCS"), std::string::npos) << number.output();
}

TEST(exeunt_procs, what_is_no_number_of_workers_is_told_and_ignored) {
  const std::string prefix = "value ";
  if (const std::string body{child::body()}; body.starts_with(prefix)) {
    EXPECT_EQ(::unsetenv("EXEUNT_PROCS"), 0);
    const unsigned without = runtime{}.procs();
    set_variable(body.substr(prefix.size()));
    runtime workers;
    EXPECT_EQ(workers.procs(), without);
    EXPECT_EQ(workers.run([] { return 6; }), 6);
    end_child();
  }
  for (const std::string value : {"0", "-1", "many", " 3", "3 ", "+3", "3x", "2.5", "1025",
                                  "99999999999999999999", "-18446744073709551613"}) {
    child bad{prefix + value};
    EXPECT_EQ(bad.finish(), 0) << bad.output();
    const std::string& text = bad.output();
    const std::string said =
        "exeunt: EXEUNT_PROCS=" + value + " ignored: it must be a whole number from 1 to 1024\n";
    EXPECT_NE(text.find(said), std::string::npos) << text;
    EXPECT_EQ(text.find("EXEUNT_PROCS"), text.rfind("EXEUNT_PROCS")) << text;
  }
}

TEST(exeunt_procs, an_empty_value_is_none) {
  if (child::body() == "empty") {
    EXPECT_EQ(::unsetenv("EXEUNT_PROCS"), 0);
    const unsigned without = runtime{}.procs();
    set_variable("");
    EXPECT_EQ(runtime{}.procs(), without);
    end_child();
  }
  child empty{"empty"};
  EXPECT_EQ(empty.finish(), 0) << empty.output();
  EXPECT_EQ(empty.output().find("EXEUNT_PROCS"), std::string::npos) << empty.output();
}

}  // namespace
}  // namespace exeunt
