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
#include "support/until_parked.hpp"

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
void until_waiting(Policy, std::size_t count = 1) {
  if (!std::is_same_v<Policy, spinning> || sim::inside()) {
    test::until_parked(count, wait_reason::mutex);
  } else {
    for (int turn = 0; turn < 100; ++turn) yield();
  }
}

class basic_mutex_test : public test::explored {};

// SY-01, first half.
TEST_P(basic_mutex_test, try_lock_says_whether_it_was_free) {
  run([] {
    each_policy([]<typename P>(P) {
      basic_mutex<P> m;
      EXPECT_TRUE(m.try_lock());
      EXPECT_FALSE(m.try_lock());
      m.unlock();
      EXPECT_TRUE(m.try_lock());
      m.unlock();
    });
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

// SY-06: the lock belongs to nobody.
TEST_P(basic_mutex_test, another_fiber_may_unlock) {
  run([] {
    each_policy([]<typename P>(P) {
      basic_mutex<P> m;
      int data = 0;
      wait_group other;
      m.lock();
      other.go([&] {
        data = 42;
        m.unlock();
      });
      m.lock();
      EXPECT_EQ(data, 42);
      m.unlock();
      other.wait();
    });
  });
}

TEST_P(basic_mutex_test, works_with_the_standard_guards) {
  run([] {
    each_policy([]<typename P>(P) {
      basic_mutex<P> a, b;
      {
        const std::scoped_lock both{a, b};
        EXPECT_FALSE(a.try_lock());
        EXPECT_FALSE(b.try_lock());
      }
      std::unique_lock later{a, std::defer_lock};
      EXPECT_TRUE(later.try_lock_for(1s));
      later.unlock();
      EXPECT_TRUE(later.try_lock_until(clock::now() + 1s));
      EXPECT_FALSE(a.try_lock_for(0s));
      EXPECT_FALSE(a.try_lock_for(-1s));
      EXPECT_FALSE(a.try_lock_for(1ms));
      EXPECT_FALSE(a.try_lock_until(clock::now()));
    });
  });
}

TEST_P(basic_mutex_test, try_lock_for_gets_what_is_unlocked_in_time) {
  run([] {
    each_policy([]<typename P>(P policy) {
      basic_mutex<P> m;
      m.lock();
      wait_group waiting;
      waiting.go([&] {
        EXPECT_TRUE(m.try_lock_for(1h));
        m.unlock();
      });
      until_waiting(policy);
      m.unlock();
      waiting.wait();
    });
  });
}

TEST_P(basic_mutex_test, a_context_that_ended_or_ends_gives_no_lock) {
  run([] {
    each_policy([]<typename P>(P policy) {
      basic_mutex<P> m;
      auto [ctx, cancel] = with_cancel(context::background());
      EXPECT_TRUE(m.lock(ctx));
      wait_group waiting;
      waiting.go([&, &end = ctx] {
        const result<> locked = m.lock(end);
        ASSERT_FALSE(locked);
        EXPECT_TRUE(locked.error().is(errc::canceled));
      });
      until_waiting(policy);
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

// One that gives up, in front, in the middle or at the end, is in nobody's way.
TEST_P(basic_mutex_test, a_cancelled_wait_leaves_the_queue_sound) {
  run([] {
    each_policy([]<typename P>(P policy) {
      for (std::size_t canceled = 0; canceled < 3; ++canceled) {
        basic_mutex<P> m;
        auto [ctx, cancel] = with_cancel(context::background());
        int locked = 0;
        wait_group others;
        wait_group loser;
        m.lock();
        for (std::size_t place = 0; place < 3; ++place) {
          if (place == canceled) {
            loser.go([&, &end = ctx] { EXPECT_FALSE(m.lock(end)); });
          } else {
            others.go([&] {
              m.lock();
              ++locked;
              m.unlock();
            });
          }
          until_waiting(policy, place + 1);
        }
        cancel();
        loser.wait();
        EXPECT_FALSE(m.try_lock());
        m.unlock();
        others.wait();
        EXPECT_EQ(locked, 2);
        EXPECT_TRUE(m.try_lock());
        m.unlock();
      }
    });
  });
}

// The cancel and the unlock race: whoever wins, nobody holds the lock without knowing it.
TEST_P(basic_mutex_test, cancel_against_unlock_loses_no_lock) {
  const int rounds = is_simulated() ? 10 : 200;
  run([rounds] {
    each_policy([rounds]<typename P>(P) {
      basic_mutex<P> m;
      int won = 0, lost = 0;
      for (int round = 0; round < rounds; ++round) {
        auto [ctx, cancel] = with_cancel(context::background());
        m.lock();
        wait_group racing;
        racing.go([&, &end = ctx] {
          if (m.lock(end)) {
            ++won;
            m.unlock();
          } else {
            ++lost;
          }
        });
        if (round % 2 == 0) yield();
        racing.go([&, &stop = cancel] { stop(); });
        m.unlock();
        racing.wait();
        ASSERT_TRUE(m.try_lock());
        m.unlock();
      }
      EXPECT_EQ(won + lost, rounds);
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
  test::run_on(1, [] {
    basic_mutex<spinning> m;
    wait_group holder;
    m.lock();
    holder.go([&] {
      yield();
      m.unlock();
    });
    m.lock();
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

template <typename Mutex>
void lock_from_threads(Mutex& m) {
  int counter = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        const std::lock_guard guard{m};
        ++counter;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter, 4 * 2000);
}

TEST(basic_mutex_on_threads, needs_no_fiber_at_all) {
  lock_from_threads(global_barging);
  lock_from_threads(global_handoff);
  lock_from_threads(global_spinning);
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
