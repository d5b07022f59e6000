// SPDX-License-Identifier: Apache-2.0
// Groups that are made, ended and destroyed from everywhere at once.

#include <exeunt/group/errgroup.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include <exeunt/group/spawn.hpp>
#include <exeunt/sched/go.hpp>

#include "support/on_workers.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;

class errgroup_stress_test : public exeunt::test::on_workers {};

// The group's memory goes as soon as wait() returns; a task that touched it later would be found
// by the sanitizers, and by the pattern in the freed block.
TEST_P(errgroup_stress_test, group_may_go_when_wait_returns) {
  run([] {
    for (int round = 0; round < 500; ++round) {
      std::atomic<int> ran{0};
      auto group = std::make_unique<errgroup>(context::background());
      for (int i = 0; i < 8; ++i) {
        group->go([&ran, i](context) {
          if (i % 2 == 0) yield();
          ++ran;
        });
      }
      EXPECT_TRUE(group->wait().has_value());
      group.reset();
      EXPECT_EQ(ran, 8);
    }
  });
}

// Failures, exits, the parent's end and its deadline race; all tasks end, and wait() agrees with
// itself.
TEST_P(errgroup_stress_test, ends_race) {
  run([] {
    for (int round = 0; round < 200; ++round) {
      auto [parent, cancel] = with_timeout(context::background(), round % 3 == 0 ? 200us : 1h);
      errgroup group{
          parent,
          {.cancel_on = round % 2 == 0 ? cancel_on::first_exit : cancel_on::first_failure,
           .limit = round % 5 == 0 ? 4 : -1}};
      std::atomic<int> ended{0};
      auto ends_it = spawn([&end = cancel] {
        yield();
        end();
      });
      for (int i = 0; i < 12; ++i) {
        group.go([&ended, i, round](context ctx) -> result<> {
          if (i != round % 12 && round % 5 != 0) ctx.wait();
          ++ended;
          if (i % 3 == 0) return fail(errc::closed);
          if (const auto why = ctx.err()) return fail(*why);
          return {};
        });
      }
      const result<> first = group.wait();
      const result<> second = group.wait();
      EXPECT_EQ(ended, 12);
      EXPECT_EQ(first.has_value(), second.has_value());
      EXPECT_TRUE(!first && first.error().is(errc::closed));
      EXPECT_TRUE(ends_it.join().has_value());
    }
  });
}

TEST_P(errgroup_stress_test, threads_start_and_wait) {
  run([] {
    for (int round = 0; round < 20; ++round) {
      errgroup group{context::background(), {.limit = 3}};
      std::atomic<int> ran{0};
      std::vector<std::thread> threads;
      // A task of our own keeps the group open until all have started theirs.
      std::atomic<int> started{0};
      group.go([&started](context) {
        while (started < 3) yield();
      });
      for (int t = 0; t < 3; ++t) {
        threads.emplace_back([&] {
          for (int i = 0; i < 20; ++i) group.go([&ran](context) { ++ran; });
          ++started;
          EXPECT_TRUE(group.wait().has_value());
        });
      }
      while (started < 3) yield();
      EXPECT_TRUE(group.wait().has_value());
      for (std::thread& thread : threads) thread.join();
      EXPECT_EQ(ran, 60);
    }
  });
}

TEST_P(errgroup_stress_test, handles_come_and_go) {
  run([] {
    for (int round = 0; round < 300; ++round) {
      auto one = spawn([](context ctx) { ctx.wait(); });
      auto two = spawn([] { return 1; });
      if (round % 2 == 0) one.cancel();
      if (round % 3 == 0) two.detach();
      if (round % 5 == 0) yield();
      auto three = std::move(one);
      if (two.joinable()) {
        EXPECT_EQ(two.join().value(), 1);
      }
    }
  });
}

EXEUNT_ON_WORKERS(errgroup_stress_test);

}  // namespace
}  // namespace exeunt
