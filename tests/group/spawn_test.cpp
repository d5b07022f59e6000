// SPDX-License-Identifier: Apache-2.0

#include <exeunt/group/spawn.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <exeunt/base/log.hpp>
#include <exeunt/sched/fiber_local.hpp>
#include <exeunt/sched/runtime.hpp>

#include "support/explored.hpp"
#include "support/semaphore.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;

class spawn_test : public test::explored {};

std::mutex log_lock;
std::string logged;
void catch_log(std::string_view text) noexcept {
  const std::lock_guard guard{log_lock};
  logged += text;
}

/// Collects what is reported while it lives.
class log_catcher {
 public:
  log_catcher() {
    logged.clear();
    set_log_sink(&catch_log);
  }
  ~log_catcher() { set_log_sink(nullptr); }
  static bool has(std::string_view text) {
    const std::lock_guard guard{log_lock};
    return logged.find(text) != std::string::npos;
  }
};

template <typename... Args>
concept can_be_spawned = requires(Args&&... args) { spawn(std::forward<Args>(args)...); };
using takes_one = void (*)(context);
using takes_two = void (*)(context, context);
static_assert(can_be_spawned<takes_one> && can_be_spawned<context&, takes_one>);
static_assert(can_be_spawned<takes_two, context&>, "one of its own, and one to look at");
// The caller's own context would be f's, and nobody would end it.
static_assert(!can_be_spawned<takes_one, context&>);
static_assert(!can_be_spawned<fiber_options, takes_one, context&>);
static_assert(!can_be_spawned<void (*)(const context&, int), context&, int>);
// It would end in the same statement.
static_assert(!can_be_spawned<with_cancel_result, takes_one>);
static_assert(!can_be_spawned<takes_one, with_cancel_result>);

TEST_P(spawn_test, join_gives_what_was_returned) {
  run([] {
    fiber<int> number = spawn([] { return 42; });
    EXPECT_TRUE(number.joinable());
    EXPECT_EQ(number.join().value(), 42);
    EXPECT_FALSE(number.joinable());
    EXPECT_TRUE(spawn([] {}).join().has_value());
    fiber<std::string> flat = spawn([]() -> result<std::string> { return "x"; });
    EXPECT_EQ(flat.join().value(), "x");
    EXPECT_TRUE(
        spawn([]() -> result<> { return fail(errc::closed); }).join().error().is(errc::closed));
    EXPECT_EQ(*spawn([] { return std::make_unique<int>(7); }).join().value(), 7);
  });
}

TEST_P(spawn_test, arguments_are_passed_as_to_a_thread) {
  run([] {
    EXPECT_EQ(spawn([](int a, int b) { return a - b; }, 5, 3).join().value(), 2);
    EXPECT_EQ(
        spawn([](std::unique_ptr<int> p) { return *p; }, std::make_unique<int>(4)).join().value(),
        4);
    int written = 0;
    EXPECT_TRUE(spawn([](int& out) { out = 9; }, std::ref(written)).join().has_value());
    EXPECT_EQ(written, 9);
    EXPECT_EQ(spawn(
                  {.name = "named"},
                  [](int x) { return std::string{this_fiber::name()} + std::to_string(x); }, 1)
                  .join()
                  .value(),
              "named1");
  });
}

TEST_P(spawn_test, exception_comes_back_with_its_type) {
  run([] {
    const result<int> outcome = spawn([]() -> int { throw std::out_of_range{"no"}; }).join();
    ASSERT_FALSE(outcome.has_value());
    EXPECT_EQ(outcome.error().exception_type(), "std::out_of_range");
    EXPECT_THROW(outcome.error().rethrow(), std::out_of_range);
  });
}

TEST_P(spawn_test, destructor_cancels_then_joins) {
  run([] {
    std::atomic<bool> ended{false};
    {
      const fiber<void> waits = spawn([&ended](context ctx) {
        ctx.wait();
        yield();
        ended = true;
      });
    }
    EXPECT_TRUE(ended);
  });
}

TEST_P(spawn_test, destructor_joins_what_has_no_context) {
  run([] {
    std::atomic<bool> ended{false};
    {
      const auto quick = spawn([&ended] {
        for (int i = 0; i < 10; ++i) yield();
        ended = true;
      });
    }
    EXPECT_TRUE(ended);
  });
}

TEST_P(spawn_test, own_context_is_below_the_given_one) {
  run([] {
    auto [ctx, cancel] = with_cancel_cause(context::background());
    auto below = spawn(ctx, [](context own) {
      own.wait();
      return *cause(own);
    });
    auto with_arguments = spawn(
        ctx,
        [](const context& own, int a, int b) {
          own.wait();
          return a + b;
        },
        1, 2);
    auto named = spawn({.name = "n"}, ctx, [](context own) { own.wait(); });
    cancel(errc::closed);
    EXPECT_EQ(below.join().value(), error{errc::closed});
    EXPECT_EQ(with_arguments.join().value(), 3);
    EXPECT_TRUE(named.join().has_value());
    EXPECT_EQ(detail::node_of(ctx)->child_count(), 0U);
  });
}

TEST_P(spawn_test, cancel_ends_only_its_own_context) {
  run([] {
    auto [ctx, cancel] = with_cancel(context::background());
    auto one = spawn(ctx, [](context own) { own.wait(); });
    one.cancel();
    EXPECT_TRUE(one.join().has_value());
    EXPECT_FALSE(ctx.err().has_value());
  });
}

TEST_P(spawn_test, own_context_ends_with_the_fiber) {
  run([] {
    auto [ctx, cancel] = with_cancel(context::background());
    auto returns_it = spawn(ctx, [](context own) { return own; });
    const result<context> own = returns_it.join();
    EXPECT_TRUE(own->err().has_value());
    EXPECT_EQ(detail::node_of(ctx)->child_count(), 0U);
  });
}

TEST_P(spawn_test, join_can_be_given_up) {
  run([] {
    test::semaphore go_on;
    auto slow = spawn([&go_on] {
      go_on.wait();
      return 5;
    });
    const result<int> early = slow.join(with_timeout(context::background(), 1ms));
    EXPECT_TRUE(early.error().is(errc::deadline_exceeded));
    EXPECT_TRUE(slow.joinable());
    go_on.post();
    auto [ctx, cancel] = with_cancel(context::background());
    EXPECT_EQ(slow.join(ctx).value(), 5);
  });
}

TEST_P(spawn_test, detached_fiber_goes_on) {
  run([] {
    test::semaphore go_on;
    test::semaphore ended;
    {
      auto detached = spawn([&](context ctx) {
        go_on.wait();
        EXPECT_FALSE(ctx.err().has_value());
        ended.post();
      });
      detached.detach();
      EXPECT_FALSE(detached.joinable());
    }
    go_on.post();
    ended.wait();
  });
}

TEST_P(spawn_test, nobodys_exception_is_reported) {
  if (is_simulated()) GTEST_SKIP() << "where it is a failure of the schedule";
  const log_catcher catcher;
  run([] {
    {
      const auto dropped = spawn([] { throw std::runtime_error{"dropped one"}; });
    }
    EXPECT_TRUE(log_catcher::has("dropped one"));
    spawn([] { throw std::runtime_error{"detached one"}; }).detach();
    {
      const auto failed = spawn([]() -> result<> { return fail(errc::closed, "a failure"); });
    }
    EXPECT_TRUE(log_catcher::has("a failure"));
    {
      const auto canceled = spawn([](context c) -> result<> {
        c.wait();
        return fail(*c.err());
      });
    }
    EXPECT_FALSE(spawn([] { throw std::runtime_error{"read one"}; }).join().has_value());
    while (!log_catcher::has("detached one")) yield();
  });
  EXPECT_FALSE(log_catcher::has("read one"));
  EXPECT_FALSE(log_catcher::has("canceled"));
}

// A report names the fiber that failed, and not the one of the owner who did not look.
TEST(spawn, report_names_the_fiber_that_failed) {
  std::vector<panic_report> reports;
  runtime workers{{.procs = 1, .panic_handler = [&](const panic_report& report) {
                     reports.push_back(report);
                   }}};
  unsigned line = 0;
  std::uint64_t id = 0;
  workers.run([&] {
    line = __LINE__ + 1;
    const auto dropped = spawn({.name = "culprit"}, [&] {
      id = this_fiber::id();
      throw std::runtime_error{"dropped"};
    });
    static_cast<void>(dropped);
  });
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].fiber, id);
  EXPECT_EQ(reports[0].name, "culprit");
  EXPECT_EQ(reports[0].started_at.line(), line);
}

// Throws at one of the moves on the way to the joiner.
struct tires_of_moving {
  explicit tires_of_moving(int moves) : left{moves} {}
  tires_of_moving(tires_of_moving&& other) : left{other.left - 1} {
    if (left < 0) throw std::runtime_error{"moved once too often"};
  }
  int left;
};

// Whoever joins learns of it, wherever it happens.
TEST_P(spawn_test, a_move_that_throws_hangs_nobody) {
  run([] {
    bool arrived = false;
    for (int moves = 0; !arrived; ++moves) {
      ASSERT_LT(moves, 20);
      fiber<tires_of_moving> owner = spawn([moves] { return tires_of_moving{moves}; });
      const result<tires_of_moving> joined = owner.join();
      arrived = joined.has_value();
      if (!joined) {
        EXPECT_EQ(joined.error().message(), "moved once too often (std::runtime_error)");
      }
    }
  });
}

TEST_P(spawn_test, misuse_throws) {
  run([] {
    fiber<void> none;
    EXPECT_THROW(static_cast<void>(none.join()), panic_error);
    EXPECT_THROW(static_cast<void>(none.join(context::background())), panic_error);
    none.cancel();
    none.detach();
    auto once = spawn([] {});
    EXPECT_TRUE(once.join().has_value());
    EXPECT_THROW(static_cast<void>(once.join()), panic_error);
  });
}

TEST_P(spawn_test, assignment_ends_what_was_owned) {
  run([] {
    std::atomic<int> ended{0};
    auto owner = spawn([&ended](context ctx) {
      ctx.wait();
      ++ended;
    });
    owner = spawn([](context) {});
    EXPECT_EQ(ended, 1);
    EXPECT_TRUE(owner.join().has_value());
  });
}

// What the function holds is gone, and what it wrote is visible, when join() returns.
TEST_P(spawn_test, end_comes_before_join) {
  const int rounds = is_simulated() ? 3 : 200;
  run([rounds] {
    for (int round = 0; round < rounds; ++round) {
      const auto held = std::make_shared<int>(0);
      int written = 0;
      auto writes = spawn([held, &written](std::shared_ptr<int>) { written = 1; }, held);
      EXPECT_TRUE(writes.join().has_value());
      EXPECT_EQ(written, 1);
      EXPECT_EQ(held.use_count(), 1);
    }
  });
}

TEST_P(spawn_test, fiber_locals_are_gone_when_join_returns) {
  run([] {
    static std::atomic<int> ends;
    ends = 0;
    struct slow_to_go {
      ~slow_to_go() {
        for (int i = 0; i < 10; ++i) yield();
        ++ends;
      }
      int number = 0;
    };
    fiber_local<slow_to_go> value;
    for (int i = 1; i <= 10; ++i) {
      EXPECT_EQ(spawn([&] { return ++value->number; }).join(), 1);
      EXPECT_EQ(ends, i);
    }
  });
}

TEST(spawn, works_from_a_plain_thread) {
  EXPECT_EQ(spawn([] { return 3; }).join().value(), 3);
  const auto waits = spawn([](context ctx) { ctx.wait(); });
}

// A temporary's context would end before the fiber begins.
template <typename From>
concept spawns_below = requires(From&& from) { spawn(std::forward<From>(from), [](context) {}); };
static_assert(spawns_below<const context&>);
static_assert(spawns_below<with_cancel_result&>);
static_assert(!spawns_below<with_cancel_result>);
static_assert(!std::is_copy_constructible_v<fiber<int>>);

EXEUNT_EXPLORED(spawn_test);

}  // namespace
}  // namespace exeunt
