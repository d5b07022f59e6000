// SPDX-License-Identifier: Apache-2.0

#include <exeunt/group/first_of.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/time/sleep.hpp>

#include "support/explored.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;

class first_of_test : public test::explored {};
EXEUNT_EXPLORED(first_of_test);

const error e1{errc::malformed, "e1"};
const error e2{errc::closed, "e2"};

[[gnu::noinline]] int throws_out_of_range() { throw std::out_of_range{"no"}; }

result<int> until_ended(const context& ctx) {
  ctx.wait();
  return fail(*ctx.err());
}

auto failing(const error& why) {
  return [why](const context&) -> result<int> { return fail(why); };
}

// Goal:   the first success ends the others, which have ended on return.
TEST_P(first_of_test, takes_the_first_success_and_joins_the_rest) {
  run([] {
    std::atomic<int> ended{0};
    const auto slow = [&ended](const context& ctx) -> result<int> {
      ctx.wait();
      yield();
      ++ended;
      return fail(*ctx.err());
    };
    const result<int> first = first_of(
        context::background(), slow, [](const context&) -> result<int> { return 7; }, slow);
    EXPECT_EQ(first, 7);
    EXPECT_EQ(ended, 2);
  });
}

// Goal:   a failure ends nobody: a later success is what counts.
TEST_P(first_of_test, a_failure_ends_nobody) {
  run([] {
    std::atomic<bool> failed{false};
    const result<int> first = first_of(
        context::background(),
        [&](const context&) -> result<int> {
          failed = true;
          return fail(e1);
        },
        [&](const context& ctx) -> result<int> {
          while (!failed) yield();
          for (int i = 0; i < 20; ++i) yield();
          EXPECT_FALSE(ctx.err().has_value());
          return 1;
        });
    EXPECT_EQ(first, 1);
  });
}

// Goal:   exactly one of several that succeed at once is taken.
TEST_P(first_of_test, one_of_several_that_succeed_is_taken) {
  run([] {
    const auto value = [](int v) {
      return [v](const context&) { return std::make_unique<int>(v); };
    };
    const result<std::unique_ptr<int>> first =
        first_of(context::background(), value(1), value(2), value(3));
    ASSERT_TRUE(first);
    EXPECT_GE(**first, 1);
    EXPECT_LE(**first, 3);
  });
}

TEST_P(first_of_test, failures_of_all_are_joined_in_the_order_of_the_arguments) {
  run([] {
    std::atomic<bool> second_failed{false};
    const result<int> first = first_of(
        context::background(),
        [&](const context&) -> result<int> {
          while (!second_failed) yield();
          return fail(e1);
        },
        [&](const context&) -> result<int> {
          second_failed = true;
          return fail(e2);
        });
    ASSERT_FALSE(first);
    EXPECT_EQ(first.error().message(), "e1; e2");
    EXPECT_EQ(first.error().code(), e1.code());
  });
}

TEST_P(first_of_test, an_exception_is_a_failure_with_type_and_stack) {
  run([] {
    const result<int> first = first_of(
        context::background(), [](const context&) { return throws_out_of_range(); }, failing(e1));
    ASSERT_FALSE(first);
    EXPECT_EQ(first.error().exception_type(), "std::out_of_range");
    EXPECT_NE(first.error().stack().find("throws_out_of_range"), std::string::npos);
    EXPECT_TRUE(first.error().is(errc::malformed));
  });
}

// Goal:   an exception beside a success is no failure of the call, and yet is not lost.
TEST(first_of, an_exception_beside_a_success_is_reported) {
  std::vector<panic_report> reports;
  runtime workers{{.procs = 2, .panic_handler = [&](const panic_report& report) {
                     reports.push_back(report);
                   }}};
  workers.run([] {
    std::atomic<bool> thrown{false};
    struct says_so {
      std::atomic<bool>& thrown;
      ~says_so() { thrown = true; }
    };
    const result<int> first = first_of(
        context::background(),
        [&](const context&) -> result<int> {
          const says_so saying{thrown};
          throw std::runtime_error{"a bug"};
        },
        [&](const context&) -> result<int> {
          while (!thrown) yield();
          return 1;
        },
        failing(e1));
    EXPECT_EQ(first, 1);
  });
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].what.exception_type(), "std::runtime_error");
}

// --- contexts

TEST_P(first_of_test, calls_nothing_if_its_context_has_ended) {
  run([] {
    auto [ctx, cancel] = with_cancel(context::background());
    cancel();
    const result<int> first = first_of(ctx, [](const context&) {
      ADD_FAILURE();
      return 1;
    });
    EXPECT_EQ(first.error(), error{errc::canceled});
  });
}

TEST_P(first_of_test, the_end_of_its_context_is_told_once) {
  run([] {
    const result<int> first =
        first_of(with_timeout(context::background(), 1ms), until_ended, until_ended, until_ended);
    EXPECT_EQ(first.error(), error{errc::deadline_exceeded});
  });
}

TEST_P(first_of_test, other_failures_come_before_the_end_of_its_context) {
  run([] {
    auto [ctx, cancel] = with_cancel_cause(context::background());
    const result<int> first =
        first_of(ctx, until_ended, [&, &stop = cancel](const context&) -> result<int> {
          stop(error::from_signal(15));
          return fail(e1);
        });
    ASSERT_FALSE(first);
    EXPECT_EQ(first.error().code(), e1.code());
    EXPECT_TRUE(first.error().is(errc::canceled));
  });
}

TEST_P(first_of_test, tells_of_the_signal_that_ended_it) {
  run([] {
    auto [ctx, cancel] = with_cancel_cause(context::background());
    const result<void> first = first_of(ctx, [&, &stop = cancel](const context& own) -> result<> {
      stop(error::from_signal(15));
      own.wait();
      return fail(*own.err());
    });
    EXPECT_EQ(first.error().signal(), 15);
    EXPECT_EQ(exit_code(first), 0);
  });
}

// One that gives up by itself is a failure like any other.
TEST_P(first_of_test, a_cancellation_of_its_own_is_a_failure) {
  run([] {
    const result<int> first = first_of(context::background(), failing(errc::canceled), failing(e1));
    EXPECT_TRUE(first.error().is(errc::canceled));
    EXPECT_TRUE(first.error().is(errc::malformed));
  });
}

// --- what is called, and what comes back

TEST_P(first_of_test, functions_may_return_nothing) {
  run([] {
    std::atomic<int> ran{0};
    const result<> first = first_of(
        context::background(), [&](const context&) { ++ran; }, [&](const context&) { ++ran; });
    EXPECT_TRUE(first);
    EXPECT_EQ(ran, 2);
  });
}

TEST_P(first_of_test, takes_a_range_of_functions) {
  run([] {
    std::vector<std::function<result<int>(const context&)>> functions(5, until_ended);
    functions[3] = [](const context&) -> result<int> { return 3; };
    EXPECT_EQ(first_of(context::background(), functions), 3);
    functions.clear();
    EXPECT_TRUE(first_of(context::background(), functions).error().is(errc::closed));
  });
}

// What was written by each is visible afterwards. ThreadSanitizer is the judge.
TEST_P(first_of_test, sees_what_all_have_written) {
  run([] {
    int left = 0;
    int right = 0;
    EXPECT_TRUE(first_of(
        context::background(), [&](const context&) { left = 1; },
        [&](const context&) { right = 1; }));
    EXPECT_EQ(left + right, 2);
  });
}

TEST_P(first_of_test, names_the_line_that_called) {
  run([] {
    EXPECT_TRUE(first_of(context::background(), [](const context&) {
      const auto all = runtime::current().fibers();
      const auto mine = std::ranges::find(all, this_fiber::id(), &fiber_info::id);
      EXPECT_NE(std::string{mine->started_at.file_name()}.find("first_of_test"), std::string::npos);
    }));
  });
}

TEST(first_of, works_from_a_plain_thread) {
  EXPECT_EQ(first_of(context::background(), until_ended, [](const context&) { return 5; }), 5);
}

// All give the same type.
template <typename... Fs>
concept accepted = requires(const context& ctx, Fs... fs) { first_of(ctx, fs...); };
using gives_int = int (*)(const context&);
using gives_result = result<int> (*)(const context&);
using gives_string = std::string (*)(const context&);
static_assert(accepted<gives_int, gives_result> && !accepted<gives_int, gives_string>);
static_assert(!accepted<> && !accepted<int (*)()>);

}  // namespace
}  // namespace exeunt
