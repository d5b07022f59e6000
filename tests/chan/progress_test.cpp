// SPDX-License-Identifier: Apache-2.0
// Busy fibers do not keep others from their channels and timers, wherever they run; and calls that
// never wait give way to nobody.

#include <gtest/gtest.h>

#include <unistd.h>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/os_thread.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sim/explore.hpp>

#include "support/explored.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;

class progress_test : public test::explored {};
EXEUNT_EXPLORED(progress_test);

// SC-01: a fiber that asks without waiting, and yields, hears of what comes, also on a thread of
// its own.
TEST_P(progress_test, sc_01_a_polling_fiber_answers) {
  run([] {
    for (const bool pinned : {false, true}) {
      if (pinned && is_simulated()) continue;  // A simulation has one thread.
      const chan<void> question{1};
      const chan<void> answer;
      std::atomic<int> asked{0};
      go([=, &asked] {
        std::optional<lock_os_thread> here;
        if (pinned) here.emplace();
        while (
            select(on_recv(question, [](bool) { return false; }), otherwise([] { return true; }))) {
          ++asked;
          yield();
        }
        answer.send();
      });
      while (asked < 10) yield();
      question.send();
      EXPECT_TRUE(answer.recv());
    }
  });
}

// SC-02: a fiber with a thread of its own sleeps and blocks as any other, and may end so.
TEST_P(progress_test, sc_02_a_pinned_fiber_sleeps_blocks_and_ends) {
  if (is_simulated()) GTEST_SKIP() << "a simulation has one thread";
  run([] {
    const chan<int> numbers;
    go([=] {
      const lock_os_thread here;
      const int thread = ::gettid();
      for (int i = 0; i < 10; ++i) sleep(1ms);
      for (int i = 0; i < 10; ++i) numbers.send(i);
      EXPECT_EQ(::gettid(), thread);
      numbers.close();
    });
    int next = 0;
    for (const int number : numbers) EXPECT_EQ(number, next++);
    EXPECT_EQ(next, 10);
  });
}

// SC-05: two that send as fast as they can do not keep a timer from its receiver.
TEST_P(progress_test, sc_05_a_timer_beside_busy_senders) {
  if (is_simulated()) GTEST_SKIP() << "time stands still while anybody is busy";
  run([] {
    const chan<int> numbers;
    const chan<void> over;
    const chan<void> ended{2};
    for (int f = 0; f < 2; ++f) {
      go([=] {
        for (bool on = true; on;) {
          on = select(on_send(numbers, 1, [] { return true; }),
                      on_recv(over, [](bool) { return false; }));
        }
        ended.send();
      });
    }
    const clock::time_point due = clock::now() + 20ms;
    while (select(on_recv(numbers, [](std::optional<int>) { return true; }),
                  after(due - clock::now(), [] { return false; }))) {
    }
    EXPECT_GE(clock::now(), due);
    over.close();
    for (int f = 0; f < 2; ++f) EXPECT_TRUE(ended.recv());
  });
}

// SC-30: schedules differ, so that what depends on one is found. Here by exploration; the builds
// with sanitizers move a fiber to another worker at each wake-up, too.
TEST(progress, sc_30_explored_schedules_are_in_different_orders) {
  std::set<std::vector<int>> orders;
  sim::explore({.name = "orders", .schedules = 10}, [&] {
    const chan<int> numbers{10};
    for (int i = 0; i < 10; ++i) go([=] { numbers.send(i); });
    std::vector<int> order;
    for (int i = 0; i < 10; ++i) order.push_back(numbers.recv().value_or(-1));
    orders.insert(order);
  });
  EXPECT_GT(orders.size(), 1U);
}

// --- on the only worker

// A busy pair does not starve a third fiber on the only worker.
TEST(chan_fairness, a_busy_fiber_lets_others_run) {
  test::run_on(1, [] {
    const chan<int> busy{1};
    std::atomic<bool> stop = false;
    go([&] { stop = true; });
    // Neither operation ever parks.
    while (!stop) {
      busy.send(1);
      EXPECT_EQ(busy.recv(), 1);
    }
  });
}

// A caller may hold a std::mutex: giving way under it would hang its worker, if the next fiber
// wants it. Far more calls than a turn has. (If they take long, a spare thread runs the other one.)
TEST(chan_fairness, what_never_waits_gives_way_to_nobody) {
  test::run_on(1, [] {
    const chan<int> c{1};
    std::atomic<int> other_ran_on = 0;
    go([&] { other_ran_on = ::gettid(); });
    for (int i = 0; i < 1'000; ++i) {
      EXPECT_TRUE(c.try_send(i));
      EXPECT_FALSE(c.try_send(i));
      EXPECT_EQ(c.try_recv(), i);
      EXPECT_EQ(c.try_recv(), std::nullopt);
      EXPECT_EQ(select(on_send(c, i, [] {}), otherwise([] {})), 0U);
      EXPECT_EQ(select(on_recv(c, [] {}), otherwise([] {})), 0U);
      EXPECT_EQ(select(on_recv(c, [] {}), otherwise([] {})), 1U);
      const chan<void> closed;
      closed.close();
    }
    EXPECT_NE(other_ran_on, ::gettid());
    while (other_ran_on == 0) yield();
  });
}

// The same as a program would do it: two fibers of one worker, and a lock that belongs to threads.
TEST(chan_fairness, tries_may_be_made_under_a_threads_lock) {
  test::run_on(1, [] {
    const chan<int> c{1};
    std::mutex of_threads;
    const chan<void> done{2};
    for (int fiber = 0; fiber < 2; ++fiber) {
      go([&] {
        for (int round = 0; round < 1'000; ++round) {
          const std::lock_guard guard{of_threads};
          for (int i = 0; i < 4; ++i) static_cast<void>(c.try_send(i));
        }
        done.send();
      });
    }
    EXPECT_TRUE(done.recv());
    EXPECT_TRUE(done.recv());
  });
}

}  // namespace
}  // namespace exeunt
