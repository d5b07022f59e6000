// SPDX-License-Identifier: Apache-2.0
// Workers whose fibers wait for each other's channels; that they do is made up. Each test ends, or
// does not.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>

#include <exeunt/base/race.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sched/wait.hpp>

#include "support/on_workers.hpp"
#include "support/semaphore.hpp"

namespace exeunt {
namespace {

using test::run_on;
using test::semaphore;

// The turn is its thread's own: whoever runs there has it in turn, which no tool sees.
EXEUNT_NO_TSAN void say_that_it_waited() {
  constexpr std::int64_t second = 1'000'000'000;
  detail::this_turn().waited += second;
}

// A turn in which the worker has waited for others' locks for longer than the turn took.
void wait_for_locks() {
  say_that_it_waited();
  yield();
}

std::uint64_t withdrawals() { return runtime::current().stats().withdrawals; }

#ifndef EXEUNT_FORCE_MIGRATION  // Which hands each fiber to one certain worker.

// Goal:   a worker that waits for others' channels leaves its fibers to them, and comes back.
// Method: fibers for two workers that say so; they go on until it has happened several times.
TEST(theft, who_waits_for_others_leaves_the_work_to_them) {
  run_on(2, [] {
    constexpr int fibers = 4;
    std::atomic<bool> over{false};
    semaphore ended;
    for (int i = 0; i < fibers; ++i) {
      go([&] {
        while (!over) wait_for_locks();
        ended.post();
      });
    }
    while (withdrawals() < 5) yield();
    over = true;
    for (int i = 0; i < fibers; ++i) ended.wait();
  });
}

// Goal:   who stays away takes over what waits behind a fiber that keeps the other worker.
// Method: when a worker has gone, one fiber does not give way until another one has run.
TEST(theft, who_stays_away_comes_back_for_who_waits) {
  run_on(2, [] {
    constexpr int rounds = 20;
    std::atomic<int> ran{0};
    std::atomic<bool> over{false};
    semaphore ended;
    go([&] {
      while (!over) {
        ++ran;
        wait_for_locks();
      }
      ended.post();
    });
    go([&] {
      for (int round = 0; round < rounds; ++round) {
        const std::uint64_t before = withdrawals();
        while (withdrawals() == before) wait_for_locks();
        const int then = ran;
        while (ran == then) {
        }
      }
      over = true;
      ended.post();
    });
    ended.wait();
    ended.wait();
  });
}

#endif

// Goal:   somebody always remains.
// Method: one worker, and many more turns than it takes.
TEST(theft, a_worker_alone_stays) {
  run_on(1, [] {
    constexpr int turns = 20'000;
    for (int i = 0; i < turns; ++i) wait_for_locks();
    EXPECT_EQ(withdrawals(), 0U);
  });
}

}  // namespace
}  // namespace exeunt
