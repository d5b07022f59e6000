// SPDX-License-Identifier: Apache-2.0
// Owners of fibers whose runtime has stopped without them: they say so, and do not wait for good.
// Each of these tests hangs without what it tests.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include <exeunt/context/context.hpp>
#include <exeunt/group/errgroup.hpp>
#include <exeunt/group/spawn.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>

#include "support/abandons.hpp"
#include "support/child.hpp"
#include "support/semaphore.hpp"
#include "support/until_parked.hpp"

namespace exeunt {
namespace {

using detail::wait_reason;
using test::child;
using test::semaphore;

// Runs `body` in a runtime which is stopped and destroyed when it has left one fiber parked.
template <typename F>
void leave_one(wait_reason why, F&& body) {
  runtime workers{{.procs = 2}};
  workers.run([&] {
    body();
    test::until_parked(1, why);
  });
  testing::internal::CaptureStderr();
  EXPECT_EQ(workers.stop(), 1U);
  const std::string report = testing::internal::GetCapturedStderr();
  EXPECT_NE(report.find("leaked fiber"), std::string::npos) << report;
}

// Nobody posts it. Not destroyed, as who waits for it never ends.
semaphore& never() {
  static auto* const made = new semaphore;
  return *made;
}

template <typename F>
std::string reported_by(F&& body) {
  testing::internal::CaptureStderr();
  body();
  return testing::internal::GetCapturedStderr();
}

TEST(left_behind, an_owner_goes_and_says_so) {
  std::optional<fiber<void>> owner;
  leave_one(wait_reason::context, [&] { owner.emplace(spawn([](context ctx) { ctx.wait(); })); });
  const std::string report = reported_by([&] { owner.reset(); });
  EXPECT_NE(report.find("a spawned fiber is not waited for"), std::string::npos) << report;
}

TEST(left_behind, a_join_fails) {
  fiber<int> owner;
  fiber<int> other;
  fiber<int> ended;
  {
    runtime workers{{.procs = 2}};
    workers.run([&] {
      owner = spawn([](context ctx) { return ctx.wait(), 1; });
      other = spawn([](context ctx) { return ctx.wait(), 2; });
      ended = spawn([] { return 3; });
      test::until_parked(2, wait_reason::context);
    });
    EXPECT_EQ(workers.stop(), 2U);
  }
  const result<int> joined = owner.join();
  ASSERT_FALSE(joined);
  EXPECT_TRUE(joined.error().is(errc::shutting_down)) << joined.error().message();
  EXPECT_FALSE(owner.joinable());
  const result<int> with_context = other.join(context::background());
  ASSERT_FALSE(with_context);
  EXPECT_TRUE(with_context.error().is(errc::shutting_down));
  EXPECT_FALSE(other.joinable());
  EXPECT_EQ(ended.join(), 3) << "what has ended is as good as ever";
}

// The stop comes while a thread waits, whichever of the two is faster.
TEST(left_behind, a_join_under_way_ends_with_the_stop) {
  fiber<void> owner;
  std::thread joins;
  leave_one(wait_reason::context, [&] {
    owner = spawn([](context ctx) { ctx.wait(); });
    semaphore begun;
    joins = std::thread{[&] {
      begun.post();
      const result<> joined = owner.join();
      EXPECT_FALSE(joined);
      EXPECT_TRUE(!joined && joined.error().is(errc::shutting_down));
    }};
    begun.wait();
  });
  joins.join();
}

TEST(left_behind, a_group_goes_and_says_so) {
  std::optional<errgroup> group;
  group.emplace(context::background());
  leave_one(wait_reason::context, [&] { group->go([](context ctx) { ctx.wait(); }); });
  const std::string report = reported_by([&] { group.reset(); });
  EXPECT_NE(report.find("does not wait for 1 task"), std::string::npos) << report;
}

TEST(left_behind, the_wait_of_a_group_fails) {
  errgroup group{context::background()};
  leave_one(wait_reason::semaphore, [&] {
    group.go([](context) { never().wait(); });
    group.go([](context) -> result<> { return fail(errc::malformed); });
    group.go([](context) {});
  });
  const result<> ended = group.wait();
  ASSERT_FALSE(ended);
  EXPECT_TRUE(ended.error().is(errc::shutting_down)) << ended.error().message();
  EXPECT_TRUE(ended.error().is(errc::malformed)) << ended.error().message();
}

TEST(left_behind, a_group_that_is_full_starts_nothing_after_the_stop) {
  errgroup group{context::background(), {.limit = 1}};
  std::thread starts;
  leave_one(wait_reason::semaphore, [&] {
    group.go([](context) { never().wait(); });
    semaphore begun;
    starts = std::thread{[&] {
      begun.post();
      // The default runtime goes on, but the slot is in one that does not.
      EXPECT_THROW(group.go([](context) {}), panic_error);
    }};
    begun.wait();
  });
  starts.join();
}

// The wait began when all tasks were in the runtime that stops, and goes on for those of another.
TEST(left_behind, a_group_waits_for_the_tasks_of_another_runtime) {
  errgroup group{context::background()};
  runtime stays{{.procs = 1}};
  semaphore first;
  semaphore second;
  std::atomic<bool> returned{false};
  std::thread waits;
  {
    runtime stops{{.procs = 1}};
    stops.run([&] { group.go([&](context) { first.wait(); }); });
    waits = std::thread{[&] {
      EXPECT_TRUE(group.wait());
      returned = true;
    }};
    stays.run([&] { group.go([&](context) { second.wait(); }); });
    first.post();
    stops.run([&] {
      while (group.running().size() != 1) yield();
    });
    EXPECT_EQ(stops.stop(), 0U);
  }
  EXPECT_FALSE(returned);
  second.post();
  waits.join();
}

// A static group, and the default runtime, which stops before it is destroyed.
TEST(left_behind, the_process_ends_though_a_static_group_has_a_task) {
  if (child::body() == "group") {
    static errgroup group{context::background()};
    group.go([](context ctx) { ctx.wait(); });
    std::exit(3);
  }
  child left{"group"};
  EXPECT_EQ(left.finish(), 3) << left.output();
  EXPECT_NE(left.output().find("does not wait for 1 task"), std::string::npos) << left.output();
}

// The same, when it is a fiber that ends the process and destroys its statics.
TEST(left_behind, a_fiber_may_end_the_process) {
  if (child::body() == "fiber") {
    static errgroup group{context::background()};
    static fiber<void> owner;
    group.go([](context ctx) { ctx.wait(); });
    owner = spawn([](context ctx) { ctx.wait(); });
    go([] { std::exit(4); });
    detail::park_forever(wait_reason::none);
  }
  child left{"fiber"};
  EXPECT_EQ(left.finish(), 4) << left.output();
  EXPECT_NE(left.output().find("does not wait for 1 task"), std::string::npos) << left.output();
  EXPECT_NE(left.output().find("is not waited for"), std::string::npos) << left.output();
}

}  // namespace
}  // namespace exeunt
