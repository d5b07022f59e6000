// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include <exeunt/sched/blocking.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sched/timer_node.hpp>
#include <exeunt/sched/wait.hpp>

#include "support/on_workers.hpp"
#include "support/semaphore.hpp"

namespace exeunt::detail {
namespace {

class park_test : public test::on_workers {};
EXEUNT_ON_WORKERS(park_test);

TEST_P(park_test, a_claim_before_the_park_makes_it_return_at_once) {
  run([] {
    ticket one;
    wakeup due;
    EXPECT_TRUE(one.claim(&one, due));
    due.fire();  // Nobody parked: nothing to wake.
    park(one, wait_reason::select, nullptr);
    EXPECT_EQ(one.winner(), &one);
  });
}

TEST_P(park_test, only_one_claim_wins) {
  run([] {
    ticket one;
    waiter first{one};
    waiter second{one};
    wakeup due;
    EXPECT_TRUE(first.claim(due));
    EXPECT_FALSE(second.claim(due));
    EXPECT_TRUE(first.won());
    EXPECT_FALSE(second.won());
  });
}

// Goal:   of a claim that races with the park, exactly one of the two ends the wait.
// Method: many rounds in which another fiber or a plain thread claims at any moment.
TEST_P(park_test, a_claim_that_races_with_the_park_is_never_lost) {
  run([] {
    constexpr int rounds = 3'000;
    std::atomic<ticket*> posted{nullptr};
    std::thread claimer{[&] {
      for (int i = 0; i < rounds; ++i) {
        ticket* one = nullptr;
        while ((one = posted.exchange(nullptr)) == nullptr) std::this_thread::yield();
        wakeup due;
        EXPECT_TRUE(one->claim(&posted, due));
        due.fire();
      }
    }};
    for (int i = 0; i < rounds; ++i) {
      ticket one;
      posted = &one;
      park(one, wait_reason::select, nullptr);
      EXPECT_EQ(one.winner(), &posted);
    }
    blocking([&] { claimer.join(); });
  });
}

TEST_P(park_test, threads_and_fibers_meet_at_one_source) {
  run([] {
    constexpr int rounds = 2'000;
    test::semaphore ping;
    test::semaphore pong;
    std::thread other{[&] {
      for (int i = 0; i < rounds; ++i) {
        ping.wait();
        pong.post();
      }
    }};
    for (int i = 0; i < rounds; ++i) {
      ping.post();
      pong.wait();
    }
    blocking([&] { other.join(); });
  });
}

TEST_P(park_test, a_timeout_ends_a_shared_wait) {
  run([] {
    ticket one;
    timeout_waiter timeout{one, clock::now() + std::chrono::microseconds{100}};
    park(one, wait_reason::select, nullptr);
    EXPECT_TRUE(timeout.won());
  });
}

TEST(park_on_a_thread, works_without_any_fiber) {
  ticket one;
  timeout_waiter timeout{one, clock::now() + std::chrono::microseconds{100}};
  park(one, wait_reason::select, nullptr);
  EXPECT_TRUE(timeout.won());
}

TEST(checkpoint, makes_a_busy_fiber_give_way_on_one_worker) {
  test::run_on(1, [] {
    std::atomic<bool> other_ran{false};
    go([&] { other_ran = true; });
    // Without the checkpoint's turn this loop would never end.
    while (!other_ran) checkpoint();
    EXPECT_TRUE(other_ran);
  });
}

TEST(source_id, is_never_given_twice) {
  const auto first = next_source_id();
  EXPECT_GT(next_source_id(), first);
}

TEST(choose_below, reaches_every_choice_and_no_other) {
  std::vector<int> seen(5, 0);
  for (int i = 0; i < 1'000; ++i) ++seen.at(choose_below(5));
  for (const int count : seen) EXPECT_GT(count, 0);
}

}  // namespace
}  // namespace exeunt::detail
