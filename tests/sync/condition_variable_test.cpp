// SPDX-License-Identifier: Apache-2.0

#include <exeunt/sync/condition_variable.hpp>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/explored.hpp"
#include "support/until_parked.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using detail::wait_reason;

static_assert(!std::is_copy_constructible_v<condition_variable>);
static_assert(!std::is_move_constructible_v<condition_variable>);

class condition_variable_test : public test::explored {};

// SY-24: nobody is awake before a signal, each wakes exactly one, in the order of their waits.
TEST_P(condition_variable_test, each_notify_wakes_one_in_order) {
  run([] {
    mutex m;
    condition_variable changed;
    std::vector<int> woken;
    wait_group fibers;
    changed.notify_one();  // Nobody waits: no effect, also later.
    for (int f = 0; f < 3; ++f) {
      fibers.go([&, f] {
        std::unique_lock held{m};
        changed.wait(held);
        woken.push_back(f);
      });
      test::until_parked(static_cast<std::size_t>(f) + 1, wait_reason::condition);
    }
    for (int f = 0; f < 3; ++f) {
      {
        const std::lock_guard guard{m};
        ASSERT_EQ(woken.size(), static_cast<std::size_t>(f));
      }
      changed.notify_one();
      for (bool seen = false; !seen;) {
        yield();
        const std::lock_guard guard{m};
        seen = woken.size() == static_cast<std::size_t>(f) + 1;
      }
      EXPECT_EQ(woken.back(), f);
    }
    fibers.wait();
    changed.notify_one();
  });
}

// SY-26; in simulations, which run it under many schedules, a smaller one.
TEST_P(condition_variable_test, notify_all_wakes_each_waiter_once_a_round) {
  run([] {
    const int waiter_count = is_simulated() ? 50 : 200;
    const int rounds = waiter_count;
    mutex m;
    condition_variable changed;
    int round = 0;
    int waiting = 0;
    int woken = 0;
    wait_group fibers;
    for (int f = 0; f < waiter_count; ++f) {
      fibers.go([&] {
        std::unique_lock held{m};
        for (int r = 1; r <= rounds; ++r) {
          ++waiting;
          changed.wait(held);
          EXPECT_EQ(round, r);
          ++woken;
        }
      });
    }
    for (int r = 1; r <= rounds; ++r) {
      for (bool all = false; !all;) {
        yield();
        const std::lock_guard guard{m};
        all = waiting == waiter_count;
        if (all) {
          EXPECT_EQ(woken, (r - 1) * waiter_count);
          waiting = 0;
          round = r;
          changed.notify_all();
        }
      }
    }
    fibers.wait();
    EXPECT_EQ(woken, rounds * waiter_count);
  });
}

// SY-27: x goes from 1 to 2 to 3, each step seen by the one that waits for it.
TEST_P(condition_variable_test, hands_a_changing_value_along) {
  run([] {
    mutex m;
    condition_variable changed;
    int x = 0;
    wait_group fibers;
    fibers.go([&] {
      std::unique_lock held{m};
      x = 1;
      changed.wait(held, [&] { return x == 2; });
      x = 3;
      changed.notify_all();
    });
    fibers.go([&] {
      std::unique_lock held{m};
      while (x != 1) {
        held.unlock();
        yield();
        held.lock();
      }
      x = 2;
      changed.notify_all();
      changed.wait(held, [&] { return x == 3; });
    });
    fibers.wait();
    EXPECT_EQ(x, 3);
  });
}

TEST_P(condition_variable_test, a_context_ends_the_wait_with_the_lock_held) {
  run([] {
    mutex m;
    condition_variable changed;
    auto [ctx, cancel] = with_cancel(context::background());
    wait_group fibers;
    fibers.go([&, &end = ctx] {
      std::unique_lock held{m};
      const result<> waited = changed.wait(end, held, [] { return false; });
      ASSERT_FALSE(waited);
      EXPECT_TRUE(waited.error().is(errc::canceled));
      EXPECT_FALSE(m.try_lock());
    });
    test::until_parked(1, wait_reason::condition);
    cancel();
    fibers.wait();
    EXPECT_TRUE(m.try_lock());
    m.unlock();
  });
}

TEST_P(condition_variable_test, a_notify_is_not_lost_on_one_that_gave_up) {
  run([] {
    mutex m;
    condition_variable changed;
    int tokens = 0;
    int taken = 0;
    auto [ctx, cancel] = with_cancel(context::background());
    wait_group fibers;
    fibers.go([&, &end = ctx] {
      std::unique_lock held{m};
      static_cast<void>(changed.wait(end, held));
    });
    test::until_parked(1, wait_reason::condition);
    fibers.go([&] {
      std::unique_lock held{m};
      changed.wait(held, [&] { return tokens > 0; });
      ++taken;
    });
    test::until_parked(2, wait_reason::condition);
    cancel();
    {
      const std::lock_guard guard{m};
      tokens = 1;
    }
    changed.notify_one();
    fibers.wait();
    EXPECT_EQ(taken, 1);
  });
}

TEST_P(condition_variable_test, a_deadline_ends_the_wait) {
  run([] {
    mutex m;
    condition_variable changed;
    std::unique_lock held{m};
    EXPECT_FALSE(changed.wait_for(held, 1ms));
    EXPECT_TRUE(held.owns_lock());
    EXPECT_FALSE(changed.wait_until(held, clock::now(), [] { return false; }));
    EXPECT_TRUE(changed.wait_for(held, 1h, [] { return true; }));
  });
}

TEST(condition_variable_on_threads, needs_no_fiber_at_all) {
  mutex m;
  condition_variable changed;
  bool ready = false;
  std::thread thread{[&] {
    {
      const std::lock_guard guard{m};
      ready = true;
    }
    changed.notify_one();
  }};
  {
    std::unique_lock held{m};
    changed.wait(held, [&] { return ready; });
  }
  thread.join();
}

TEST(condition_variable_death, a_wait_without_the_lock_is_fatal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  mutex m;
  condition_variable changed;
  std::unique_lock held{m, std::defer_lock};
  EXPECT_DEATH(changed.wait(held), "without its lock");
}

EXEUNT_EXPLORED(condition_variable_test);

}  // namespace
}  // namespace exeunt
