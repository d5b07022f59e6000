// SPDX-License-Identifier: Apache-2.0

#include <exeunt/sync/basic_mutex.hpp>

#include <chrono>
#include <cstddef>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>

#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sim/gtest.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/explored.hpp"
#include "support/lock_reports.hpp"
#include "support/until_parked.hpp"
#include "sync/mutex_shapes.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using detail::wait_reason;

// SY-29, for the pure forms.
template <typename M>
constexpr bool is_sound =
    !std::is_copy_constructible_v<M> && !std::is_move_constructible_v<M> && sizeof(M) <= 16;
static_assert(is_sound<basic_mutex<barging>>);
static_assert(is_sound<basic_mutex<handoff>>);
static_assert(is_sound<basic_mutex<spinning>>);
constinit basic_mutex<barging> global_barging;
constinit basic_mutex<handoff> global_handoff;
constinit basic_mutex<spinning> global_spinning;

// Calls `f` with an object of each policy.
template <typename F>
void each_policy(F f) {
  f(barging{});
  f(handoff{});
  f(spinning{});
}

// Until a fiber waits for the lock, where that can be seen: who spins is parked in simulations
// only.
template <typename Policy>
void until_waiting(std::size_t count) {
  if (!std::is_same_v<Policy, spinning> || sim::inside()) {
    test::until_parked(count, wait_reason::mutex);
  } else {
    for (int turn = 0; turn < 100; ++turn) yield();
  }
}

class basic_mutex_test : public test::explored {};

TEST_P(basic_mutex_test, try_lock_says_whether_it_was_free) {
  run([] {
    each_policy([]<typename P>(P) { test::try_lock_says_whether_it_was_free<basic_mutex<P>>(); });
  });
}

// SY-01, second half; the counter is plain, so a missing edge is a race under ThreadSanitizer.
TEST_P(basic_mutex_test, ten_fibers_lock_and_unlock) {
  const int rounds = is_simulated() ? 20 : 500;
  run([rounds] {
    each_policy([rounds]<typename P>(P) {
      basic_mutex<P> m;
      int counter = 0;
      int inside = 0;
      wait_group fibers;
      for (int f = 0; f < 10; ++f) {
        fibers.go([&] {
          for (int i = 0; i < rounds; ++i) {
            if (i % 3 == 0) {
              if (!m.try_lock()) {
                m.lock();
              }
            } else {
              m.lock();
            }
            EXPECT_EQ(++inside, 1);
            ++counter;
            if (i % 16 == 0) yield();
            --inside;
            m.unlock();
          }
        });
      }
      fibers.wait();
      EXPECT_EQ(counter, 10 * rounds);
    });
  });
}

TEST_P(basic_mutex_test, another_fiber_may_unlock) {
  run([] { each_policy([]<typename P>(P) { test::another_fiber_may_unlock<basic_mutex<P>>(); }); });
}

TEST_P(basic_mutex_test, works_with_the_standard_guards) {
  run([] {
    each_policy([]<typename P>(P) { test::works_with_the_standard_guards<basic_mutex<P>>(); });
  });
}

TEST_P(basic_mutex_test, try_lock_for_gives_up_and_leaves_the_queue_sound) {
  run([] {
    each_policy([]<typename P>(P) {
      test::try_lock_for_gives_up_and_leaves_the_queue_sound<basic_mutex<P>>();
    });
  });
}

TEST_P(basic_mutex_test, try_lock_for_gets_what_is_unlocked_in_time) {
  run([] {
    each_policy([]<typename P>(P) {
      test::try_lock_for_gets_what_is_unlocked_in_time<basic_mutex<P>>(until_waiting<P>);
    });
  });
}

TEST_P(basic_mutex_test, a_context_that_ended_or_ends_gives_no_lock) {
  const test::unwatched_locks on_purpose;  // It waits for a lock that it holds.
  run([] {
    each_policy([]<typename P>(P) {
      basic_mutex<P> m;
      auto [ctx, cancel] = with_cancel(context::background());
      EXPECT_TRUE(m.lock(ctx));
      wait_group waiting;
      waiting.go([&, &end = ctx] {
        const result<> locked = m.lock(end);
        ASSERT_FALSE(locked);
        EXPECT_TRUE(locked.error().is(errc::canceled));
      });
      until_waiting<P>(1);
      cancel();
      waiting.wait();
      EXPECT_FALSE(m.try_lock());
      m.unlock();
      EXPECT_FALSE(m.lock(ctx));
      m.lock();
      const result<> late = m.lock(with_timeout(context::background(), 1ms));
      ASSERT_FALSE(late);
      EXPECT_TRUE(late.error().is(errc::deadline_exceeded));
      m.unlock();
      EXPECT_TRUE(m.try_lock());
      m.unlock();
    });
  });
}

TEST_P(basic_mutex_test, a_cancelled_wait_leaves_the_queue_sound) {
  run([] {
    each_policy([]<typename P>(P) {
      test::a_cancelled_wait_leaves_the_queue_sound<basic_mutex<P>>(until_waiting<P>);
    });
  });
}

TEST_P(basic_mutex_test, cancel_against_unlock_loses_no_lock) {
  const int rounds = is_simulated() ? 10 : 200;
  run([rounds] {
    each_policy([rounds]<typename P>(P) {
      test::cancel_against_unlock_loses_no_lock<basic_mutex<P>>(rounds);
    });
  });
}

// handoff: in order, and nobody overtakes; try_lock neither.
TEST_P(basic_mutex_test, handoff_serves_in_order) {
  run([] {
    basic_mutex<handoff> m;
    std::vector<int> order;
    wait_group waiting;
    m.lock();
    for (int i = 0; i < 6; ++i) {
      waiting.go([&, i] {
        const std::lock_guard held{m};
        order.push_back(i);
      });
      test::until_parked(static_cast<std::size_t>(i) + 1, wait_reason::mutex);
    }
    m.unlock();
    m.lock();
    EXPECT_EQ(order, (std::vector{0, 1, 2, 3, 4, 5}));
    m.unlock();
    waiting.wait();
  });
}

TEST(basic_mutex_forms, only_handoff_is_not_free_for_newcomers) {
  test::run_on(1, [] {
    const auto is_free_after_unlock = []<typename P>(P) {
      basic_mutex<P> m;
      wait_group waiting;
      m.lock();
      waiting.go([&] { const std::lock_guard held{m}; });
      test::until_parked(1, wait_reason::mutex);
      m.unlock();
      const bool free = m.try_lock();
      if (free) m.unlock();
      waiting.wait();
      return free;
    };
    EXPECT_TRUE(is_free_after_unlock(barging{}));
    EXPECT_FALSE(is_free_after_unlock(handoff{}));
  });
}

// On one worker the holder runs only if the spinner gives way.
TEST(basic_mutex_forms, a_spinner_gives_way) {
  const test::unwatched_locks on_purpose;  // It waits for a lock that it holds.
  test::run_on(1, [] {
    basic_mutex<spinning> m;
    wait_group holder;
    bool held = true;
    m.lock();
    holder.go([&] {
      yield();
      held = false;
      m.unlock();
    });
    m.lock();
    EXPECT_FALSE(held);
    m.unlock();
    holder.wait();
  });
}

// In a simulation time goes on while somebody "spins", and a lock that nobody lets go is found.
EXEUNT_SIM_TEST(basic_mutex_forms, a_spinner_does_not_stop_the_clock) {
  basic_mutex<spinning> m;
  wait_group holder;
  holder.go([&] {
    const std::lock_guard held{m};
    sleep(1h);
  });
  sim::settle();
  const clock::time_point begin = clock::now();
  EXPECT_FALSE(m.try_lock_for(1min));
  m.lock();
  EXPECT_EQ(clock::now() - begin, 1h);
  m.unlock();
  holder.wait();
}

TEST(basic_mutex_on_threads, needs_no_fiber_at_all) {
  test::is_locked_by_threads(global_barging, 2000);
  test::is_locked_by_threads(global_handoff, 2000);
  test::is_locked_by_threads(global_spinning, 2000);
}

TEST(basic_mutex_death, unlock_of_an_unlocked_mutex_is_fatal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  each_policy([]<typename P>(P) {
    basic_mutex<P> m;
    EXPECT_DEATH(m.unlock(), "unlock of unlocked mutex");
    m.lock();
    m.unlock();
    EXPECT_DEATH(m.unlock(), "unlock of unlocked mutex");
  });
}

EXEUNT_EXPLORED(basic_mutex_test);

}  // namespace
}  // namespace exeunt
