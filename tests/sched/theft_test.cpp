// SPDX-License-Identifier: Apache-2.0
// What workers leave to each other, and when they leave it all. That fibers wait for each other's
// channels, and how much time passes, is made up. Each test ends, or does not.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sched/wait.hpp>

#include "sched/seam.hpp"
#include "support/on_workers.hpp"
#include "support/partner.hpp"
#include "support/semaphore.hpp"

namespace exeunt {
namespace {

using test::semaphore;

// Nobody leaves his fibers to others where each wake-up hands its fiber to one certain worker.
template <typename F>
void run_on(unsigned procs, F&& body) {
  detail::seam parts{.migrate_never = true};
  runtime workers{{.procs = procs, .seam = &parts}};
  workers.run(body);
  test::stop_and_expect_none_left(workers);
}

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

struct frozen_clock : detail::clock_source {
  clock::time_point now() noexcept override { return clock::time_point{}; }
};

// A millisecond passes from each look to the next.
struct hasty_clock : detail::clock_source {
  clock::time_point now() noexcept override {
    return clock::time_point{} + std::chrono::milliseconds{looks.fetch_add(1)};
  }
  std::atomic<int> looks{0};
};

void start_crowd() {
  constexpr int fibers = 1000;
  semaphore ended;
  for (int i = 0; i < fibers; ++i) go([&] { ended.post(); });
  for (int i = 0; i < fibers; ++i) ended.wait();
}

runtime_stats after_crowds(detail::clock_source& clock, bool (*enough)(const runtime_stats&)) {
  detail::seam parts{.clock = &clock, .migrate_never = true};
  runtime workers{{.procs = 2, .seam = &parts}};
  workers.run([enough] {
    while (!enough(runtime::current().stats())) start_crowd();
  });
  EXPECT_EQ(workers.stop(), 0U);
  return workers.stats();
}

// Goal:   who steals fibers that take no time leaves such to the others, after a few thefts.
// Method: one time, since who is away then stays there as long as the other is busy.
TEST(theft, who_steals_next_to_nothing_leaves_the_work_to_them) {
  frozen_clock clock;
  const runtime_stats sum =
      after_crowds(clock, [](const runtime_stats& now) { return now.withdrawals > 0; });
  EXPECT_GE(sum.steals, 4U);
}

// Goal:   and does not if there was something in them.
TEST(theft, who_steals_what_takes_time_steals_again) {
  hasty_clock clock;
  const runtime_stats sum =
      after_crowds(clock, [](const runtime_stats& now) { return now.steals >= 20; });
  EXPECT_EQ(sum.withdrawals, 0U);
}

// Goal:   a pair that hands over stays on its worker, and its hand-overs do not go by others.
// Method: the runtime's own counts, which are half the hand-overs if each goes to another worker.
//         Who is taken off his processor may be robbed now and then.
TEST(theft, a_pair_that_hands_over_stays_where_it_is) {
  run_on(2, [] {
    constexpr int hand_overs = 100'000;
    test::partner other{hand_overs / 2};
    const runtime_stats before = runtime::current().stats();
    for (int i = 0; i < hand_overs / 2; ++i) other.call();
    const runtime_stats after = runtime::current().stats();
    EXPECT_LT(after.steals - before.steals + after.parks - before.parks, hand_overs / 10U);
  });
}

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
