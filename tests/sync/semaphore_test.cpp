// SPDX-License-Identifier: Apache-2.0

#include <exeunt/sync/semaphore.hpp>

#include <atomic>
#include <chrono>
#include <vector>

#include <gtest/gtest.h>

#include <exeunt/base/error.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/explored.hpp"
#include "support/until_parked.hpp"
#include "support/without_monitor.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using detail::wait_reason;

class semaphore_test : public test::explored {};

// SY-05: of size 1 it is a lock; the counter is plain.
TEST_P(semaphore_test, of_size_one_excludes) {
  run([] {
    semaphore one{1};
    int counter = 0;
    wait_group fibers;
    for (int f = 0; f < 10; ++f) {
      fibers.go([&] {
        for (int i = 0; i < 1000; ++i) {
          one.acquire();
          ++counter;
          one.release();
        }
      });
    }
    fibers.wait();
    EXPECT_EQ(counter, 10 * 1000);
  });
}

// EG-11.
TEST_P(semaphore_test, weights_never_exceed_the_size) {
  run([] {
    constexpr int size = 8;
    semaphore bound{size};
    std::atomic<int> held = 0;
    wait_group fibers;
    for (int weight = 0; weight < size; ++weight) {
      fibers.go([&, weight] {
        for (int i = 0; i < 500; ++i) {
          bound.acquire(static_cast<std::uint64_t>(weight));
          EXPECT_LE(held += weight, size);
          if (i % 16 == 0) yield();
          held -= weight;
          bound.release(static_cast<std::uint64_t>(weight));
        }
      });
    }
    fibers.wait();
    EXPECT_TRUE(bound.try_acquire(size));
  });
}

// EG-12.
TEST_P(semaphore_test, releasing_what_was_not_acquired_throws) {
  run([] {
    semaphore one{1};
    EXPECT_THROW(one.release(), panic_error);
    one.acquire();
    EXPECT_THROW(one.release(2), panic_error);
    one.release();
    EXPECT_TRUE(one.try_acquire());
  });
}

// EG-13.
TEST_P(semaphore_test, try_acquire_and_timed_acquire_agree) {
  run([] {
    semaphore two{2};
    two.acquire();
    EXPECT_TRUE(two.try_acquire());
    EXPECT_FALSE(two.try_acquire());
    EXPECT_FALSE(two.try_acquire_for(1ms));
    EXPECT_FALSE(two.acquire(with_timeout(context::background(), 1ms)));
    two.release(2);
    EXPECT_TRUE(two.try_acquire());
    EXPECT_TRUE(two.acquire(context::background()));
    EXPECT_FALSE(two.try_acquire());
  });
}

// SEMANTICS 10: who wants much is not overtaken.
TEST_P(semaphore_test, serves_in_order_and_nobody_overtakes_a_large_one) {
  run([] {
    semaphore bound{3};
    std::atomic<bool> large_has_it = false;
    bound.acquire(2);
    wait_group fibers;
    fibers.go([&] {
      bound.acquire(3);
      large_has_it = true;
      bound.release(3);
    });
    test::until_parked(1, wait_reason::semaphore);
    EXPECT_FALSE(bound.try_acquire(1)) << "one unit is free, but somebody waits";
    fibers.go([&] {
      bound.acquire(1);
      EXPECT_TRUE(large_has_it);
      bound.release(1);
    });
    test::until_parked(2, wait_reason::semaphore);
    bound.release(2);
    fibers.wait();
    EXPECT_TRUE(bound.try_acquire(3));
  });
}

TEST_P(semaphore_test, a_large_one_that_gives_up_lets_the_others_pass) {
  run([] {
    semaphore bound{2};
    bound.acquire(1);
    auto [ctx, cancel] = with_cancel(context::background());
    wait_group fibers;
    fibers.go([&, &end = ctx] {
      const result<> got = bound.acquire(end, 2);
      ASSERT_FALSE(got);
      EXPECT_TRUE(got.error().is(errc::canceled));
    });
    test::until_parked(1, wait_reason::semaphore);
    fibers.go([&] { bound.acquire(1); });
    test::until_parked(2, wait_reason::semaphore);
    cancel();
    fibers.wait();
    bound.release(2);
    EXPECT_TRUE(bound.try_acquire(2));
  });
}

TEST_P(semaphore_test, more_than_there_is_waits_for_the_context_and_blocks_nobody) {
  run([] {
    semaphore bound{2};
    EXPECT_THROW(bound.acquire(3), panic_error);
    EXPECT_FALSE(bound.try_acquire(3));
    auto [ctx, cancel] = with_cancel(context::background());
    wait_group fibers;
    fibers.go([&, &end = ctx] { EXPECT_FALSE(bound.acquire(end, 3)); });
    test::until_parked(1, wait_reason::semaphore);
    EXPECT_TRUE(bound.try_acquire(2));
    bound.release(2);
    cancel();
    fibers.wait();
    EXPECT_FALSE(bound.acquire(ctx, 1)) << "the context has ended, though there are units";
  });
}

// Goal:   nobody gives way with a unit in hand, for which all others would then have to queue.
// Method: on one worker, one acquires and releases all the time, and the other looks whenever the
//         first gives way.
TEST(semaphore_turns, who_gives_way_holds_nothing) {
  test::without_monitor alone;
  runtime workers{{.procs = 1, .seam = alone.seam()}};
  workers.run([] {
    semaphore one{1};
    std::atomic<bool> is_over = false;
    wait_group fibers;
    fibers.go([&] {
      for (int i = 0; i < 10'000; ++i) {
        one.acquire();
        one.release();
      }
      is_over = true;
    });
    int looks = 0;
    int in_vain = 0;
    while (!is_over) {
      ++looks;
      if (one.try_acquire()) {
        one.release();
      } else {
        ++in_vain;
      }
      yield();
    }
    EXPECT_GT(looks, 10);
    EXPECT_EQ(in_vain, 0);
    fibers.wait();
  });
  test::stop_and_expect_none_left(workers);
}

TEST(semaphore_death, too_many_units_are_fatal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  constexpr std::uint64_t most = (std::uint64_t{1} << 63) - 1;
  semaphore many{most};
  EXPECT_TRUE(many.try_acquire(most));
  EXPECT_FALSE(many.try_acquire());
  many.release(most);
  EXPECT_DEATH(semaphore{most + 1}, "less than 2");
}

EXEUNT_EXPLORED(semaphore_test);

}  // namespace
}  // namespace exeunt
