// SPDX-License-Identifier: Apache-2.0
// The memory model's edges between fibers and those who start, join, end and time them: what they
// order, and what they do not. ThreadSanitizer is the judge, so without it only the orderly shapes
// run, and they prove little.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <ranges>
#include <utility>
#include <vector>

#include <exeunt/chan/chan.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/group/errgroup.hpp>
#include <exeunt/group/first_of.hpp>
#include <exeunt/group/parallel_for_each.hpp>
#include <exeunt/group/spawn.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/wait_group.hpp>
#include <exeunt/time/sleep.hpp>
#include <exeunt/time/timer.hpp>

#include "support/explored.hpp"
#include "support/race.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;

class group_order : public test::explored {};
EXEUNT_EXPLORED(group_order);

// RD-26: eight fibers that lock and unlock one mutex at each tick of a ticker of their own.
TEST_P(group_order, rd_26_tickers_and_a_mutex) {
  run([] {
    const int ticks = is_simulated() ? 5 : 1000;
    mutex m;
    int count = 0;
    wait_group all;
    for (int f = 0; f < 8; ++f) {
      all.go([&] {
        const ticker t{1ns};
        for (int i = 0; i < ticks; ++i) {
          EXPECT_TRUE(t.channel().recv());
          const std::lock_guard guard{m};
          ++count;
        }
      });
    }
    all.wait();
    EXPECT_EQ(count, 8 * ticks);
  });
}

// Starts come before what they start, and ends before who joins, one after the other.
TEST_P(group_order, starts_and_joins) {
  run([] {
    int v = 1;
    const auto add = [&v](const context&) -> result<> {
      ++v;
      return {};
    };
    EXPECT_TRUE(spawn([&] { add(context::background()).value(); }).join());
    ++v;
    errgroup group;
    group.go(add);
    EXPECT_TRUE(group.wait());
    ++v;
    wait_group members;
    members.go([&] { ++v; });
    members.wait();
    ++v;
    EXPECT_TRUE(first_of(context::background(), add));
    ++v;
    EXPECT_TRUE(parallel_for_each(context::background(), std::views::iota(0, 1), 1,
                                  [&](const context& ctx, int) { return add(ctx); }));
    EXPECT_EQ(v, 10);
  });
}

#ifdef EXEUNT_TSAN

class group_race_death_test : public test::race_death_test {};

// A write that no compiler leaves out because nobody reads it.
void write(int& v) { *const_cast<volatile int*>(&v) = 1; }

// Relaxed: it orders nothing. Alone in its word, of which the tool remembers four accesses.
class alignas(8) mark {
 public:
  void set() { set_.store(true, std::memory_order_relaxed); }
  void await() const {
    while (!set_.load(std::memory_order_relaxed)) yield();
  }

 private:
  std::atomic<bool> set_{false};
};

TEST_F(group_race_death_test, the_end_of_a_fiber_orders_nothing) {
  EXEUNT_EXPECT_RACE("goes", "main", [] {
    int v = 0;
    go({.name = "goes"}, [&] { write(v); });
    while (runtime::current().stats().fibers_alive > 1) yield();
    write(v);
  });
}

TEST_F(group_race_death_test, sleeping_orders_nothing) {
  EXEUNT_EXPECT_RACE("sleeps", "main", [] {
    int v = 0;
    mark written;
    go({.name = "sleeps"}, [&] {
      write(v);
      written.set();
    });
    written.await();
    sleep(1ms);
    write(v);
  });
}

TEST_F(group_race_death_test, tasks_of_a_group_are_not_ordered) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    int v = 0;
    errgroup group;
    group.go({.name = "one"}, [&](context) { ++v; });
    group.go({.name = "two"}, [&](context) { ++v; });
    EXPECT_TRUE(group.wait());
  });
}

// At the limit the end of one task makes room for the next: that is no order.
TEST_F(group_race_death_test, tasks_at_the_limit_are_not_ordered) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    int v = 0;
    errgroup group{context::background(), {.limit = 1}};
    group.go({.name = "one"}, [&](context) { ++v; });
    group.go({.name = "two"}, [&](context) { ++v; });
    EXPECT_TRUE(group.wait());
  });
}

// Also one item after the other is not in order.
TEST_F(group_race_death_test, items_of_a_loop_are_not_ordered) {
  EXEUNT_EXPECT_RACE("item", "item", [] {
    int v = 0;
    EXPECT_TRUE(parallel_for_each({.name = "item"}, context::background(), std::views::iota(0, 4),
                                  1, [&](const context&, int) { ++v; }));
  });
}

TEST_F(group_race_death_test, a_running_groups_task_and_its_owner_are_not_ordered) {
  EXEUNT_EXPECT_RACE("task", "main", [] {
    int v = 0;
    mark written;
    errgroup group;
    group.go({.name = "task"}, [&](context) {
      write(v);
      written.set();
    });
    written.await();
    write(v);
    EXPECT_TRUE(group.wait());
  });
}

TEST_F(group_race_death_test, a_spawned_fiber_and_its_owner_are_not_ordered_before_the_join) {
  EXEUNT_EXPECT_RACE("spawned", "main", [] {
    int v = 0;
    mark written;
    fiber<void> spawned = spawn(fiber_options{.name = "spawned"}, [&] {
      write(v);
      written.set();
    });
    written.await();
    write(v);
    EXPECT_TRUE(spawned.join());
  });
}

// A look at a context that is live says nothing about who will end it.
TEST_F(group_race_death_test, a_live_context_orders_nothing) {
  EXEUNT_EXPECT_RACE("looks", "main", [] {
    int v = 0;
    mark looked;
    auto [ctx, cancel] = with_cancel(context::background());
    const context seen = ctx;
    const chan<void> over{1};
    go({.name = "looks"}, [&] {
      write(v);
      EXPECT_FALSE(seen.err().has_value());
      looked.set();
      over.send();
    });
    looked.await();
    cancel();
    write(v);
    EXPECT_TRUE(over.recv());
  });
}

// Who cancels second has ended nothing: what he did before is seen by nobody.
TEST_F(group_race_death_test, a_cancel_that_came_too_late_orders_nothing) {
  EXEUNT_EXPECT_RACE("late", "main", [] {
    int v = 0;
    mark canceled;
    auto [ctx, cancel] = with_cancel(context::background());
    const chan<void> over{1};
    cancel();
    go({.name = "late"}, [&, &stop = cancel] {
      write(v);
      stop();
      canceled.set();
      over.send();
    });
    canceled.await();
    EXPECT_TRUE(ctx.err().has_value());
    write(v);
    EXPECT_TRUE(over.recv());
  });
}

// A timer comes after what set it, and not after what happened meanwhile.
TEST_F(group_race_death_test, a_timer_orders_no_more_than_its_setting) {
  EXEUNT_EXPECT_RACE("writes", "main", [] {
    int v = 0;
    mark written;
    timer due{1us};
    go({.name = "writes"}, [&] {
      write(v);
      written.set();
    });
    written.await();
    EXPECT_TRUE(due.channel().recv());
    write(v);
  });
}

#endif

}  // namespace
}  // namespace exeunt
