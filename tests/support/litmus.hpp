// SPDX-License-Identifier: Apache-2.0
// Small programs that tell memory models apart: a few parties take one step each, all at once, and
// afterwards somebody judges what they have seen.

#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sim/gtest.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/on_workers.hpp"

namespace exeunt::test {

/// What a program does in one round: its parties' steps, and the judge, who runs alone after them.
struct litmus {
  std::vector<std::function<void()>> steps;
  std::function<void()> judge;
};

#if defined(EXEUNT_TSAN) || defined(EXEUNT_ASAN)
inline constexpr int litmus_rounds = 2'000;
#else
inline constexpr int litmus_rounds = 20'000;
#endif

/// Where each order, or each step, costs more, half of the preemptions have to do.
#if defined(EXEUNT_TSAN) || defined(EXEUNT_ASAN) || defined(EXEUNT_CORE_MODEL)
inline constexpr bool many_steps = true;
#else
inline constexpr bool many_steps = false;
#endif

/// Lets nobody go on before all have come.
class litmus_barrier {
 public:
  explicit litmus_barrier(std::size_t parties) : parties_{parties} {}
  void meet(std::size_t round) {
    const std::size_t all = (round + 1) * parties_;
    arrived_.fetch_add(1);
    for (int looks = 0; arrived_.load() < all; ++looks) {
      if (looks > 1000) std::this_thread::yield();
    }
  }

 private:
  const std::size_t parties_;
  std::atomic<std::size_t> arrived_{0};
};

/// Rounds on the machine: each party is the only fiber of a runtime of one worker, so that all run
/// at once, and they meet at a barrier before each round. The first one also judges.
inline void run_litmus(const litmus& program, int rounds = litmus_rounds) {
  litmus_barrier before{program.steps.size()};
  litmus_barrier after{program.steps.size()};
  litmus_barrier judged{program.steps.size()};
  std::vector<std::thread> parties;
  for (std::size_t i = 0; i < program.steps.size(); ++i) {
    parties.emplace_back([&, i] {
      runtime alone{{.procs = 1}};
      alone.run([&] {
        for (std::size_t round = 0; round < static_cast<std::size_t>(rounds); ++round) {
          before.meet(round);
          program.steps[i]();
          after.meet(round);
          if (i == 0) program.judge();
          judged.meet(round);
        }
      });
    });
  }
  for (std::thread& one : parties) one.join();
}

/// A program of two, of which one begins the other: `start(f)` has f() called by another fiber, and
/// returns a function that waits until it has returned. Each finds what the other has written
/// before. The first looks away for a while, so that another worker comes for the second.
template <typename Start>
void start_and_end(Start start) {
  int data = 1;
  std::atomic<bool> begun{false};
  auto wait = start([&] {
    begun.store(true, std::memory_order_relaxed);  // order: none, as the program is to give it.
    EXPECT_EQ(data, 1);
    data = 2;
  });
  for (int looks = 0; looks < 300 && !begun.load(std::memory_order_relaxed); ++looks) {
    if (sim::inside()) break;
  }
  wait();
  EXPECT_EQ(data, 2);
}

/// The same of one that cannot wait for the end: `start(f)` has f() called, and returns what has to
/// be kept until then.
template <typename Start>
void start_only(Start start) {
  start_and_end([start](auto f) {
    const auto called = std::make_shared<wait_group>();
    called->add();
    auto kept = start([f, called] {
      f();
      called->done();
    });
    return [called, kept = std::make_shared<decltype(kept)>(std::move(kept))] { called->wait(); };
  });
}

/// Rounds of such a program, by two fibers of as many workers.
inline void run_starts(void (*round)(), int rounds = litmus_rounds / 2) {
  run_on(2, [round, rounds] {
    wait_group both;
    for (int fiber = 0; fiber < 2; ++fiber) {
      both.go([=] {
        for (int i = 0; i < rounds; ++i) round();
      });
    }
    both.wait();
  });
}

/// Runs `world` in all orders of its calls. Whether these are all is checked, and how many there
/// were is returned.
inline std::uint64_t explore_orders(unsigned preemptions, const std::function<void()>& world) {
  const auto* const test = ::testing::UnitTest::GetInstance()->current_test_info();
  const sim::explored seen =
      sim::expect_explored({.name = std::string{test->test_suite_name()} + "." + test->name(),
                            .schedules = 100'000,
                            .preemptions = many_steps ? (preemptions + 1) / 2 : preemptions,
                            .exhaustive = true},
                           world);
  EXPECT_TRUE(seen.covered) << "of " << seen.schedules << " schedules";
  return seen.schedules;
}

/// The same of the parties' calls. `make` makes the program anew for each order.
inline std::uint64_t explore_litmus(const std::function<litmus()>& make, unsigned preemptions) {
  return explore_orders(preemptions, [&make] {
    const litmus program = make();
    wait_group parties;
    for (const auto& step : program.steps) parties.go(step);
    parties.wait();
    program.judge();
  });
}

}  // namespace exeunt::test

/// The program that `make()` makes, on the machine, and in each order of its calls in which a party
/// is preempted so often at most. What follows is how many rounds. In core_model, where a step is
/// an atomic operation, only the orders.
#ifdef EXEUNT_CORE_MODEL
#define EXEUNT_LITMUS_TEST(suite, name, make, preemptions, ...) \
  EXEUNT_LITMUS_ORDERS_(TEST, suite, name, make, preemptions)
#else
#define EXEUNT_LITMUS_TEST(suite, name, make, preemptions, ...)                        \
  TEST(suite, name) { ::exeunt::test::run_litmus(make() __VA_OPT__(, ) __VA_ARGS__); } \
  EXEUNT_LITMUS_ORDERS_(TEST, suite, name, make, preemptions)
#endif
#define EXEUNT_LITMUS_ORDERS_(kind, suite, name, make, preemptions) \
  kind(suite, name##_explored) { EXPECT_GT(::exeunt::test::explore_litmus(make, preemptions), 2U); }

/// The same for each type of a typed suite, of which `make` is a template.
#ifdef EXEUNT_CORE_MODEL
#define EXEUNT_TYPED_LITMUS_TEST(suite, name, make, preemptions, rounds) \
  EXEUNT_LITMUS_ORDERS_(TYPED_TEST, suite, name, make<TypeParam>, preemptions)
#else
#define EXEUNT_TYPED_LITMUS_TEST(suite, name, make, preemptions, rounds)             \
  TYPED_TEST(suite, name) { ::exeunt::test::run_litmus(make<TypeParam>(), rounds); } \
  EXEUNT_LITMUS_ORDERS_(TYPED_TEST, suite, name, make<TypeParam>, preemptions)
#endif

/// A program of start_and_end(), by two workers, and in each order of its calls.
#ifdef EXEUNT_CORE_MODEL
#define EXEUNT_START_LITMUS_TEST(suite, name, round) \
  TEST(suite, name##_explored) { ::exeunt::test::explore_orders(4, round); }
#else
#define EXEUNT_START_LITMUS_TEST(suite, name, round)       \
  TEST(suite, name) { ::exeunt::test::run_starts(round); } \
  TEST(suite, name##_explored) { ::exeunt::test::explore_orders(4, round); }
#endif
