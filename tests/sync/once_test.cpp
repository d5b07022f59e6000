// SPDX-License-Identifier: Apache-2.0

#include <exeunt/sync/once.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include <gtest/gtest.h>

#include <exeunt/base/error.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/explored.hpp"
#include "support/until_parked.hpp"

namespace exeunt {
namespace {

using detail::wait_reason;

static_assert(!std::is_copy_constructible_v<once> && !std::is_move_constructible_v<once>);
constinit once global_once;

class once_test : public test::explored {};

// SY-17: every caller sees the effect; the counter is plain.
TEST_P(once_test, runs_the_body_once_and_shows_its_effect_to_all) {
  run([] {
    once first;
    int count = 0;
    wait_group fibers;
    for (int f = 0; f < 10; ++f) {
      fibers.go([&] {
        first.call([&] { ++count; });
        EXPECT_EQ(count, 1);
        EXPECT_TRUE(first.done());
      });
    }
    fibers.wait();
    EXPECT_EQ(count, 1);
  });
}

TEST_P(once_test, callers_wait_for_a_body_that_parks) {
  if (is_simulated()) GTEST_SKIP() << "a simulation has no threads";
  run([] {
    once first;
    wait_group gate;
    gate.add(1);
    bool finished = false;
    wait_group fibers;
    fibers.go([&] {
      first.call([&] {
        gate.wait();
        finished = true;
      });
    });
    test::until_parked(1, wait_reason::wait_group);
    for (int f = 0; f < 5; ++f) {
      fibers.go([&] {
        first.call([] { ADD_FAILURE() << "ran twice"; });
        EXPECT_TRUE(finished);
      });
    }
    std::thread thread{[&] {
      first.call([] { ADD_FAILURE() << "ran twice"; });
      EXPECT_TRUE(finished);
    }};
    test::until_parked(5, wait_reason::once);
    EXPECT_FALSE(first.done());
    gate.done();
    fibers.wait();
    thread.join();
  });
}

TEST(once_on_threads, needs_no_fiber_at_all) {
  int count = 0;
  std::thread thread{[&] { global_once.call([&] { ++count; }); }};
  global_once.call([&] { ++count; });
  thread.join();
  EXPECT_EQ(count, 1);
}

// An exception counts as done; later callers get the same object (SEMANTICS 10).
TEST_P(once_test, an_exception_is_thrown_to_each_caller) {
  run([] {
    once first;
    int count = 0;
    const auto body = [&] {
      ++count;
      throw std::runtime_error{"no config"};
    };
    EXPECT_THROW(first.call(body), std::runtime_error);
    EXPECT_THROW(first.call(body), std::runtime_error);
    EXPECT_THROW(first.call([] {}), std::runtime_error);
    EXPECT_THROW(static_cast<void>(first.call(context::background(), [] {})), std::runtime_error);
    EXPECT_EQ(count, 1);
    EXPECT_TRUE(first.done());
  });
}

TEST_P(once_test, an_exception_reaches_those_who_wait) {
  run([] {
    once first;
    wait_group gate;
    gate.add(1);
    std::atomic<int> thrown = 0;
    wait_group fibers;
    const auto call = [&] {
      try {
        first.call([&] {
          gate.wait();
          throw std::runtime_error{"late"};
        });
      } catch (const std::runtime_error& e) {
        EXPECT_STREQ(e.what(), "late");
        ++thrown;
      }
    };
    for (int f = 0; f < 4; ++f) fibers.go(call);
    test::until_parked(3, wait_reason::once);
    gate.done();
    fibers.wait();
    EXPECT_EQ(thrown, 4);
  });
}

TEST_P(once_test, a_nested_call_throws_instead_of_waiting_for_itself) {
  run([] {
    once first;
    EXPECT_THROW(first.call([&] { first.call([] {}); }), panic_error);
    EXPECT_THROW(first.call([] {}), panic_error);
  });
}

TEST_P(once_test, a_context_ends_the_wait_but_not_the_body) {
  run([] {
    once first;
    wait_group gate;
    gate.add(1);
    wait_group fibers;
    fibers.go([&] { first.call([&] { gate.wait(); }); });
    test::until_parked(1, wait_reason::wait_group);
    auto [ctx, cancel] = with_cancel(context::background());
    fibers.go([&, &end = ctx] {
      const result<> called = first.call(end, [] { ADD_FAILURE() << "ran twice"; });
      ASSERT_FALSE(called);
      EXPECT_TRUE(called.error().is(errc::canceled));
    });
    test::until_parked(1, wait_reason::once);
    cancel();
    test::until_parked(1, wait_reason::wait_group);
    EXPECT_FALSE(first.done());
    gate.done();
    fibers.wait();
    EXPECT_TRUE(first.call(ctx, [] {})) << "what is done needs no waiting";
    once never;
    EXPECT_FALSE(never.call(ctx, [] { ADD_FAILURE() << "the context had ended"; }));
    EXPECT_FALSE(never.done());
  });
}

// SY-19: a value, and a pair of them, made once over eleven calls.
TEST_P(once_test, once_value_makes_its_value_once) {
  run([] {
    int made = 0;
    once_value number{[&] { return ++made; }};
    once_value both{[] { return std::pair{1, 2}; }};
    const int* const first = &number();
    for (int i = 0; i < 10; ++i) {
      EXPECT_EQ(number(), 1);
      EXPECT_EQ(&number(), first);
      EXPECT_EQ(both(), (std::pair{1, 2}));
    }
    EXPECT_EQ(made, 1);
    const auto got = number.get(context::background());
    ASSERT_TRUE(got);
    EXPECT_EQ(*got, first);
  });
}

TEST_P(once_test, once_value_drops_its_function_after_the_call) {
  run([] {
    auto kept = std::make_shared<int>(1);
    once_value value{[kept] { return *kept; }};
    EXPECT_EQ(kept.use_count(), 2);
    EXPECT_EQ(value(), 1);
    EXPECT_EQ(kept.use_count(), 1);
    once_value failing{[kept]() -> int { throw std::runtime_error{"no"}; }};
    EXPECT_THROW(failing(), std::runtime_error);
    EXPECT_EQ(kept.use_count(), 1);
    EXPECT_THROW(failing(), std::runtime_error);
  });
}

TEST_P(once_test, once_value_holds_what_can_only_be_moved) {
  run([] {
    once_value value{[p = std::make_unique<int>(5)]() mutable { return std::move(p); }};
    EXPECT_EQ(*value(), 5);
    EXPECT_EQ(*value(), 5);
  });
}

EXEUNT_EXPLORED(once_test);

}  // namespace
}  // namespace exeunt
