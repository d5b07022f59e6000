// SPDX-License-Identifier: Apache-2.0

#include <exeunt/group/errgroup.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include <exeunt/base/log.hpp>
#include <exeunt/sched/fiber_local.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>

#include "group/tasks.hpp"
#include "support/explored.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using test::returning;
using test::until_ended;

class errgroup_test : public exeunt::test::explored {};

const error e1{errc::malformed, "e1"};
const error e2{errc::closed, "e2"};

using outcome_list = std::vector<std::optional<error>>;

[[gnu::noinline]] void throws_out_of_range() { throw std::out_of_range{"no such thing"}; }

// EG-01. We join what fails later; the first one still leads.
TEST_P(errgroup_test, default_group_collects_over_several_waits) {
  run([] {
    for (const outcome_list& list :
         {outcome_list{}, {std::nullopt}, {e1}, {e1, std::nullopt}, {e1, std::nullopt, e2}}) {
      errgroup group;
      std::optional<error> first;
      EXPECT_TRUE(group.wait().has_value());
      for (const std::optional<error>& outcome : list) {
        group.go(returning(outcome));
        if (!first) first = outcome;
        for (int i = 0; i < 2; ++i) {
          const result<> ended = group.wait();
          EXPECT_EQ(ended.has_value(), !first.has_value());
          if (first) {
            EXPECT_EQ(ended.error().code(), first->code());
          }
        }
      }
    }
  });
}

// EG-02 and EG-05.
TEST_P(errgroup_test, context_has_ended_after_wait) {
  run([] {
    for (const outcome_list& list : {outcome_list{}, {std::nullopt}, {e1}, {e1, std::nullopt}}) {
      errgroup group{context::background()};
      std::optional<context> seen;
      group.go([&seen](context ctx) { seen = ctx; });
      for (const std::optional<error>& outcome : list) group.go(returning(outcome));
      const result<> ended = group.wait();
      const bool fails = std::find(list.begin(), list.end(), e1) != list.end();
      EXPECT_EQ(ended.has_value(), !fails);
      EXPECT_EQ(*seen->err(), error{errc::canceled});
      EXPECT_EQ(*cause(*seen), fails ? e1 : error{errc::canceled});
    }
  });
}

// EG-06: the default group does not cancel.
TEST_P(errgroup_test, default_group_is_not_ended_by_a_failure) {
  run([] {
    errgroup group;
    std::atomic<bool> failed{false};
    group.go([&failed](context) -> result<> {
      failed = true;
      return fail(e1);
    });
    group.go([&failed](context ctx) {
      while (!failed) let_others_run();
      let_others_run();
      EXPECT_FALSE(ctx.err().has_value());
    });
    EXPECT_EQ(group.wait().error(), e1);
  });
}

// EG-06: a group with a context does.
TEST_P(errgroup_test, first_failure_ends_the_siblings) {
  run([] {
    errgroup group{context::background()};
    group.go(until_ended);
    group.go([](context ctx) -> result<> {
      ctx.wait();
      EXPECT_EQ(*cause(ctx), e1);
      return {};
    });
    group.go(returning(e1));
    EXPECT_EQ(group.wait().error(), e1);
  });
}

TEST_P(errgroup_test, success_ends_nobody) {
  run([] {
    errgroup group{context::background()};
    std::atomic<bool> returned{false};
    group.go([&returned](context) { returned = true; });
    group.go([&returned](context ctx) {
      while (!returned) let_others_run();
      let_others_run();
      EXPECT_FALSE(ctx.err().has_value());
    });
    EXPECT_TRUE(group.wait().has_value());
  });
}

// One exits, all exit: what an early clean return of one server must do to the others.
TEST_P(errgroup_test, first_exit_ends_all) {
  run([] {
    errgroup group{context::background(), {.cancel_on = cancel_on::first_exit}};
    for (int i = 0; i < 5; ++i) group.go(until_ended);
    group.go(returning(std::nullopt));
    EXPECT_TRUE(group.wait().has_value());
  });
}

TEST_P(errgroup_test, first_exit_by_a_failure_ends_all) {
  run([] {
    errgroup group{context::background(), {.cancel_on = cancel_on::first_exit}};
    for (int i = 0; i < 5; ++i) group.go(until_ended);
    group.go(returning(e1));
    EXPECT_EQ(group.wait().error(), e1);
  });
}

TEST_P(errgroup_test, failure_after_a_clean_exit_counts) {
  run([] {
    errgroup group{context::background(), {.cancel_on = cancel_on::first_exit}};
    group.go([](context ctx) -> result<> {
      ctx.wait();
      return fail(e2);  // A stop that went wrong.
    });
    group.go(until_ended);
    group.go(returning(std::nullopt));
    EXPECT_EQ(group.wait().error(), e2);
  });
}

// AP-06 and AP-07.
TEST_P(errgroup_test, run_group_of_none_and_of_one) {
  run([] {
    errgroup none{context::background(), {.cancel_on = cancel_on::first_exit}};
    EXPECT_TRUE(none.wait().has_value());
    errgroup one{context::background(), {.cancel_on = cancel_on::first_exit}};
    one.go(returning(e1));
    EXPECT_EQ(one.wait().error(), e1);
  });
}

// AP-09: a member bound to a context gives its end as the group's outcome.
TEST_P(errgroup_test, parents_end_is_a_failure_once) {
  run([] {
    auto [parent, cancel] = with_cancel(context::background());
    errgroup group{parent, {.cancel_on = cancel_on::first_exit}};
    for (int i = 0; i < 5; ++i) group.go(until_ended);
    cancel();
    const result<> ended = group.wait();
    EXPECT_EQ(ended.error(), error{errc::canceled});
  });
}

TEST_P(errgroup_test, signal_as_the_parents_cause_is_a_clean_exit) {
  run([] {
    auto [parent, cancel] = with_cancel_cause(context::background());
    errgroup group{parent};
    group.go(until_ended);
    group.go(until_ended);
    cancel(error::from_signal(15));
    const result<> ended = group.wait();
    EXPECT_EQ(ended.error().signal(), 15);
    EXPECT_EQ(exit_code(ended), 0);
  });
}

TEST_P(errgroup_test, parents_deadline_is_a_failure) {
  run([] {
    auto [parent, cancel] = with_timeout(context::background(), 1ms);
    errgroup group{parent};
    group.go(until_ended);
    group.go(until_ended);
    EXPECT_EQ(group.wait().error(), error{errc::deadline_exceeded});
  });
}

TEST_P(errgroup_test, later_failures_are_joined) {
  run([] {
    errgroup group{context::background()};
    group.go([](context ctx) -> result<> {
      ctx.wait();
      return fail(error{errc::canceled}.wrap("read"));  // The group's own doing: not recorded.
    });
    group.go([](context ctx) -> result<> {
      ctx.wait();
      return fail(e2);
    });
    group.go([](context ctx) -> result<> {
      ctx.wait();
      return fail(join(errc::canceled, e2));  // More than a cancellation.
    });
    group.go(returning(e1));
    const result<> ended = group.wait();
    EXPECT_EQ(ended.error().code(), e1.code());
    EXPECT_TRUE(ended.error().is(errc::closed));
    EXPECT_EQ(ended.error().message().find("read"), std::string::npos);
    EXPECT_EQ(ended.error().message().substr(0, 4), "e1; ");
  });
}

TEST_P(errgroup_test, thousands_of_failures_are_kept) {
  if (is_simulated()) GTEST_SKIP() << "too many fibers for many schedules";
  run([] {
    errgroup group{context::background()};
    constexpr int count = 5000;
    for (int i = 0; i < count; ++i) group.go(returning(error{errc::closed, "x"}));
    const std::string text = group.wait().error().message();
    EXPECT_EQ(std::count(text.begin(), text.end(), 'x'), count);
  });
}

TEST_P(errgroup_test, exception_is_a_failure_with_type_and_stack) {
  run([] {
    errgroup group{context::background()};
    group.go(until_ended);
    group.go([](context) { throws_out_of_range(); });
    const result<> ended = group.wait();
    ASSERT_FALSE(ended.has_value());
    EXPECT_EQ(ended.error().exception_type(), "std::out_of_range");
    EXPECT_NE(ended.error().stack().find("throws_out_of_range"), std::string::npos);
    EXPECT_NE(ended.error().message().find("no such thing"), std::string::npos);
    EXPECT_THROW(ended.error().rethrow(), std::out_of_range);
  });
}

TEST(errgroup, report_names_the_task_that_failed) {
  std::vector<panic_report> reports;
  runtime workers{{.procs = 1, .panic_handler = [&](const panic_report& report) {
                     reports.push_back(report);
                   }}};
  workers.run([] {
    errgroup group;
    group.go({.name = "first"}, [](context) { throw std::runtime_error{"one"}; });
    group.go({.name = "second"}, [](context) { throw std::runtime_error{"two"}; });
  });
  ASSERT_EQ(reports.size(), 2U);
  // In the order in which they failed, which is not always that of their start.
  const std::set<std::string> names{reports[0].name, reports[1].name};
  EXPECT_EQ(names, (std::set<std::string>{"first", "second"}));
}

struct throws_when_moved {
  throws_when_moved() = default;
  throws_when_moved(throws_when_moved&&) { throw std::runtime_error{"moved"}; }
};

TEST_P(errgroup_test, a_move_that_throws_is_a_failure) {
  run([] {
    errgroup group{context::background()};
    group.go([](context) -> result<throws_when_moved> { return throws_when_moved{}; });
    const result<> ended = group.wait();
    ASSERT_FALSE(ended);
    EXPECT_NE(ended.error().exception(), nullptr);
  });
}

TEST_P(errgroup_test, values_of_results_are_dropped) {
  run([] {
    errgroup group{context::background()};
    group.go([](context) -> result<int> { return 1; });
    group.go([](const context&) -> result<std::unique_ptr<int>> { return fail(e1); });
    EXPECT_EQ(group.wait().error(), e1);
  });
}

TEST_P(errgroup_test, does_not_start_after_its_wait) {
  run([] {
    errgroup group{context::background()};
    EXPECT_TRUE(group.wait().has_value());
    EXPECT_THROW(group.go([](context) { ADD_FAILURE(); }), panic_error);
    EXPECT_THROW(static_cast<void>(group.try_go([](context) { ADD_FAILURE(); })), panic_error);
    EXPECT_TRUE(group.wait().has_value());
  });
}

TEST_P(errgroup_test, tasks_start_tasks) {
  run([] {
    errgroup group{context::background()};
    std::atomic<int> ran{0};
    group.go([&](context) {
      for (int i = 0; i < 10; ++i) {
        group.go([&](context) {
          group.go([&ran](context) { ++ran; });
          ++ran;
        });
      }
      ++ran;
    });
    EXPECT_TRUE(group.wait().has_value());
    EXPECT_EQ(ran, 21);
  });
}

TEST_P(errgroup_test, several_wait) {
  run([] {
    errgroup group{context::background()};
    std::atomic<bool> go_on{false};
    group.go([&go_on](context) -> result<> {
      while (!go_on) yield();
      return fail(e1);
    });
    errgroup waiters;
    for (int i = 0; i < 5; ++i) {
      waiters.go([&group](context) { EXPECT_EQ(group.wait().error(), e1); });
    }
    yield();
    go_on = true;
    EXPECT_TRUE(waiters.wait().has_value());
    EXPECT_EQ(group.wait().error(), e1);
  });
}

// What a task holds is gone when wait() has returned.
TEST_P(errgroup_test, functions_are_destroyed_before_wait_returns) {
  run([] {
    for (int round = 0; round < 100; ++round) {
      const auto held = std::make_shared<int>(0);
      errgroup group{context::background()};
      for (int i = 0; i < 5; ++i) group.go([held](context) {});
      EXPECT_TRUE(group.wait().has_value());
      EXPECT_EQ(held.use_count(), 1);
    }
  });
}

TEST_P(errgroup_test, fiber_locals_are_gone_when_wait_returns) {
  run([] {
    struct counts_end {
      ~counts_end() {
        yield();
        if (ends != nullptr) ++*ends;
      }
      std::atomic<int>* ends = nullptr;
    };
    std::atomic<int> ends{0};
    fiber_local<counts_end> value;
    for (int round = 1; round <= 20; ++round) {
      errgroup group{context::background()};
      for (int i = 0; i < 5; ++i) group.go([&](context) { value->ends = &ends; });
      EXPECT_TRUE(group.wait().has_value());
      EXPECT_EQ(ends, 5 * round);
    }
  });
}

// EG-10: what tasks wrote is visible to whoever waited. ThreadSanitizer is the judge.
TEST_P(errgroup_test, tasks_fill_a_vector) {
  run([] {
    std::vector<int> slots(100);
    errgroup group{context::background()};
    for (std::size_t i = 0; i < slots.size(); ++i) {
      group.go([&slots, i](context) { slots[i] = static_cast<int>(i); });
    }
    EXPECT_TRUE(group.wait().has_value());
    for (std::size_t i = 0; i < slots.size(); ++i) EXPECT_EQ(slots[i], static_cast<int>(i));
  });
}

std::mutex log_lock;
std::string logged;
void catch_log(std::string_view text) noexcept {
  const std::lock_guard guard{log_lock};
  logged += text;
}

TEST_P(errgroup_test, destructor_cancels_joins_and_reports) {
  if (is_simulated()) GTEST_SKIP() << "what it reports is a failure of the simulation";
  logged.clear();
  set_log_sink(&catch_log);
  run([] {
    std::atomic<int> ended{0};
    {
      errgroup group{context::background()};
      for (int i = 0; i < 3; ++i) {
        group.go([&ended](context ctx) -> result<> {
          ctx.wait();
          yield();
          ++ended;
          return fail(error{errc::closed, "unread failure"});
        });
      }
    }
    EXPECT_EQ(ended, 3);
    {
      errgroup group;
      group.go([](context) { throw std::runtime_error{"unread exception"}; });
    }
    {
      errgroup group;
      group.go(returning(error{errc::closed, "read already"}));
      EXPECT_FALSE(group.wait().has_value());
    }
    {
      errgroup group{context::background()};
      group.go(until_ended);
    }
  });
  set_log_sink(nullptr);
  EXPECT_NE(logged.find("unread failure"), std::string::npos);
  EXPECT_NE(logged.find("unread exception"), std::string::npos);
  EXPECT_EQ(logged.find("read already"), std::string::npos);
  EXPECT_EQ(logged.find("canceled"), std::string::npos);
}

TEST_P(errgroup_test, says_what_runs) {
  run([] {
    errgroup group{context::background()};
    std::atomic<int> begun{0};
    group.go({.name = "api"}, [&begun](context ctx) {
      ++begun;
      ctx.wait();
    });
    group.go([&begun](context ctx) {
      ++begun;
      ctx.wait();
    });
    while (begun < 2) yield();
    std::vector<std::string> names = group.running();
    std::sort(names.begin(), names.end());
    ASSERT_EQ(names.size(), 2U);
    for (const std::string& name : names) {
      EXPECT_NE(name.find("errgroup_test.cpp:"), std::string::npos) << name;
    }
    EXPECT_EQ(names[1].substr(0, 5), "api (");
    group.cancel();
    EXPECT_TRUE(group.wait().has_value());
    EXPECT_TRUE(group.running().empty());
  });
}

TEST(errgroup, works_from_a_plain_thread) {
  errgroup group{context::background(), {.limit = 2}};
  std::atomic<int> ran{0};
  for (int i = 0; i < 20; ++i) group.go([&ran](context) { ++ran; });
  EXPECT_TRUE(group.wait().has_value());
  EXPECT_EQ(ran, 20);
}

TEST_P(errgroup_test, groups_nest) {
  run([] {
    errgroup outer{context::background()};
    for (int i = 0; i < 3; ++i) {
      outer.go([](context ctx) -> result<> {
        errgroup inner{ctx};
        for (int k = 0; k < 3; ++k) inner.go(until_ended);
        return inner.wait();
      });
    }
    outer.go(returning(e1));
    EXPECT_EQ(outer.wait().error(), e1);
  });
}

// Kratos' group passes each task whatever context it was made with; here a task that does not take
// the group's does not compile.
template <typename F>
concept can_go = requires(errgroup& group, F f) { group.go(f); };
static_assert(can_go<void (*)(context)> && can_go<result<> (*)(const context&)>);
static_assert(!can_go<void (*)()> && !can_go<result<> (*)()>);

// The parent of a group outlives it, or it is not a parent.
static_assert(!std::is_constructible_v<errgroup, with_cancel_result>);
static_assert(std::is_constructible_v<errgroup, with_cancel_result&>);
static_assert(!std::is_move_constructible_v<errgroup>);

EXEUNT_EXPLORED(errgroup_test);

}  // namespace
}  // namespace exeunt
