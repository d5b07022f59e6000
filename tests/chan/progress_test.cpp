// SPDX-License-Identifier: Apache-2.0
// Busy fibers do not keep others from their channels and timers, wherever they run.

#include <gtest/gtest.h>

#include <unistd.h>
#include <chrono>
#include <cstdint>
#include <functional>
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
      go([=] {
        std::optional<lock_os_thread> here;
        if (pinned) here.emplace();
        while (
            select(on_recv(question, [](bool) { return false; }), otherwise([] { return true; }))) {
          yield();
        }
        answer.send();
      });
      // In a simulation time stands still while anybody is busy.
      if (!is_simulated()) sleep(10ms);
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

}  // namespace
}  // namespace exeunt
