// SPDX-License-Identifier: Apache-2.0

#include <exeunt/context/blocking.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <semaphore>
#include <stdexcept>

#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>

#include "sched/seam.hpp"
#include "support/on_workers.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;

class context_blocking_test : public exeunt::test::on_workers {};

TEST_P(context_blocking_test, gives_what_the_call_returns) {
  run([] {
    auto [ctx, cancel] = with_cancel(context::background());
    const result<int> number = blocking(ctx, [] { return 42; });
    ASSERT_TRUE(number.has_value());
    EXPECT_EQ(*number, 42);
    EXPECT_TRUE(blocking(ctx, [] {}).has_value());
    const result<std::string> flat = blocking(ctx, []() -> result<std::string> { return "x"; });
    EXPECT_EQ(flat.value(), "x");
    const result<> failed = blocking(ctx, []() -> result<> { return fail(errc::closed); });
    EXPECT_TRUE(failed.error().is(errc::closed));
    EXPECT_EQ(*blocking(context::background(), [] { return 1; }), 1);
    EXPECT_EQ(**blocking(ctx, [p = std::make_unique<int>(3)]() mutable { return std::move(p); }),
              3);
  });
}

TEST_P(context_blocking_test, throws_what_the_call_throws) {
  run([] {
    EXPECT_THROW(static_cast<void>(blocking(context::background(),
                                            []() -> int { throw std::out_of_range{"no"}; })),
                 std::out_of_range);
  });
}

// What f returned is not thrown, though there is an exception in it.
TEST_P(context_blocking_test, returns_what_the_call_returns_of_an_exception) {
  run([] {
    const error held = error::from_exception(std::make_exception_ptr(std::out_of_range{"no"}));
    const result<> returned =
        blocking(context::background(), [held]() -> result<> { return fail(held); });
    ASSERT_FALSE(returned);
    EXPECT_EQ(returned.error(), held);
  });
}

struct throws_when_moved {
  throws_when_moved() = default;
  throws_when_moved(throws_when_moved&&) { throw std::out_of_range{"moved"}; }
};

TEST_P(context_blocking_test, throws_what_the_move_of_its_value_throws) {
  run([] {
    EXPECT_THROW(
        static_cast<void>(blocking(context::background(), [] { return throws_when_moved{}; })),
        std::out_of_range);
  });
}

TEST_P(context_blocking_test, is_not_begun_on_an_ended_context) {
  run([] {
    auto [ctx, cancel] = with_cancel(context::background());
    cancel();
    const result<> outcome = blocking(ctx, [] { ADD_FAILURE(); });
    EXPECT_TRUE(outcome.error().is(errc::canceled));
  });
}

// The caller goes; the call ends later, on its own copies.
TEST_P(context_blocking_test, caller_leaves_when_its_context_ends) {
  run([] {
    struct shared {
      std::binary_semaphore begun{0};
      std::binary_semaphore go_on{0};
      std::binary_semaphore ended{0};
    };
    const auto state = std::make_shared<shared>();
    auto [ctx, cancel] = with_cancel(context::background());
    std::atomic<bool> left{false};
    go([c = ctx, state, &left] {
      const result<int> outcome = blocking(c, [state] {
        state->begun.release();
        state->go_on.acquire();
        state->ended.release();
        return 1;
      });
      EXPECT_TRUE(outcome.error().is(errc::canceled));
      left = true;
    });
    while (!state->begun.try_acquire()) yield();
    cancel();
    while (!left) yield();
    state->go_on.release();
    while (!state->ended.try_acquire()) yield();
  });
}

// The caller's runtime is told, though its fiber has gone on and the call is on a plain thread.
TEST(context_blocking, reports_to_the_runtime_that_called) {
  std::binary_semaphore reported{0};
  std::binary_semaphore may_throw{0};
  runtime workers{{.procs = 1, .panic_handler = [&](const panic_report& report) {
                     EXPECT_NE(report.what.message().find("too late"), std::string::npos);
                     reported.release();
                   }}};
  workers.run([&] {
    auto [ctx, cancel] = with_cancel(context::background());
    std::atomic<bool> began{false};
    go([&] {
      while (!began) yield();  // A call that has not begun is not made at all.
      cancel();
    });
    const result<> left = blocking(ctx, [&] {
      began = true;
      may_throw.acquire();
      throw std::runtime_error{"too late"};
    });
    EXPECT_FALSE(left);
  });
  may_throw.release();
  reported.acquire();
}

TEST_P(context_blocking_test, ends_at_a_deadline) {
  run([] {
    const auto go_on = std::make_shared<std::binary_semaphore>(0);
    const result<> outcome =
        blocking(with_timeout(context::background(), 1ms), [go_on] { go_on->acquire(); });
    EXPECT_TRUE(outcome.error().is(errc::deadline_exceeded));
    go_on->release();
  });
}

TEST(context_blocking, plain_thread_leaves_too) {
  const auto go_on = std::make_shared<std::binary_semaphore>(0);
  const result<> outcome =
      blocking(with_timeout(context::background(), 1ms), [go_on] { go_on->acquire(); });
  EXPECT_TRUE(outcome.error().is(errc::deadline_exceeded));
  go_on->release();
  EXPECT_EQ(*blocking(context::background(), [] { return 2; }), 2);
}

TEST_P(context_blocking_test, many_at_once) {
  run([] {
    auto [ctx, cancel] = with_cancel(context::background());
    std::atomic<int> sum{0};
    std::atomic<int> ended{0};
    for (int i = 1; i <= 100; ++i) {
      go([c = ctx, i, &sum, &ended] {
        if (const result<int> value = blocking(c, [i] { return i; })) sum += *value;
        ++ended;
      });
    }
    while (ended < 100) yield();
    EXPECT_EQ(sum, 5050);
  });
}

// Goal:   what still waits for a thread when its context ends is not called, and its function is
//         gone when the call returns.
// Method: one thread, which is busy. The rest of the queue moves up.
TEST(context_blocking, is_not_begun_if_its_context_ends_while_it_waits) {
  runtime workers{{.procs = 2, .blocking_threads_max = 1}};
  workers.run([&] {
    std::binary_semaphore begun{0};
    std::binary_semaphore may_end{0};
    std::atomic<int> ended{0};
    go([&] {
      blocking([&] {
        begun.release();
        may_end.acquire();
      });
      ++ended;
    });
    while (!begun.try_acquire()) yield();
    auto [ctx, cancel] = with_cancel(context::background());
    go([&, c = ctx] {
      const auto held = std::make_shared<int>(0);
      const result<> outcome = blocking(c, [held] { ADD_FAILURE() << "was called"; });
      EXPECT_TRUE(outcome.error().is(errc::canceled));
      EXPECT_EQ(held.use_count(), 1);
      ++ended;
    });
    while (workers.stats().blocking_queued < 1) yield();
    go([&] {
      EXPECT_EQ(*blocking(context::background(), [] { return 5; }), 5);
      ++ended;
    });
    while (workers.stats().blocking_queued < 2) yield();
    cancel();
    while (ended < 1) yield();
    EXPECT_EQ(workers.stats().blocking_queued, 1U);
    may_end.release();
    while (ended < 3) yield();
  });
  EXPECT_EQ(workers.stop(), 0U);
  EXPECT_EQ(workers.stats().blocking_completed, 2U);
}

TEST(context_blocking, a_refused_thread_is_a_failure) {
  static std::atomic<int> refusal;
  refusal = EAGAIN;
  detail::seam parts{.refuse_thread = []() noexcept { return refusal.load(); }};
  runtime workers{{.procs = 1, .seam = &parts}};
  workers.run([] {
    const result<int> refused = blocking(context::background(), [] { return 1; });
    ASSERT_FALSE(refused);
    EXPECT_TRUE(refused.error().is(std::errc::resource_unavailable_try_again));
    refusal = 0;
    EXPECT_EQ(blocking(context::background(), [] { return 1; }), 1);
  });
}

EXEUNT_ON_WORKERS(context_blocking_test);

}  // namespace
}  // namespace exeunt
