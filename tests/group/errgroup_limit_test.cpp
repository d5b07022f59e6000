// SPDX-License-Identifier: Apache-2.0
// How many tasks of a group run at a time. All else of groups is in errgroup_test.cpp.

#include <exeunt/group/errgroup.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <utility>

#include <exeunt/sched/go.hpp>
#include <exeunt/time/sleep.hpp>

#include "group/tasks.hpp"
#include "support/explored.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using test::returning;
using test::until_ended;

class errgroup_limit_test : public test::explored {};
EXEUNT_EXPLORED(errgroup_limit_test);

const error e1{errc::malformed, "e1"};

// EG-04.
TEST_P(errgroup_limit_test, limit_holds) {
  run([] {
    errgroup group{context::background(), {.limit = 10}};
    std::atomic<int> active{0};
    std::atomic<int> ended{0};
    constexpr int tasks = 1025;
    for (int i = 0; i < tasks; ++i) {
      group.go([&](context) {
        EXPECT_LE(++active, 10);
        yield();
        --active;
        ++ended;
      });
    }
    EXPECT_TRUE(group.wait().has_value());
    EXPECT_EQ(ended, tasks);
  });
}

// EG-04: nor are there fewer than it allows. No task ends before all that it allows are there.
TEST_P(errgroup_limit_test, limit_is_used) {
  run([] {
    constexpr int limit = 5;
    errgroup group{context::background(), {.limit = limit}};
    std::atomic<int> there{0};
    for (int i = 0; i < limit; ++i) {
      group.go([&there](context) {
        ++there;
        while (there < limit) yield();
      });
    }
    EXPECT_TRUE(group.wait().has_value());
    EXPECT_EQ(there, limit);
  });
}

// EG-07: four tasks of a second take one if there is no limit, two with a limit of two.
EXEUNT_EXPLORE_TEST(errgroup, limit_shows_in_the_time_it_takes) {
  for (const auto& [limit, takes] : {std::pair{-1, 1s}, {2, 2s}, {1, 4s}}) {
    const auto start = clock::now();
    errgroup group{context::background(), {.limit = limit}};
    for (int i = 0; i < 4; ++i) {
      group.go([](context) { sleep(1s); });
    }
    EXPECT_TRUE(group.wait().has_value());
    EXPECT_EQ(clock::now() - start, takes);
  }
}

// EG-07's second half: what is started late runs, with an ended context.
TEST_P(errgroup_limit_test, waiting_tasks_run_with_an_ended_context) {
  run([] {
    errgroup group{context::background(), {.limit = 2}};
    std::atomic<int> late{0};
    group.go(returning(e1));
    group.go(until_ended);
    for (int i = 0; i < 5; ++i) {
      group.go([&late](context ctx) {
        ctx.wait();
        ++late;
      });
    }
    EXPECT_EQ(group.wait().error(), e1);
    EXPECT_EQ(late, 5);
  });
}

// EG-09: unlike the queueing group, go() waits for a slot; nothing depends on wait().
TEST_P(errgroup_limit_test, surplus_runs_without_a_wait) {
  run([] {
    std::atomic<int> ended{0};
    errgroup group{context::background(), {.limit = 1}};
    for (int i = 0; i < 10; ++i) {
      group.go([&ended](context) { ++ended; });
    }
    while (ended < 10) yield();
  });
}

// EG-09: starting from several fibers at once is safe at the limit.
TEST_P(errgroup_limit_test, many_start_at_the_limit) {
  run([] {
    errgroup group{context::background(), {.limit = 3}};
    std::atomic<int> active{0};
    std::atomic<int> ended{0};
    errgroup starters;
    for (int s = 0; s < 8; ++s) {
      starters.go([&](context) {
        for (int i = 0; i < 50; ++i) {
          group.go([&](context) {
            EXPECT_LE(++active, 3);
            yield();
            --active;
            ++ended;
          });
        }
      });
    }
    EXPECT_TRUE(starters.wait().has_value());
    EXPECT_TRUE(group.wait().has_value());
    EXPECT_EQ(ended, 400);
  });
}

TEST_P(errgroup_limit_test, try_go_answers_at_the_limit) {
  run([] {
    errgroup group{context::background(), {.limit = 1}};
    std::atomic<bool> go_on{false};
    EXPECT_TRUE(group.try_go([&go_on](context) {
      while (!go_on) yield();
    }));
    EXPECT_FALSE(group.try_go([](context) { ADD_FAILURE(); }));
    EXPECT_FALSE(group.try_go({.name = "b"}, [](context) { ADD_FAILURE(); }));
    go_on = true;
    EXPECT_TRUE(group.wait().has_value());
  });
}

TEST_P(errgroup_limit_test, limit_of_zero_starts_nothing) {
  run([] {
    errgroup group{context::background(), {.limit = 0}};
    EXPECT_FALSE(group.try_go([](context) { ADD_FAILURE(); }));
    EXPECT_THROW(group.go([](context) { ADD_FAILURE(); }), panic_error);
    group.set_limit(-1);
    std::atomic<int> ran{0};
    for (int i = 0; i < 20; ++i) group.go([&ran](context) { ++ran; });
    EXPECT_TRUE(group.wait().has_value());
    EXPECT_EQ(ran, 20);
  });
}

TEST_P(errgroup_limit_test, limit_does_not_change_while_tasks_run) {
  run([] {
    errgroup group{context::background(), {.limit = 2}};
    group.go(until_ended);
    EXPECT_THROW(group.set_limit(3), panic_error);
    group.cancel();
    EXPECT_TRUE(group.wait().has_value());
  });
}

}  // namespace
}  // namespace exeunt
