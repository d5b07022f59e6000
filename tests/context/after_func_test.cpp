// SPDX-License-Identifier: Apache-2.0

#include <exeunt/context/after_func.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <semaphore>
#include <stdexcept>
#include <string>
#include <thread>

#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>

#include "support/explored.hpp"
#include "support/semaphore.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;

class after_func_test : public test::explored {};

// CX-25.
TEST_P(after_func_test, runs_after_a_cancel_and_not_before) {
  run([] {
    auto [ctx, cancel] = with_cancel(context::background());
    std::atomic<bool> canceled{false};
    test::semaphore ran;
    after_func_handle handle = after_func(ctx, [&, c = ctx] {
      EXPECT_TRUE(canceled);
      EXPECT_TRUE(c.err().has_value());
      ran.post();
    });
    let_others_run();
    canceled = true;
    cancel();
    ran.wait();
    EXPECT_FALSE(handle.stop());
  });
}

TEST_P(after_func_test, runs_after_a_timeout) {
  run([] {
    auto [ctx, cancel] = with_timeout(context::background(), 1ms);
    test::semaphore ran;
    after_func_handle handle = after_func(ctx, [&ran] { ran.post(); });
    ran.wait();
    EXPECT_EQ(*ctx.err(), error{errc::deadline_exceeded});
    EXPECT_FALSE(handle.stop());
  });
}

TEST_P(after_func_test, runs_at_once_on_an_ended_context) {
  run([] {
    auto [ctx, cancel] = with_cancel(context::background());
    cancel();
    test::semaphore ran;
    after_func_handle handle = after_func(ctx, [&ran] { ran.post(); });
    EXPECT_FALSE(handle.stop());
    ran.wait();
  });
}

// The cancel comes before f also if it came before the registration. Nothing else orders the two
// here: to ThreadSanitizer the relaxed flag is none, and without the edge it reports a race.
TEST_P(after_func_test, of_an_ended_context_sees_what_led_to_its_end) {
  run([] {
    auto [ctx, cancel] = with_cancel(context::background());
    int data = 0;
    std::atomic<bool> canceled{false};
    go([&] {
      data = 1;
      cancel();
      canceled.store(true, std::memory_order_relaxed);
    });
    while (!canceled.load(std::memory_order_relaxed)) let_others_run();
    int seen = 0;
    test::semaphore ran;
    after_func(ctx, [&] {
      seen = data;
      ran.post();
    });
    ran.wait();
    EXPECT_EQ(seen, 1);
  });
}

// CX-26, and CX-12's part: nothing of it is left.
TEST_P(after_func_test, does_not_run_after_a_stop) {
  run([] {
    auto [ctx, cancel] = with_cancel(context::background());
    const auto held = std::make_shared<std::atomic<int>>(0);
    after_func_handle handle = after_func(ctx, [held] { ++*held; });
    EXPECT_EQ(held.use_count(), 2);
    EXPECT_TRUE(handle.stop());
    EXPECT_EQ(held.use_count(), 1);  // The function was freed.
    EXPECT_FALSE(handle.stop());
    cancel();
    let_others_run();
    EXPECT_EQ(*held, 0);
  });
}

TEST_P(after_func_test, runs_though_the_handle_was_dropped) {
  run([] {
    test::semaphore ran;
    {
      auto [ctx, cancel] = with_cancel(context::background());
      after_func(ctx, [&ran] { ran.post(); });
    }
    ran.wait();
  });
}

TEST_P(after_func_test, registrations_are_independent) {
  run([] {
    auto [ctx, cancel] = with_cancel(context::background());
    test::semaphore first_ran;
    test::semaphore third_ran;
    after_func(ctx, [&] { first_ran.post(); });
    after_func_handle second = after_func(ctx, [] { ADD_FAILURE() << "it was stopped"; });
    after_func(ctx, [&] { third_ran.post(); });
    EXPECT_TRUE(second.stop());
    cancel();
    first_ran.wait();
    third_ran.wait();
    let_others_run();
  });
}

TEST(after_func, never_runs_for_a_context_that_never_ends) {
  after_func_handle handle = after_func(context::background(), [] { ADD_FAILURE(); });
  EXPECT_TRUE(handle.stop());
  EXPECT_FALSE(handle.stop());
}

// The answer of stop() and the run exclude each other, exactly one of them happens.
// Also if a plain thread ends the context, which would use the default runtime itself.
TEST(after_func, runs_in_the_runtime_that_asked_for_it) {
  std::atomic<bool> reported{false};
  std::atomic<bool> here{false};
  runtime workers{{.procs = 1, .panic_handler = [&](const panic_report& report) {
                     EXPECT_NE(report.what.message().find("a panic"), std::string::npos);
                     reported = true;
                   }}};
  workers.run([&] {
    auto [ctx, cancel] = with_cancel(context::background());
    after_func(ctx, [&] {
      here = &runtime::current() == &workers;
      throw std::runtime_error{"a panic"};
    });
    std::thread{[&] { cancel(); }}.join();
    while (!reported) yield();
  });
  EXPECT_TRUE(here);
}

TEST(after_func, runs_elsewhere_when_that_runtime_has_stopped) {
  auto [ctx, cancel] = with_cancel(context::background());
  std::binary_semaphore ran{0};
  {
    runtime workers{{.procs = 1}};
    workers.run([&] { after_func(ctx, [&] { ran.release(); }); });
  }
  cancel();
  ran.acquire();
}

TEST_P(after_func_test, stop_says_the_truth) {
  const int rounds = is_simulated() ? 3 : 500;
  run([rounds] {
    for (int round = 0; round < rounds; ++round) {
      auto [ctx, cancel] = with_cancel(context::background());
      std::atomic<int> runs{0};
      test::semaphore ran;
      test::semaphore canceled;
      after_func_handle handle = after_func(ctx, [&] {
        ++runs;
        ran.post();
      });
      go([&end = cancel, &canceled] {
        end();
        canceled.post();
      });
      if (round % 3 == 0) yield();
      const bool prevented = handle.stop();
      canceled.wait();
      if (!prevented) ran.wait();
      let_others_run();
      EXPECT_EQ(runs, prevented ? 0 : 1);
    }
  });
}

EXEUNT_EXPLORED(after_func_test);

}  // namespace
}  // namespace exeunt
