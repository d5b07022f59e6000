// SPDX-License-Identifier: Apache-2.0
// What every lock for one at a time has to do, whatever its policy. `until_waiting(n)` returns when
// n fibers wait for the lock.

#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <mutex>
#include <thread>
#include <vector>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/error.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/lock_reports.hpp"

namespace exeunt::test {

// SY-01, first half.
template <typename Mutex>
void try_lock_says_whether_it_was_free() {
  Mutex m;
  EXPECT_TRUE(m.try_lock());
  EXPECT_FALSE(m.try_lock());
  m.unlock();
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

// SY-06: the lock belongs to nobody.
template <typename Mutex>
void another_fiber_may_unlock() {
  const unwatched_locks on_purpose;  // It waits for a lock that it holds.
  Mutex m;
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
}

template <typename Mutex>
void works_with_the_standard_guards() {
  using namespace std::chrono_literals;
  Mutex a, b;
  {
    const std::scoped_lock both{a, b};
    EXPECT_FALSE(a.try_lock());
    EXPECT_FALSE(b.try_lock());
  }
  std::unique_lock later{a, std::defer_lock};
  EXPECT_TRUE(later.try_lock_for(1s));
  EXPECT_TRUE(later.owns_lock());
  later.unlock();
  EXPECT_TRUE(later.try_lock_until(clock::now() + 1s));
}

template <typename Mutex>
void try_lock_for_gives_up_and_leaves_the_queue_sound() {
  using namespace std::chrono_literals;
  const unwatched_locks on_purpose;  // It waits for a lock that it holds.
  Mutex m;
  m.lock();
  EXPECT_FALSE(m.try_lock_for(0s));
  EXPECT_FALSE(m.try_lock_for(-1s));
  EXPECT_FALSE(m.try_lock_for(1ms));
  EXPECT_FALSE(m.try_lock_until(clock::now()));
  m.unlock();
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

template <typename Mutex, typename Until>
void try_lock_for_gets_what_is_unlocked_in_time(Until until_waiting) {
  Mutex m;
  m.lock();
  wait_group waiting;
  waiting.go([&] {
    EXPECT_TRUE(m.try_lock_for(std::chrono::hours{1}));
    m.unlock();
  });
  until_waiting(1);
  m.unlock();
  waiting.wait();
}

// One that gives up, in front, in the middle or at the end, is in nobody's way.
template <typename Mutex, typename Until>
void a_cancelled_wait_leaves_the_queue_sound(Until until_waiting) {
  for (std::size_t canceled = 0; canceled < 3; ++canceled) {
    Mutex m;
    auto [ctx, cancel] = with_cancel(context::background());
    int locked = 0;
    wait_group others;
    wait_group loser;
    m.lock();
    for (std::size_t place = 0; place < 3; ++place) {
      if (place == canceled) {
        loser.go([&, &end = ctx] {
          const result<> got = m.lock(end);
          ASSERT_FALSE(got);
          EXPECT_TRUE(got.error().is(errc::canceled));
        });
      } else {
        others.go([&] {
          m.lock();
          ++locked;
          m.unlock();
        });
      }
      until_waiting(place + 1);
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
}

// The cancel and the unlock race: whoever wins, nobody holds the lock without knowing it.
template <typename Mutex>
void cancel_against_unlock_loses_no_lock(int rounds) {
  Mutex m;
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
}

// The variable is plain, so a missing edge is a race under ThreadSanitizer.
template <typename Mutex>
void two_write_under_it() {
  Mutex m;
  int v = 0;
  wait_group both;
  for (int f = 0; f < 2; ++f) {
    both.go([&] {
      const std::lock_guard guard{m};
      ++v;
    });
  }
  both.wait();
  EXPECT_EQ(v, 2);
}

// One is inside, all get in, and the lock is free in the end.
template <typename Mutex>
void three_hand_it_on() {
  Mutex lock;
  int inside = 0;
  int visits = 0;
  wait_group group;
  for (int i = 0; i < 3; ++i) {
    group.go([&] {
      const std::lock_guard held{lock};
      EXPECT_EQ(++inside, 1);
      ++visits;
      yield();
      --inside;
    });
  }
  group.wait();
  EXPECT_EQ(visits, 3);
  EXPECT_TRUE(lock.try_lock());
  lock.unlock();
}

template <typename Mutex>
void is_locked_by_threads(Mutex& m, int rounds) {
  int counter = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < rounds; ++i) {
        const std::lock_guard guard{m};
        ++counter;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter, 4 * rounds);
}

}  // namespace exeunt::test
