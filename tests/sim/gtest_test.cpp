// SPDX-License-Identifier: Apache-2.0
// The macros of sim/gtest.hpp, seen from inside, and by what a run of this program prints.

#include <exeunt/sim/gtest.hpp>

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <unistd.h>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include <exeunt/chan/chan.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/abandons.hpp"

namespace exeunt {
namespace {

// --- what fails or skips, on demand only

[[maybe_unused]] constexpr int bubble_line = __LINE__ + 1;
EXEUNT_SIM_TEST(gtest_shown, DISABLED_a_bubble_fails) { sim::check(false, "in a bubble"); }

[[maybe_unused]] constexpr int deadlock_line = __LINE__ + 1;
EXEUNT_SIM_TEST(gtest_shown, DISABLED_a_bubble_waits) { static_cast<void>(chan<int>{}.recv()); }

[[maybe_unused]] constexpr int exploration_line = __LINE__ + 1;
EXEUNT_EXPLORE_TEST(gtest_shown, DISABLED_an_exploration_fails, .name = "it's \"$HOME\" & more") {
  std::atomic<int> last{0};
  wait_group group;
  for (int i = 1; i <= 2; ++i) group.go([&last, i] { last = i; });
  group.wait();
  EXPECT_EQ(last, 2);
}

EXEUNT_SIM_TEST(gtest_shown, DISABLED_a_bubble_skips) { GTEST_SKIP() << "not in a bubble"; }
EXEUNT_EXPLORE_TEST(gtest_shown, DISABLED_an_exploration_skips, .schedules = 5) {
  GTEST_SKIP() << "not in an exploration";
}
EXEUNT_EXPLORE_TEST(gtest_shown, DISABLED_a_failure_is_no_skip, .schedules = 5) {
  EXPECT_TRUE(false);
  GTEST_SKIP();
}

class sets_up_in_vain : public ::testing::Test {
 protected:
  void SetUp() override { FAIL() << "no set-up"; }
  void TearDown() override { std::puts("torn down"); }
};
EXEUNT_SIM_TEST_F(sets_up_in_vain, DISABLED_in_a_bubble) { std::puts("the body"); }
EXEUNT_EXPLORE_TEST_F(sets_up_in_vain, DISABLED_in_an_exploration, .schedules = 1) {
  std::puts("the body");
}

class skips_in_set_up : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_SKIP() << "by set-up"; }
};
EXEUNT_EXPLORE_TEST_F(skips_in_set_up, DISABLED_in_an_exploration, .schedules = 2) {
  std::puts("the body");
}

#ifndef EXEUNT_TSAN  // Which makes the processes that these tests start too slow to be worth it.

// What `command` prints.
std::string output_of(const std::string& command) {
  ::setenv("GTEST_ALSO_RUN_DISABLED_TESTS", "1", 1);
  std::string text;
  if (FILE* const from = ::popen((command + " 2>&1").c_str(), "r")) {
    char part[4096];
    while (const std::size_t count = std::fread(part, 1, sizeof part, from))
      text.append(part, count);
    ::pclose(from);
  }
  ::unsetenv("GTEST_ALSO_RUN_DISABLED_TESTS");
  return text;
}

std::string run_of(const std::string& filter) {
  char path[4096];
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof path);
  EXPECT_GT(length, 0);
  return output_of("env -u GTEST_OUTPUT " +
                   detail::quoted_for_shell({path, static_cast<std::size_t>(length)}) +
                   " --gtest_filter=" + filter);
}

std::string at(int line) { return "gtest_test.cpp:" + std::to_string(line); }

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)
#define EXPECT_HAS_NOT(text, part) EXPECT_EQ((text).find(part), std::string::npos) << (text)

// Goal:   a failure is shown where the user wrote the test, and nowhere in the library.
TEST(gtest_shows, failures_at_the_users_line) {
  const std::string bubble = run_of("gtest_shown.DISABLED_a_bubble_fails");
  EXPECT_HAS(bubble, at(bubble_line) + ": Failure");
  EXPECT_HAS(bubble, "in a bubble");
  EXPECT_HAS_NOT(bubble, "gtest.hpp");
  const std::string deadlock = run_of("gtest_shown.DISABLED_a_bubble_waits");
  EXPECT_HAS(deadlock, at(deadlock_line) + ": Failure");
  EXPECT_HAS(deadlock, "\"main\" started at " + at(deadlock_line) + " waits for channel receive");
  const std::string exploration = run_of("gtest_shown.DISABLED_an_exploration_fails");
  EXPECT_HAS(exploration, at(exploration_line) + ": Failure");
  EXPECT_HAS(exploration, "is started as \"main\" at " + at(exploration_line));
  EXPECT_HAS_NOT(exploration, "gtest.hpp");
  EXPECT_HAS_NOT(exploration, "world.cpp");
}

// Goal:   the printed command is one, whatever the name has in it: a shell that gets it runs the
//         failing schedule again, in a new process.
TEST(gtest_shows, a_command_that_replays) {
  const std::string told = run_of("gtest_shown.DISABLED_an_exploration_fails");
  const std::string_view before = "run just this again by\n  ";
  const auto begin = told.find(before);
  ASSERT_NE(begin, told.npos) << told;
  const auto command_begin = begin + before.size();
  const std::string command =
      told.substr(command_begin, told.find('\n', command_begin) - command_begin);
  const std::string again = output_of(command);
  EXPECT_HAS(again, "failed in the replay");
  EXPECT_HAS(again, "it's \"$HOME\" & more");
  EXPECT_HAS(again, "1 FAILED TEST");
}

TEST(gtest_shows, skips_as_skips) {
  const std::string bubble = run_of("gtest_shown.DISABLED_a_bubble_skips");
  EXPECT_HAS(bubble, "1 test, listed below");
  EXPECT_HAS(bubble, "[  SKIPPED ]");
  EXPECT_HAS(bubble, "not in a bubble");
  const std::string exploration = run_of("gtest_shown.DISABLED_an_exploration_skips");
  EXPECT_HAS(exploration, "[  SKIPPED ]");
  EXPECT_HAS(exploration, "not in an exploration");
  EXPECT_HAS(exploration, "[  PASSED  ] 0 tests");
  const std::string failure = run_of("gtest_shown.DISABLED_a_failure_is_no_skip");
  EXPECT_HAS(failure, "1 FAILED TEST");
}

TEST(gtest_shows, set_ups_that_fail_or_skip_without_the_body) {
  const std::string failed = run_of("sets_up_in_vain.*");
  EXPECT_HAS(failed, "2 FAILED TESTS");
  EXPECT_HAS(failed, "no set-up");
  EXPECT_HAS(failed, "torn down");
  EXPECT_HAS_NOT(failed, "the body");
  const std::string skipped = run_of("skips_in_set_up.*");
  EXPECT_HAS(skipped, "[  SKIPPED ]");
  EXPECT_HAS(skipped, "by set-up");
  EXPECT_HAS_NOT(skipped, "the body");
}

#endif

// --- fixtures

int suites_set_up = 0;
int torn_down = 0;
int made = 0;

// What is made inside waits inside: a member is the channel between a fiber and the test.
class with_echo : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    ++suites_set_up;
    EXPECT_FALSE(sim::inside());
  }
  with_echo() {
    ++made;
    EXPECT_TRUE(sim::inside());
  }
  void SetUp() override {
    EXPECT_TRUE(sim::inside());
    echo_.go([this] {
      for (const int n : questions_) answers_.send(n);
      answers_.close();
    });
  }
  void TearDown() override {
    EXPECT_TRUE(sim::inside());
    questions_.close();
    echo_.wait();
    ++torn_down;
  }

  chan<int> questions_;
  chan<int> answers_;
  wait_group echo_;
};

EXEUNT_SIM_TEST_F(with_echo, is_made_inside) {
  EXPECT_GE(suites_set_up, 1);
  EXPECT_EQ(torn_down, made - 1);
  EXPECT_EQ(clock::now(), sim::epoch);
  questions_.send(7);
  EXPECT_EQ(answers_.recv(), 7);
}

EXEUNT_EXPLORE_TEST_F(with_echo, is_made_for_each_schedule, .schedules = 20) {
  EXPECT_GE(suites_set_up, 1);
  EXPECT_EQ(torn_down, made - 1);
  questions_.send(7);
  EXPECT_EQ(answers_.recv(), 7);
}

// [fixture]
class with_counter : public ::testing::Test {
 protected:
  void SetUp() override {
    adding_.go([this] { count_.send(*count_.recv() + 1); });
  }
  void TearDown() override { adding_.wait(); }

  chan<int> count_{1};
  wait_group adding_;
};

EXEUNT_EXPLORE_TEST_F(with_counter, loses_no_addition, .schedules = 500) {
  count_.send(0);
  adding_.wait();
  EXPECT_EQ(count_.recv(), 1);
}
// [fixture]

// FC-15
// Goal:   what a test cleans up is cleaned up inside, before the simulation waits for the rest: a
//         fiber that waits for the context of the test ends.
class with_life : public ::testing::Test {
 protected:
  void TearDown() override {
    life_.cancel();
    sim::settle();
    EXPECT_TRUE(ended_);
  }

  cancelable_context<cancel_func> life_ = with_cancel(context::background());
  std::atomic<bool> ended_{false};
};

EXEUNT_SIM_TEST_F(with_life, fc_15_tear_down_lets_the_fibers_of_a_test_end) {
  go([this] {
    life_.ctx.wait();
    ended_ = true;
  });
  sim::settle();
  EXPECT_FALSE(ended_);
}

// Goal:   the fixture's state is new in each schedule, and a race on it is found.
class with_count : public ::testing::Test {
 protected:
  void add_one() {
    lock_.lock();
    const int before = count_;
    lock_.unlock();
    lock_.lock();
    count_ = before + 1;
    lock_.unlock();
  }
  mutex lock_;
  int count_ = 0;
};

class with_count_inside final : public detail::fixture_inside<with_count> {
  void body_inside() override {
    wait_group group;
    for (int i = 0; i < 2; ++i) group.go([this] { add_one(); });
    group.wait();
    EXPECT_EQ(count_, 2);
  }
};

TEST(gtest_fixture, has_its_races_found) {
  ::testing::TestPartResultArray noted;
  int line = 0;
  {
    const ::testing::ScopedFakeTestPartResultReporter interceptor{
        ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ALL_THREADS, &noted};
    line = __LINE__ + 1;
    sim::expect_explored({}, [] { with_count_inside{}.run_inside(); });
  }
  ASSERT_EQ(noted.size(), 1);
  const ::testing::TestPartResult& one = noted.GetTestPartResult(0);
  EXPECT_TRUE(std::string_view{one.file_name()}.ends_with("gtest_test.cpp"));
  EXPECT_EQ(one.line_number(), line);
  EXPECT_NE(std::string_view{one.message()}.find("with 1 preemption "), std::string_view::npos)
      << one.message();
  EXPECT_NE(std::string_view{one.message()}.find("\"gtest_fixture.has_its_races_found\" failed"),
            std::string_view::npos)
      << one.message();
}

}  // namespace
}  // namespace exeunt
