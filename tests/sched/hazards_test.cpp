// SPDX-License-Identifier: Apache-2.0
// The hazards of DESIGN: what a fiber that wakes on another thread must find right.

#include <gtest/gtest.h>

#include <exception>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <exeunt/sched/os_thread.hpp>
#include <exeunt/sched/runtime.hpp>

#include "sched/current.hpp"
#include "sched/seam.hpp"
#include "support/semaphore.hpp"

namespace exeunt {
namespace {

using test::semaphore;

// A runtime that moves a fiber to the next worker at each wake-up, so that every suspension is a
// migration.
class hazards : public ::testing::Test {
 protected:
  template <typename F>
  void run(F&& body) {
    detail::seam parts{.migrate_always = true};
    runtime workers{{.procs = 3, .seam = &parts}};
    workers.run(body);
    EXPECT_EQ(workers.stop(), 0U);
  }

  // Suspends until run by another thread than before.
  static void migrate() {
    const auto before = thread_now();
    yield();
    EXPECT_NE(thread_now(), before);
  }

  // Not inlined: the compiler may keep a thread's identity across a call that it cannot see into.
  [[gnu::noinline]] static std::thread::id thread_now() {
    asm volatile("");
    return std::this_thread::get_id();
  }
};

TEST_F(hazards, each_yield_migrates_when_told_so) {
  run([] {
    for (int i = 0; i < 100; ++i) migrate();
  });
}

TEST_F(hazards, the_runtimes_own_thread_locals_are_read_anew) {
  run([] {
    for (int i = 0; i < 100; ++i) {
      const auto* const before = sched::this_worker();
      const auto* const state_before = &sched::this_thread();
      const auto* const turn_before = &sched::this_turn();
      yield();
      EXPECT_NE(sched::this_worker(), before);
      EXPECT_NE(&sched::this_thread(), state_before);
      EXPECT_NE(&sched::this_turn(), turn_before);
    }
  });
}

TEST_F(hazards, suspending_inside_a_catch_block_keeps_the_exception) {
  run([] {
    for (int i = 0; i < 20; ++i) {
      try {
        throw std::runtime_error{"first"};
      } catch (const std::exception& e) {
        migrate();
        EXPECT_STREQ(e.what(), "first");
        try {
          throw std::logic_error{"second"};
        } catch (const std::exception& inner) {
          migrate();
          EXPECT_STREQ(inner.what(), "second");
        }
        const std::exception_ptr current = std::current_exception();
        ASSERT_NE(current, nullptr);
        EXPECT_THROW(std::rethrow_exception(current), std::runtime_error);
      }
      EXPECT_EQ(std::current_exception(), nullptr);
    }
  });
}

TEST_F(hazards, an_exception_is_rethrown_on_another_thread) {
  run([] {
    std::string seen;
    try {
      try {
        throw std::runtime_error{"travels"};
      } catch (...) {
        migrate();
        throw;
      }
    } catch (const std::runtime_error& e) {
      seen = e.what();
    }
    EXPECT_EQ(seen, "travels");
  });
}

TEST_F(hazards, suspending_during_unwinding_keeps_the_count_of_exceptions_in_flight) {
  struct parks_in_destructor {
    ~parks_in_destructor() {
      EXPECT_EQ(std::uncaught_exceptions(), 1);
      migrate();
      EXPECT_EQ(std::uncaught_exceptions(), 1);
    }
  };
  run([] {
    for (int i = 0; i < 20; ++i) {
      try {
        const parks_in_destructor guard;
        throw std::runtime_error{"in flight"};
      } catch (const std::runtime_error& e) {
        EXPECT_STREQ(e.what(), "in flight");
      }
      EXPECT_EQ(std::uncaught_exceptions(), 0);
    }
  });
}

TEST_F(hazards, fibers_in_catch_blocks_at_once_do_not_mix_their_exceptions) {
  run([] {
    constexpr int count = 50;
    semaphore done;
    for (int i = 0; i < count; ++i) {
      go([&, i] {
        try {
          throw std::runtime_error{std::to_string(i)};
        } catch (const std::exception& e) {
          for (int k = 0; k < 10; ++k) yield();
          EXPECT_EQ(e.what(), std::to_string(i));
          EXPECT_NE(std::current_exception(), nullptr);
        }
        EXPECT_EQ(std::current_exception(), nullptr);
        done.post();
      });
    }
    for (int i = 0; i < count; ++i) done.wait();
  });
}

// SC-21: exceptions are caught in turn by the main fiber, by two with threads of their own, and by
// the main fiber again.
TEST_F(hazards, exceptions_are_caught_wherever_they_are_thrown_in_turn) {
  run([] {
    std::vector<std::string> caught;
    const auto fail = [&caught](const char* who) {
      try {
        throw std::runtime_error{who};
      } catch (const std::runtime_error& thrown) {
        caught.emplace_back(thrown.what());
      }
    };
    semaphore next;
    fail("main");
    for (const char* const who : {"first", "second"}) {
      go([&, who] {
        const lock_os_thread here;
        fail(who);
        next.post();
      });
      next.wait();
    }
    fail("main again");
    EXPECT_EQ(caught, (std::vector<std::string>{"main", "first", "second", "main again"}));
  });
}

[[gnu::noinline]] int overflow(int depth) {
  volatile char frame[1024];
  frame[0] = static_cast<char>(depth);
  return depth < 0 ? frame[0] : overflow(depth + 1) + frame[0];
}

TEST(hazards_death, a_stack_overflow_names_the_fiber_and_the_line_that_started_it) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(exeunt::run([] {
                 semaphore never;
                 go({.name = "deep"}, [] { overflow(0); });
                 never.wait();
               }),
               "stack overflow in fiber [0-9]+ \"deep\", started at .*hazards_test.cpp:[0-9]+");
}

}  // namespace
}  // namespace exeunt
