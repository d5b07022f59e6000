// SPDX-License-Identifier: Apache-2.0

#include <exeunt/sync/wait_group.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>

#include <exeunt/context/context.hpp>
#include <exeunt/sched/fiber_local.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>

#include "support/explored.hpp"
#include "support/until_parked.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using detail::wait_reason;

// SY-29.
static_assert(!std::is_copy_constructible_v<wait_group>);
static_assert(!std::is_move_constructible_v<wait_group>);

class wait_group_test : public test::explored {};

TEST_P(wait_group_test, wait_for_nothing_returns_at_once) {
  run([] {
    wait_group none;
    none.wait();
    EXPECT_TRUE(none.wait(context::background()));
    EXPECT_EQ(none.count(), 0);
  });
}

// SY-11: two groups, and again on the same objects.
TEST_P(wait_group_test, releases_nobody_before_the_last_is_done) {
  run([] {
    constexpr int fiber_count = 16;
    wait_group first, second;
    for (int round = 0; round < 8; ++round) {
      std::atomic<int> exited = 0;
      first.add(fiber_count);
      second.add(fiber_count);
      wait_group all;
      for (int f = 0; f < fiber_count; ++f) {
        all.go([&] {
          first.done();
          second.wait();
          ++exited;
        });
      }
      first.wait();
      for (int f = 0; f < fiber_count; ++f) {
        ASSERT_EQ(exited, 0) << "released too early";
        second.done();
      }
      all.wait();
      ASSERT_EQ(exited, fiber_count);
    }
  });
}

// SY-12.
TEST_P(wait_group_test, a_negative_count_throws_and_changes_nothing) {
  run([] {
    wait_group group;
    group.add(1);
    group.done();
    EXPECT_THROW(group.done(), panic_error);
    EXPECT_THROW(group.add(-3), panic_error);
    EXPECT_EQ(group.count(), 0);
    group.add(2);
    EXPECT_THROW(group.add(-3), panic_error);
    EXPECT_EQ(group.count(), 2);
    group.add(-2);
    group.wait();
  });
}

// SY-14.
TEST_P(wait_group_test, does_not_wake_early) {
  run([] {
    for (int round = 0; round < 1000; ++round) {
      wait_group group;
      std::atomic<int> n = 0;
      group.add(1);
      group.add(1);
      for (int f = 0; f < 2; ++f) {
        go([&] {
          ++n;
          group.done();
        });
      }
      group.wait();
      ASSERT_EQ(n, 2);
    }
  });
}

// SY-15: the counter is plain.
TEST_P(wait_group_test, go_runs_and_counts) {
  run([] {
    wait_group group;
    int n = 0;
    group.go([&] { ++n; });
    group.wait();
    EXPECT_EQ(n, 1);
    group.go({.name = "named"}, [&] { EXPECT_EQ(this_fiber::name(), "named"); });
    group.wait();
  });
}

TEST_P(wait_group_test, wakes_all_who_wait_fibers_and_threads) {
  if (is_simulated()) GTEST_SKIP() << "a simulation has no threads";
  run([] {
    wait_group group;
    std::atomic<int> woken = 0;
    bool written = false;
    group.add(1);
    wait_group fibers;
    for (int f = 0; f < 40; ++f) {
      fibers.go([&] {
        group.wait();
        EXPECT_TRUE(written);
        ++woken;
      });
    }
    std::thread thread{[&] {
      group.wait();
      EXPECT_TRUE(written);
      ++woken;
    }};
    test::until_parked(40, wait_reason::wait_group);
    EXPECT_EQ(woken, 0);
    written = true;
    group.done();
    fibers.wait();
    thread.join();
    EXPECT_EQ(woken, 41);
  });
}

TEST(wait_group_on_threads, needs_no_fiber_at_all) {
  wait_group group;
  int written = 0;
  group.add(1);
  std::thread thread{[&] {
    written = 7;
    group.done();
  }};
  group.wait();
  EXPECT_EQ(written, 7);
  thread.join();
}

TEST(wait_group_on_threads, go_from_a_plain_thread_uses_the_default_runtime) {
  wait_group group;
  bool on_fiber = false;
  group.go([&] { on_fiber = runtime::on_fiber(); });
  group.wait();
  EXPECT_TRUE(on_fiber);
}

// Goal:   a group may be used again at once: those whom the zero has released return, though the
//         count is above zero again before any of them runs.
// Method: the count leaves zero in the turn that released them, and stays above it until all have
//         returned. Who looked at it when he runs would wait again, or, as in Go, panic.
TEST_P(wait_group_test, used_again_at_once_holds_nobody_of_before) {
  run([] {
    wait_group group;
    const auto with_context = with_cancel(context::background());
    for (int round = 0; round < 3; ++round) {
      group.add(1);
      wait_group all;
      for (int f = 0; f < 4; ++f) {
        all.go([&] { group.wait(); });
        all.go([&] { EXPECT_TRUE(group.wait(with_context)); });
      }
      test::until_parked(8, wait_reason::wait_group);
      group.done();
      group.add(1);
      all.wait();
      EXPECT_EQ(group.count(), 1);
      group.done();
    }
  });
}

// Whoever saw the zero may destroy the group, though its done() is still returning.
TEST_P(wait_group_test, may_be_destroyed_as_soon_as_wait_returns) {
  run([] {
    wait_group all;
    for (int f = 0; f < 4; ++f) {
      all.go([] {
        for (int i = 0; i < 300; ++i) {
          auto group = std::make_unique<wait_group>();
          group->add(2);
          go([g = group.get()] { g->done(); });
          go([g = group.get()] { g->done(); });
          if (i % 3 == 0) yield();
          group->wait();
        }
      });
    }
    all.wait();
  });
}

TEST_P(wait_group_test, a_context_ends_the_wait_and_another_wait_goes_on) {
  run([] {
    wait_group group;
    group.add(1);
    auto [ctx, cancel] = with_cancel(context::background());
    wait_group waiting;
    waiting.go([&, &end = ctx] {
      const result<> waited = group.wait(end);
      ASSERT_FALSE(waited);
      EXPECT_TRUE(waited.error().is(errc::canceled));
      EXPECT_FALSE(group.wait(end)) << "ended before";
      EXPECT_TRUE(group.wait(context::background()));
    });
    test::until_parked(1, wait_reason::wait_group);
    cancel();
    const result<> timed = group.wait(with_timeout(context::background(), 1ms));
    ASSERT_FALSE(timed);
    EXPECT_TRUE(timed.error().is(errc::deadline_exceeded));
    test::until_parked(1, wait_reason::wait_group);  // The third wait: the second failed before.
    group.done();
    waiting.wait();
    EXPECT_TRUE(group.wait(ctx)) << "a zero needs no waiting";
  });
}

TEST_P(wait_group_test, cancel_against_done_wakes_once) {
  run([] {
    for (int round = 0; round < 500; ++round) {
      wait_group group;
      group.add(1);
      auto [ctx, cancel] = with_cancel(context::background());
      wait_group racing;
      racing.go([&, &end = ctx] { static_cast<void>(group.wait(end)); });
      if (round % 2 == 0) yield();
      racing.go([&] { group.done(); });
      racing.go([&, &stop = cancel] { stop(); });
      racing.wait();
      ASSERT_EQ(group.count(), 0);
    }
  });
}

std::atomic<int> reported = 0;

TEST_P(wait_group_test, an_exception_is_reported_at_once_counted_down_and_thrown) {
  reported = 0;
  runtime workers{{.procs = GetParam(), .panic_handler = [](const panic_report& report) {
                     EXPECT_EQ(report.what.message(), "broken (std::runtime_error)");
                     ++reported;
                   }}};
  workers.run([] {
    wait_group group;
    group.go([] { throw std::runtime_error{"broken"}; });
    group.go([] {});
    EXPECT_THROW(group.wait(), std::runtime_error);
    EXPECT_EQ(reported, 1);
    const result<> waited = group.wait(context::background());
    ASSERT_FALSE(waited);
    EXPECT_TRUE(waited.error().is(errc::panic));
    EXPECT_EQ(waited.error().exception_type(), "std::runtime_error");
    EXPECT_EQ(group.count(), 0);
  });
  EXPECT_EQ(workers.stop(), 0U);
}

TEST_P(wait_group_test, a_member_is_destroyed_before_it_counts_as_done) {
  run([] {
    for (int round = 0; round < 100; ++round) {
      wait_group group;
      int alive = 1;
      struct end_of_life {
        int* alive;
        explicit end_of_life(int& a) : alive{&a} {}
        end_of_life(end_of_life&& other) noexcept : alive{std::exchange(other.alive, nullptr)} {}
        ~end_of_life() {
          if (alive != nullptr) --*alive;
        }
      };
      group.go([guard = end_of_life{alive}] {});
      group.wait();
      ASSERT_EQ(alive, 0);
    }
  });
}

TEST_P(wait_group_test, a_members_fiber_locals_are_gone_before_it_counts_as_done) {
  run([] {
    struct counts_end {
      ~counts_end() {
        yield();
        if (ends != nullptr) ++*ends;
      }
      std::atomic<int>* ends = nullptr;
    };
    std::atomic<int> ends{0};
    fiber_local<counts_end> value;
    wait_group group;
    for (int i = 0; i < 20; ++i) group.go([&] { value->ends = &ends; });
    group.wait();
    EXPECT_EQ(ends, 20);
  });
}

TEST(wait_group_death, destruction_under_a_waiter_is_fatal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto destroyed = [] {
    runtime workers{{.procs = 1}};
    workers.run([] {
      auto group = std::make_unique<wait_group>();
      group->add(1);
      go([g = group.get()] { g->wait(); });
      test::until_parked(1, wait_reason::wait_group);
      group.reset();
    });
  };
  EXPECT_DEATH(destroyed(), "destroyed while somebody waits");
}

EXEUNT_EXPLORED(wait_group_test);

}  // namespace
}  // namespace exeunt
