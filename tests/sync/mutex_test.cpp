// SPDX-License-Identifier: Apache-2.0

#include <exeunt/sync/mutex.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>

#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sim/gtest.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/explored.hpp"
#include "support/lock_reports.hpp"
#include "support/until_parked.hpp"
#include "support/without_monitor.hpp"
#include "sync/mutex_shapes.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using detail::wait_reason;

// SY-29, for the mutex: a copy of a used lock is no lock, so there is none.
static_assert(!std::is_copy_constructible_v<mutex> && !std::is_move_constructible_v<mutex>);
static_assert(sizeof(mutex) <= 16);
// A global one needs no initialisation at run time, hence has no order to get wrong.
constinit mutex global_mutex;

class mutex_test : public test::explored {};

void until_waiting(std::size_t count) { test::until_parked(count, wait_reason::mutex); }

TEST_P(mutex_test, try_lock_says_whether_it_was_free) {
  run(test::try_lock_says_whether_it_was_free<mutex>);
}

// SY-01, second half; the counter is plain, so a missing edge is a race under ThreadSanitizer.
TEST_P(mutex_test, ten_fibers_lock_and_unlock) {
  run([] {
    mutex m;
    int counter = 0;
    std::atomic<int> expected = 0;
    wait_group fibers;
    for (int f = 0; f < 10; ++f) {
      fibers.go([&] {
        for (int i = 0; i < 1000; ++i) {
          if (i % 3 == 0) {
            if (!m.try_lock()) continue;
          } else {
            m.lock();
          }
          ++counter;
          ++expected;
          m.unlock();
        }
      });
    }
    fibers.wait();
    EXPECT_EQ(counter, expected.load());
    EXPECT_GE(counter, 10 * 666);
  });
}

TEST_P(mutex_test, excludes_fibers_that_yield_inside_and_threads) {
  if (is_simulated()) GTEST_SKIP() << "a simulation has no threads";
  run([] {
    mutex m;
    int inside = 0;
    int entered = 0;
    const auto enter = [&](bool may_yield) {
      const std::lock_guard guard{m};
      EXPECT_EQ(++inside, 1);
      ++entered;
      if (may_yield) yield();
      EXPECT_EQ(--inside, 0);
    };
    wait_group fibers;
    for (int f = 0; f < 4; ++f) {
      fibers.go([&] {
        for (int i = 0; i < 300; ++i) enter(i % 8 == 0);
      });
    }
    std::vector<std::thread> threads;
    for (int t = 0; t < 2; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 300; ++i) enter(false);
      });
    }
    fibers.wait();
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(entered, 6 * 300);
  });
}

TEST_P(mutex_test, another_fiber_may_unlock) { run(test::another_fiber_may_unlock<mutex>); }

TEST_P(mutex_test, a_thread_may_unlock_what_a_fiber_locked_and_wake_it) {
  if (is_simulated()) GTEST_SKIP() << "a simulation has no threads";
  const test::unwatched_locks on_purpose;  // It waits for a lock that it holds.
  run([] {
    mutex m;
    int data = 0;
    m.lock();
    std::thread thread{[&] {
      data = 42;
      m.unlock();
    }};
    m.lock();
    EXPECT_EQ(data, 42);
    m.unlock();
    thread.join();
  });
}

TEST(mutex_on_threads, needs_no_fiber_at_all) { test::is_locked_by_threads(global_mutex, 5000); }

TEST_P(mutex_test, works_with_the_standard_guards) {
  run(test::works_with_the_standard_guards<mutex>);
}

TEST_P(mutex_test, try_lock_for_gives_up_and_leaves_the_queue_sound) {
  run(test::try_lock_for_gives_up_and_leaves_the_queue_sound<mutex>);
}

TEST_P(mutex_test, try_lock_for_gets_what_is_unlocked_in_time) {
  run([] { test::try_lock_for_gets_what_is_unlocked_in_time<mutex>(until_waiting); });
}

TEST_P(mutex_test, lock_with_an_ended_context_fails_though_it_is_free) {
  run([] {
    mutex m;
    auto [ctx, cancel] = with_cancel(context::background());
    EXPECT_TRUE(m.lock(ctx));
    m.unlock();
    cancel();
    const result<> locked = m.lock(ctx);
    ASSERT_FALSE(locked);
    EXPECT_TRUE(locked.error().is(errc::canceled));
    EXPECT_TRUE(m.try_lock());
    m.unlock();
  });
}

TEST_P(mutex_test, a_deadline_of_the_context_ends_the_wait) {
  const test::unwatched_locks on_purpose;  // It waits for a lock that it holds.
  run([] {
    mutex m;
    m.lock();
    const result<> locked = m.lock(with_timeout(context::background(), 1ms));
    ASSERT_FALSE(locked);
    EXPECT_TRUE(locked.error().is(errc::deadline_exceeded));
    m.unlock();
  });
}

TEST_P(mutex_test, a_cancelled_wait_leaves_the_queue_sound) {
  run([] { test::a_cancelled_wait_leaves_the_queue_sound<mutex>(until_waiting); });
}

TEST_P(mutex_test, cancel_against_unlock_loses_no_lock) {
  run([] { test::cancel_against_unlock_loses_no_lock<mutex>(500); });
}

// Starvation mode: a fiber that unlocks only to lock again cannot keep a modest one out. On one
// worker nothing but the hand-over can help: whenever the modest one runs, the lock is held.
TEST_P(mutex_test, a_modest_fiber_gets_the_lock_from_greedy_ones) {
  if (is_simulated()) GTEST_SKIP() << "time stands still while the greedy ones run";
  run([] {
    mutex m;
    std::atomic<bool> done = false;
    wait_group fibers;
    for (int greedy = 0; greedy < 2; ++greedy) {
      fibers.go([&] {
        while (!done) {
          const std::lock_guard guard{m};
          yield();
        }
      });
    }
    fibers.go([&] {
      for (int i = 0; i < 10; ++i) {
        {
          const std::lock_guard guard{m};
        }
        yield();
      }
      done = true;
    });
    fibers.wait();
    EXPECT_TRUE(m.try_lock());
    m.unlock();
  });
}

// Without the turn that lock() gives, the one that unlock() woke would never run on one worker.
TEST(mutex_fairness, who_locks_again_and_again_lets_a_woken_one_run) {
  test::without_monitor alone;  // Which would see to it after a while.
  runtime workers{{.procs = 1, .seam = alone.seam()}};
  workers.run([] {
    mutex m;
    bool other_ran = false;
    m.lock();
    wait_group waiting;
    waiting.go([&] {
      const std::lock_guard guard{m};
      other_ran = true;
    });
    test::until_parked(1, wait_reason::mutex);
    int sections = 0;
    while (!other_ran) {
      m.unlock();
      m.lock();
      ++sections;
    }
    EXPECT_LE(sections, 16);  // Of what length ever: a turn counts them, and a clock costs.
    m.unlock();
    waiting.wait();
  });
  test::stop_and_expect_none_left(workers);
}

// Each unlock() of another mutex wakes one of many, and none of them runs before the caller waits.
TEST(mutex_fairness, unlock_gives_way_to_nobody) {
  // Nor does anybody take the worker away, if all these unlocks take long.
  test::without_monitor alone;
  runtime workers{{.procs = 1, .seam = alone.seam()}};
  workers.run([] {
    constexpr std::size_t fibers = 300;
    std::array<mutex, fibers> held;
    std::atomic<std::size_t> ran = 0;
    wait_group waiting;
    for (mutex& m : held) {
      m.lock();
      waiting.go([&] {
        const std::lock_guard guard{m};
        ++ran;
      });
    }
    test::until_parked(fibers, wait_reason::mutex);
    for (mutex& m : held) m.unlock();
    EXPECT_EQ(ran, 0U);
    waiting.wait();
    EXPECT_EQ(ran, fibers);
  });
  test::stop_and_expect_none_left(workers);
}

// The hand-over itself: when the first in the queue has waited for more than 1 ms and lost once,
// unlock passes the lock on, and those queued are served in their order.
class starved_queue {
 public:
  starved_queue() {
    m.lock();
    for (int i = 0; i < 8; ++i) {
      waiting_.go([this, i] {
        const std::lock_guard held{m};
        order_.push_back(i);
      });
      sim::settle();
    }
    sim::advance(2ms);
  }
  void expect_served_in_order() {
    waiting_.wait();
    EXPECT_EQ(order_, (std::vector{0, 1, 2, 3, 4, 5, 6, 7}));
  }

  mutex m;

 private:
  wait_group waiting_;
  std::vector<int> order_;
};

EXEUNT_SIM_TEST(mutex_starvation, ends_with_a_lock_that_is_handed_over) {
  starved_queue queue;
  queue.m.unlock();
  EXPECT_TRUE(queue.m.try_lock()) << "the first is woken, and loses";
  sim::settle();
  queue.m.unlock();
  EXPECT_FALSE(queue.m.try_lock()) << "a lock that starves somebody must not be taken";
  queue.expect_served_in_order();
}

EXEUNT_EXPLORE_TEST(mutex_starvation, keeps_the_order_in_every_schedule) {
  starved_queue queue;
  queue.m.unlock();
  if (queue.m.try_lock()) queue.m.unlock();
  queue.expect_served_in_order();
}

TEST(mutex_death, unlock_of_an_unlocked_mutex_is_fatal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  mutex m;
  EXPECT_DEATH(m.unlock(), "unlock of unlocked mutex");
}

TEST(mutex_death, unlock_twice_is_fatal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto twice = [] {
    mutex m;
    m.lock();
    m.unlock();
    m.unlock();
  };
  EXPECT_DEATH(twice(), "unlock of unlocked mutex");
}

EXEUNT_EXPLORED(mutex_test);

}  // namespace
}  // namespace exeunt
