// SPDX-License-Identifier: Apache-2.0
#include <exeunt/sim/explore.hpp>

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/chan/selector.hpp>
#include <exeunt/context/after_func.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/group/errgroup.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sim/gtest.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/wait_group.hpp>
#include <exeunt/time/sleep.hpp>
#include <exeunt/time/timer.hpp>

#include "support/abandons.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;

std::string report_of(const sim::explore_options& options, void (*f)()) {
  try {
    sim::explore(options, f);
  } catch (const sim::failure& failed) {
    return failed.what();
  }
  ADD_FAILURE() << "no schedule failed";
  return {};
}

// Reads, lets others run, and writes: one more for each needs one preemption in between.
void lose_an_update() {
  int shared = 0;
  mutex lock;
  const auto add_one = [&] {
    lock.lock();
    const int before = shared;
    lock.unlock();
    lock.lock();
    shared = before + 1;
    lock.unlock();
  };
  wait_group group;
  group.go(add_one);
  group.go(add_one);
  group.wait();
  sim::check(shared == 2, "both updates count");
}

// Goal:   every order of what fibers do is met, and each once.
// Method: three fibers that note their number: six orders.
TEST(explore, exhaustive_meets_every_order_once) {
  std::multiset<std::string> orders;
  const auto sum = sim::explore({.name = "orders", .preemptions = 0, .exhaustive = true}, [&] {
    std::string order(3, ' ');
    std::atomic<std::size_t> places{0};
    wait_group group;
    for (const char name : {'a', 'b', 'c'}) {
      group.go([&order, &places, name] { order[places++] = name; });
    }
    group.wait();
    orders.insert(order);
  });
  EXPECT_TRUE(sum.covered);
  EXPECT_EQ(std::set(orders.begin(), orders.end()),
            (std::set<std::string>{"abc", "acb", "bac", "bca", "cab", "cba"}));
  EXPECT_EQ(sum.schedules, orders.size());
}

TEST(explore, says_if_it_has_not_covered_all) {
  const auto sum = sim::explore({.name = "some", .schedules = 3, .exhaustive = true}, [] {
    wait_group group;
    for (int i = 0; i < 3; ++i) group.go([] { yield(); });
    group.wait();
  });
  EXPECT_FALSE(sum.covered);
  EXPECT_EQ(sum.schedules, 3U);
}

TEST(explore, finds_what_needs_a_preemption_and_nothing_without) {
  EXPECT_TRUE(
      sim::explore({.name = "lost update", .preemptions = 0, .exhaustive = true}, lose_an_update)
          .covered);
  const std::string report = report_of({.name = "lost update"}, lose_an_update);
  EXPECT_NE(report.find("both updates count"), std::string::npos) << report;
  EXPECT_NE(report.find("with 1 preemption "), std::string::npos) << report;
  EXPECT_NE(report.find("is preempted before mutex lock 2"), std::string::npos) << report;
  EXPECT_NE(report.find("EXEUNT_SIM_REPLAY='lost update="), std::string::npos) << report;
}

TEST(explore, the_same_seed_gives_the_same_report) {
  const sim::explore_options options{.name = "lost update", .seed = 5};
  EXPECT_EQ(report_of(options, lose_an_update), report_of(options, lose_an_update));
}

// Goal:   the command of the report runs just the failing schedule, and it fails again.
// Method: the variable is set as the report says.
TEST(explore, replays_what_the_report_names) {
  const std::string report = report_of({.name = "lost update"}, lose_an_update);
  const std::string key = "EXEUNT_SIM_REPLAY='";
  const auto begin = report.find(key) + key.size();
  ASSERT_EQ(::setenv("EXEUNT_SIM_REPLAY",
                     report.substr(begin, report.find('\'', begin) - begin).c_str(), 1),
            0);
  int runs = 0;
  EXPECT_THROW(sim::explore({.name = "lost update"},
                            [&] {
                              ++runs;
                              lose_an_update();
                            }),
               sim::failure);
  EXPECT_EQ(runs, 1);
  EXPECT_EQ(sim::explore({.name = "another", .schedules = 2}, [] {}).schedules, 2U);
  ASSERT_EQ(::setenv("EXEUNT_SIM_REPLAY", "lost update=oops", 1), 0);
  EXPECT_THROW(sim::explore({.name = "lost update"}, lose_an_update), std::invalid_argument);
  ::unsetenv("EXEUNT_SIM_REPLAY");
}

// Something is done while `inside`, which no other fiber can see unless it is let in before that.
struct step {
  const char* name;
  void (*take)(std::atomic<bool>& inside);
  bool is_one = true;
};
class explore_steps : public ::testing::TestWithParam<step> {};

TEST_P(explore_steps, let_another_fiber_in) {
  std::atomic<bool> met{false};
  sim::explore({.name = "steps", .preemptions = 1, .exhaustive = true}, [&met] {
    std::atomic<bool> inside{false};
    go([&] { met = met || inside; });
    GetParam().take(inside);
    inside = false;
    sim::settle();
  });
  EXPECT_EQ(met, GetParam().is_one);
}

const step steps[] = {
    {"a_channel",
     [](std::atomic<bool>& inside) {
       const chan<int> c{1};
       inside = true;
       c.send(1);
     }},
    {"a_select",
     [](std::atomic<bool>& inside) {
       inside = true;
       select(otherwise([] {}));
     }},
    {"a_selector",
     [](std::atomic<bool>& inside) {
       selector cases;
       cases.otherwise([] {});
       inside = true;
       cases.run();
     }},
    {"a_mutex",
     [](std::atomic<bool>& inside) {
       mutex lock;
       inside = true;
       EXPECT_TRUE(lock.try_lock());
       inside = false;
       lock.unlock();
     }},
    {"a_timers_reset",
     [](std::atomic<bool>& inside) {
       timer t{1h};
       inside = true;
       t.reset(2h);
       inside = false;
     }},
    {"a_tickers_reset",
     [](std::atomic<bool>& inside) {
       ticker t{1h};
       inside = true;
       t.reset(2h);
       inside = false;
     }},
    {"a_tickers_stop",
     [](std::atomic<bool>& inside) {
       ticker t{1h};
       inside = true;
       t.stop();
       inside = false;
     }},
    {"a_cancel",
     [](std::atomic<bool>& inside) {
       const auto life = with_cancel(context::background());
       inside = true;
       life.cancel();
       inside = false;
     }},
    {"an_after_func",
     [](std::atomic<bool>& inside) {
       const auto life = with_cancel(context::background());
       inside = true;
       auto call = after_func(life.ctx, [] {});
       inside = false;
       EXPECT_TRUE(call.stop());
     }},
    {"the_stop_of_an_after_func",
     [](std::atomic<bool>& inside) {
       const auto life = with_cancel(context::background());
       auto call = after_func(life.ctx, [] {});
       inside = true;
       EXPECT_TRUE(call.stop());
       inside = false;
     }},
    {"an_errgroups_go",
     [](std::atomic<bool>& inside) {
       errgroup group{context::background()};
       inside = true;
       group.go([](const context&) {});
       inside = false;
       EXPECT_TRUE(group.wait());
     }},
    // Not: it is one load.
    {"a_look_at_a_context",
     [](std::atomic<bool>& inside) {
       const auto life = with_cancel(context::background());
       inside = true;
       EXPECT_FALSE(life.ctx.err());
       inside = false;
     },
     false},
};

INSTANTIATE_TEST_SUITE_P(calls, explore_steps, ::testing::ValuesIn(steps),
                         [](const auto& one) { return std::string{one.param.name}; });

TEST(explore, chooses_among_ready_cases_of_select) {
  std::set<int> chosen;
  sim::explore({.name = "select", .exhaustive = true}, [&] {
    const chan<void> a{1};
    const chan<void> b{1};
    a.send();
    b.send();
    chosen.insert(select(on_recv(a, [] { return 1; }), on_recv(b, [] { return 2; })));
  });
  EXPECT_EQ(chosen, (std::set{1, 2}));
}

TEST(explore, each_schedule_begins_anew) {
  sim::explore({.name = "anew", .schedules = 50}, [] {
    EXPECT_EQ(clock::now(), sim::epoch);
    sleep(1s);
    EXPECT_EQ(clock::now() - sim::epoch, 1s);
  });
}

// Goal:   what a test library noted is told, though the schedule failed otherwise, too.
// Method: an ASSERT_ returns early, and so the other fiber waits for good.
TEST(explore, an_assertion_that_lets_others_wait_for_good_is_told) {
  ::testing::TestPartResultArray noted;
  {
    const ::testing::ScopedFakeTestPartResultReporter interceptor{
        ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ALL_THREADS, &noted};
    sim::expect_explored({.name = "early"}, [] {
      const chan<void> go_on;
      go([go_on] { static_cast<void>(go_on.recv()); });
      ASSERT_EQ(1, 2) << "the message";
      go_on.send();
    });
  }
  ASSERT_EQ(noted.size(), 1);
  const std::string report = noted.GetTestPartResult(0).message();
  EXPECT_NE(report.find("the message"), std::string::npos) << report;
  EXPECT_NE(report.find("besides, the function has returned"), std::string::npos) << report;
}

TEST(explore, a_schedule_of_more_turns_than_it_may_have_is_told) {
  const std::string report = report_of({.name = "long", .turns = 1000}, [] {
    for (;;) sleep(1s);
  });
  EXPECT_NE(report.find("has not ended after 1001 turns"), std::string::npos) << report;
  EXPECT_NE(report.find("EXEUNT_SIM_REPLAY='long="), std::string::npos) << report;
}

// Three times, each after the other fiber's last step.
void alternate() {
  const chan<void> nothing;
  std::atomic<int> stage{0};
  const auto part = [&](int parity) {
    for (int i = 0; i < 3; ++i) {
      if (stage == 2 * i + parity) ++stage;
      static_cast<void>(nothing.try_recv());
    }
  };
  wait_group group;
  group.go([&] { part(0); });
  group.go([&] { part(1); });
  group.wait();
  sim::check(stage < 6, "alternate");
}

TEST(explore, all_schedules_are_all_unless_their_preemptions_are_bounded) {
  EXPECT_TRUE(
      sim::explore({.name = "bounded", .schedules = 100'000, .preemptions = 2, .exhaustive = true},
                   alternate)
          .covered);
  report_of({.name = "all", .schedules = 100'000, .exhaustive = true}, alternate);
}

// Goal:   the report is of one failure, not of another one that needs less.
// Method: "seen" needs no preemption, "lost" does.
TEST(explore, a_report_is_of_the_bug_that_was_found) {
  const std::string report = report_of({.name = "two bugs"}, [] {
    std::atomic<int> shared{0};
    std::atomic<bool> other{false};
    wait_group group;
    for (int i = 0; i < 2; ++i) {
      group.go([&] {
        const int before = shared;
        static_cast<void>(chan<void>{}.try_recv());
        shared = before + 1;
      });
    }
    group.go([&] { other = shared == 2; });
    group.wait();
    sim::check(shared == 2, "lost");
    sim::check(!other, "seen");
  });
  const bool lost = report.find(": lost\n") != std::string::npos;
  EXPECT_NE(lost, report.find(": seen\n") != std::string::npos) << report;
}

TEST(explore, random_schedules_notice_what_is_not_the_same_each_time) {
  int calls = 0;
  try {
    sim::explore({.name = "unsteady"}, [&] {
      wait_group group;
      const int fibers = 2 + ++calls % 2;
      for (int i = 0; i < fibers; ++i) group.go([] {});
      group.wait();
    });
    ADD_FAILURE() << "nobody has noticed";
  } catch (const sim::failure& failed) {
    EXPECT_EQ(failed.why(), sim::failure::reason::divergent);
  }
}

TEST(explore, a_failure_that_does_not_come_back_is_told_all_the_same) {
  int calls = 0;
  try {
    sim::explore({.name = "once"}, [&] { sim::check(++calls != 20, "the twentieth"); });
    ADD_FAILURE() << "nobody has noticed";
  } catch (const sim::failure& failed) {
    EXPECT_EQ(failed.why(), sim::failure::reason::divergent);
    EXPECT_NE(std::string{failed.what()}.find("the twentieth"), std::string::npos) << failed.what();
  }
}

// Goal:   who replays a mistake that is mended sees what happens now, not nothing.
TEST(explore, a_replay_that_does_not_fail_shows_what_happened) {
  ASSERT_EQ(::setenv("EXEUNT_SIM_REPLAY", "mended=0", 1), 0);
  ::testing::internal::CaptureStderr();
  const auto sum = sim::explore({.name = "mended"}, [] { sleep(1s); });
  const std::string shown = ::testing::internal::GetCapturedStderr();
  ::unsetenv("EXEUNT_SIM_REPLAY");
  EXPECT_TRUE(sum.replayed);
  EXPECT_NE(shown.find("does not fail in the replay"), std::string::npos) << shown;
  EXPECT_NE(shown.find("time moves on by 1 s"), std::string::npos) << shown;
}

// Method: the reminder is printed when the process ends.
TEST(explore_death, a_replay_of_nothing_that_was_run_is_told) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        ::setenv("EXEUNT_SIM_REPLAY", "misspelt=0", 1);
        sim::explore({.name = "spelt", .schedules = 1}, [] {});
        std::exit(0);
      },
      ::testing::ExitedWithCode(0), "EXEUNT_SIM_REPLAY named no exploration that was run");
}

// Goal:   a replay of a program that has changed does not pass for a bug that is mended.
TEST(explore, a_replay_that_does_not_fit_is_told) {
  for (const char* const choices : {"9.9.9", "0._500.1"}) {
    const std::string replay = std::string{"fits="} + choices;
    ASSERT_EQ(::setenv("EXEUNT_SIM_REPLAY", replay.c_str(), 1), 0);
    try {
      sim::explore({.name = "fits"}, [] {
        wait_group group;
        group.go([] {});
        group.go([] {});
        group.wait();
      });
      ADD_FAILURE() << choices;
    } catch (const sim::failure& failed) {
      EXPECT_EQ(failed.why(), sim::failure::reason::divergent) << failed.what();
    }
  }
  ::unsetenv("EXEUNT_SIM_REPLAY");
}

TEST(explore, what_is_not_the_same_each_time_is_told) {
  int calls = 0;
  const std::string report = [&] {
    try {
      sim::explore({.name = "unsteady", .exhaustive = true}, [&] {
        wait_group group;
        const int fibers = 2 + ++calls % 2;
        for (int i = 0; i < fibers; ++i) group.go([] {});
        group.wait();
      });
    } catch (const sim::failure& failed) {
      EXPECT_EQ(failed.why(), sim::failure::reason::divergent);
      return std::string{failed.what()};
    }
    return std::string{};
  }();
  EXPECT_NE(report.find("did not do the same"), std::string::npos) << report;
}

TEST(explore, an_expectation_that_fails_is_a_failure_of_its_schedule) {
  ::testing::TestPartResultArray noted;
  {
    const ::testing::ScopedFakeTestPartResultReporter interceptor{
        ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ALL_THREADS, &noted};
    sim::expect_explored({.name = "expects"}, [] {
      std::atomic<int> last{0};
      wait_group group;
      for (int i = 1; i <= 2; ++i) group.go([&last, i] { last = i; });
      group.wait();
      EXPECT_EQ(last, 2);
    });
  }
  ASSERT_EQ(noted.size(), 1);
  const std::string text = noted.GetTestPartResult(0).message();
  EXPECT_NE(text.find("last"), std::string::npos) << text;
  EXPECT_NE(text.find("--gtest_filter=explore.an_expectation"), std::string::npos) << text;
}

#ifndef EXEUNT_TSAN
TEST(explore, cannot_check_bytes_that_nobody_counts) {
  EXPECT_THROW(sim::explore({.check_bytes = true}, [] {}), std::logic_error);
}
#endif

// The one-line form.
EXEUNT_EXPLORE_TEST(explore, a_rendezvous_hands_over, .schedules = 500) {
  const chan<int> c;
  go([c] { c.send(7); });
  EXPECT_EQ(c.recv(), 7);
}

}  // namespace
}  // namespace exeunt
