// SPDX-License-Identifier: Apache-2.0

#include <exeunt/sync/queue.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <exeunt/base/error.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/explored.hpp"
#include "support/until_parked.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using detail::wait_reason;

static_assert(!std::is_copy_constructible_v<queue<int>>);
static_assert(!std::is_move_constructible_v<queue<int>>);

class queue_test : public test::explored {};
EXEUNT_EXPLORED(queue_test);

TEST_P(queue_test, keeps_the_order) {
  run([] {
    queue<int> numbers;
    EXPECT_EQ(numbers.try_pop(), std::nullopt);
    for (int i = 0; i < 1000; ++i) ASSERT_TRUE(numbers.push(i));
    EXPECT_EQ(numbers.size(), 1000U);
    for (int i = 0; i < 1000; ++i) ASSERT_EQ(numbers.pop(), i);
    EXPECT_EQ(numbers.size(), 0U);
    EXPECT_EQ(numbers.peak(), 1000U);
    EXPECT_EQ(numbers.capacity(), queue<int>::unbounded);
  });
}

TEST_P(queue_test, without_room_for_anything_there_is_none) {
  run([] { EXPECT_THROW(queue<int>{0}, panic_error); });
}

TEST_P(queue_test, leaves_refused_values_with_the_caller) {
  run([] {
    queue<std::unique_ptr<int>> one{1};
    EXPECT_TRUE(one.push(std::make_unique<int>(1)));
    auto mine = std::make_unique<int>(2);
    EXPECT_FALSE(one.try_push(std::move(mine)));
    ASSERT_NE(mine, nullptr);
    const result<> timed = one.push(with_timeout(context::background(), 1ms), std::move(mine));
    ASSERT_FALSE(timed);
    EXPECT_TRUE(timed.error().is(errc::deadline_exceeded));
    ASSERT_NE(mine, nullptr);
    one.close();
    EXPECT_FALSE(one.push(std::move(mine)));
    EXPECT_FALSE(one.try_push(std::move(mine)));
    const result<> closed = one.push(context::background(), std::move(mine));
    ASSERT_FALSE(closed);
    EXPECT_TRUE(closed.error().is(errc::closed));
    ASSERT_NE(mine, nullptr);
    EXPECT_EQ(*mine, 2);
    EXPECT_EQ(**one.pop(), 1);
  });
}

TEST_P(queue_test, a_context_that_has_ended_pushes_and_takes_nothing) {
  run([] {
    queue<int> numbers;
    auto [ctx, cancel] = with_cancel(context::background());
    EXPECT_TRUE(numbers.push(ctx, 1));
    cancel();
    EXPECT_FALSE(numbers.push(ctx, 2));
    const result<int> taken = numbers.pop(ctx);
    ASSERT_FALSE(taken);
    EXPECT_TRUE(taken.error().is(errc::canceled));
    EXPECT_EQ(numbers.size(), 1U);
  });
}

TEST_P(queue_test, a_close_lets_consumers_drain_and_then_ends_them) {
  run([] {
    queue<int> numbers;
    EXPECT_TRUE(numbers.push(1));
    EXPECT_TRUE(numbers.push(2));
    numbers.close();
    numbers.close();
    EXPECT_TRUE(numbers.closed());
    EXPECT_EQ(numbers.pop(), 1);
    EXPECT_EQ(numbers.try_pop(), 2);
    EXPECT_EQ(numbers.pop(), std::nullopt);
    EXPECT_EQ(numbers.try_pop(), std::nullopt);
    const result<int> taken = numbers.pop(context::background());
    ASSERT_FALSE(taken);
    EXPECT_TRUE(taken.error().is(errc::closed));
  });
}

TEST_P(queue_test, a_close_ends_those_that_wait) {
  run([] {
    queue<int> empty;
    queue<std::unique_ptr<int>> full{1};
    EXPECT_TRUE(full.push(std::make_unique<int>(1)));
    wait_group waiting;
    for (int f = 0; f < 3; ++f) {
      waiting.go([&] { EXPECT_EQ(empty.pop(), std::nullopt); });
      waiting.go([&] {
        auto mine = std::make_unique<int>(2);
        EXPECT_FALSE(full.push(std::move(mine)));
        EXPECT_NE(mine, nullptr);
      });
    }
    test::until_parked(6, wait_reason::queue);
    empty.close();
    full.close();
    waiting.wait();
    EXPECT_EQ(full.size(), 1U);
  });
}

TEST_P(queue_test, serves_consumers_in_order) {
  run([] {
    queue<int> numbers;
    int got[3] = {};
    wait_group waiting;
    for (int f = 0; f < 3; ++f) {
      waiting.go([&, f] { got[f] = numbers.pop().value_or(-1); });
      test::until_parked(static_cast<std::size_t>(f) + 1, wait_reason::queue);
    }
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(numbers.push(i));
    EXPECT_EQ(numbers.size(), 0U) << "each went to the one that waited";
    waiting.wait();
    for (int f = 0; f < 3; ++f) EXPECT_EQ(got[f], f);
  });
}

TEST_P(queue_test, lets_producers_in_in_order) {
  run([] {
    queue<int> numbers{1};
    EXPECT_TRUE(numbers.push(0));
    wait_group waiting;
    for (int f = 1; f <= 3; ++f) {
      waiting.go([&, f] { EXPECT_TRUE(numbers.push(f)); });
      test::until_parked(static_cast<std::size_t>(f), wait_reason::queue);
    }
    EXPECT_FALSE(numbers.try_push(9));
    for (int i = 0; i <= 3; ++i) EXPECT_EQ(numbers.pop(), i);
    waiting.wait();
    EXPECT_EQ(numbers.peak(), 1U);
  });
}

TEST_P(queue_test, who_gives_up_loses_and_holds_up_nothing) {
  run([] {
    queue<int> numbers;
    auto [ctx, cancel] = with_cancel(context::background());
    int got = 0;
    wait_group waiting;
    waiting.go([&, &end = ctx] { EXPECT_FALSE(numbers.pop(end)); });
    test::until_parked(1, wait_reason::queue);
    waiting.go([&] { got = numbers.pop().value_or(-1); });
    test::until_parked(2, wait_reason::queue);
    cancel();
    EXPECT_TRUE(numbers.push(5));
    waiting.wait();
    EXPECT_EQ(got, 5);
  });
}

TEST_P(queue_test, cancel_against_push_loses_and_doubles_nothing) {
  run([] {
    for (int round = 0; round < 50; ++round) {
      queue<int> numbers;
      auto [ctx, cancel] = with_cancel(context::background());
      int got = 0;
      wait_group racing;
      racing.go([&, &end = ctx] {
        if (const result<int> taken = numbers.pop(end)) got += *taken;
      });
      racing.go([&, &stop = cancel] { stop(); });
      racing.go([&] { EXPECT_TRUE(numbers.push(1)); });
      racing.wait();
      got += numbers.try_pop().value_or(0);
      ASSERT_EQ(got, 1);
    }
  });
}

TEST_P(queue_test, cancel_against_pop_loses_and_doubles_nothing) {
  run([] {
    for (int round = 0; round < 50; ++round) {
      queue<std::unique_ptr<int>> one{1};
      EXPECT_TRUE(one.push(std::make_unique<int>(1)));
      auto [ctx, cancel] = with_cancel(context::background());
      std::atomic<int> values = 0;
      wait_group racing;
      racing.go([&, &end = ctx] {
        auto mine = std::make_unique<int>(2);
        const bool pushed = one.push(end, std::move(mine)).has_value();
        EXPECT_EQ(pushed, mine == nullptr);
        if (!pushed) ++values;
      });
      racing.go([&, &stop = cancel] { stop(); });
      racing.go([&] {
        if (one.pop()) ++values;
      });
      racing.wait();
      while (one.try_pop()) ++values;
      ASSERT_EQ(values, 2);
    }
  });
}

TEST_P(queue_test, destroys_what_nobody_took) {
  run([] {
    auto shared = std::make_shared<int>(1);
    {
      queue<std::shared_ptr<int>> some;
      for (int i = 0; i < 3; ++i) EXPECT_TRUE(some.push(shared));
      EXPECT_TRUE(some.pop());
      EXPECT_EQ(shared.use_count(), 3);
    }
    EXPECT_EQ(shared.use_count(), 1);
  });
}

// What is written before a push is plain, with a bound and without.
TEST_P(queue_test, a_push_comes_before_its_pop_and_a_close_before_the_end) {
  run([] {
    for (const std::size_t capacity : {queue<int*>::unbounded, std::size_t{1}}) {
      queue<int*> places{capacity};
      int places_written[8] = {};
      bool over = false;
      wait_group both;
      both.go([&] {
        for (int& place : places_written) {
          place = 1;
          EXPECT_TRUE(places.push(&place));
        }
        over = true;
        places.close();
      });
      both.go([&] {
        int seen = 0;
        while (const std::optional<int*> place = places.pop()) {
          EXPECT_EQ(**place, 1);
          ++seen;
        }
        EXPECT_TRUE(over);
        EXPECT_EQ(seen, 8);
      });
      both.wait();
    }
  });
}

TEST_P(queue_test, moves_each_value_once) {
  run([] {
    constexpr int producers = 3;
    constexpr int each = 50;
    queue<int> numbers{4};
    std::atomic<int> sum = 0;
    std::atomic<int> count = 0;
    wait_group making;
    wait_group taking;
    for (int p = 0; p < producers; ++p) {
      making.go([&] {
        for (int i = 1; i <= each; ++i) EXPECT_TRUE(numbers.push(i));
      });
      taking.go([&] {
        while (const std::optional<int> n = numbers.pop()) {
          sum += *n;
          ++count;
        }
      });
    }
    making.wait();
    numbers.close();
    taking.wait();
    EXPECT_EQ(count, producers * each);
    EXPECT_EQ(sum, producers * each * (each + 1) / 2);
    EXPECT_LE(numbers.peak(), 4U);
  });
}

TEST(queue_on_threads, needs_no_fiber_at_all) {
  queue<int> numbers{2};
  std::thread thread{[&] {
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(numbers.push(i));
    numbers.close();
  }};
  int expected = 0;
  while (const std::optional<int> n = numbers.pop()) EXPECT_EQ(*n, expected++);
  EXPECT_EQ(expected, 100);
  thread.join();
}

TEST(queue_death, destruction_under_a_consumer_is_fatal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto destroyed = [] {
    test::run_on(1, [] {
      auto numbers = std::make_unique<queue<int>>();
      go([q = numbers.get()] { static_cast<void>(q->pop()); });
      test::until_parked(1, wait_reason::queue);
      numbers.reset();
    });
  };
  EXPECT_DEATH(destroyed(), "destroyed while somebody waits");
}

}  // namespace
}  // namespace exeunt
