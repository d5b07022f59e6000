// SPDX-License-Identifier: Apache-2.0
// Exceptions on fibers: thrown, kept over parks, taken to other threads.

#include "arch/eh_state.hpp"

#include <gtest/gtest.h>

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include "hand_fiber.hpp"

namespace exeunt::arch {
namespace {

TEST(arch_eh_state, exceptions_are_thrown_and_caught_on_a_fiber) {
  stack_pool pool;
  std::string caught;
  hand_fiber fiber(pool, [&](hand_fiber&) {
    try {
      throw std::runtime_error("on a fiber");
    } catch (const std::exception& e) {
      caught = e.what();
    }
  });
  fiber.resume();
  EXPECT_EQ(caught, "on a fiber");
}

std::string current_message() {
  try {
    throw;
  } catch (const std::exception& e) {
    return e.what();
  }
}

// Goal: two fibers stand in a catch block each, and leave it in the wrong order for one thread.
TEST(arch_eh_state, parking_inside_catch_keeps_whose_exception_is_handled) {
  stack_pool pool;
  const auto body = [](const char* text, std::string& seen) {
    return [text, &seen](hand_fiber& self) {
      try {
        throw std::runtime_error(text);
      } catch (...) {
        self.park();
        seen = current_message();
      }
      EXPECT_EQ(std::current_exception(), nullptr);
    };
  };
  std::string seen_one;
  std::string seen_two;
  hand_fiber one(pool, body("one", seen_one));
  hand_fiber two(pool, body("two", seen_two));
  one.resume();
  two.resume();
  EXPECT_EQ(std::current_exception(), nullptr);
  one.resume();
  two.resume();
  EXPECT_EQ(seen_one, "one");
  EXPECT_EQ(seen_two, "two");
}

TEST(arch_eh_state, a_catch_block_goes_on_and_rethrows_on_another_thread) {
  stack_pool pool;
  std::string outer;
  std::string inner;
  hand_fiber fiber(pool, [&](hand_fiber& self) {
    try {
      try {
        throw std::runtime_error("far from home");
      } catch (...) {
        self.park();
        inner = current_message();
        throw;
      }
    } catch (const std::exception& e) {
      self.park();
      outer = e.what();
    }
  });
  fiber.resume();
  EXPECT_EQ(std::current_exception(), nullptr);
  fiber.resume_elsewhere();
  EXPECT_EQ(inner, "far from home");
  fiber.resume_elsewhere();
  EXPECT_TRUE(fiber.done());
  EXPECT_EQ(outer, "far from home");
}

struct parks_in_destructor {
  hand_fiber& fiber;
  int& before;
  int& after;

  ~parks_in_destructor() {
    before = std::uncaught_exceptions();
    fiber.park();
    after = std::uncaught_exceptions();
    try {
      throw 5;  // one of its own, caught before the destructor ends
    } catch (int) {
    }
  }
};

// Goal: unwinding that is under way goes on on another thread, and is counted on neither thread.
TEST(arch_eh_state, parking_during_unwinding_moves_the_count_along) {
  stack_pool pool;
  int before = -1;
  int after = -1;
  int at_end = -1;
  bool caught = false;
  hand_fiber fiber(pool, [&](hand_fiber& self) {
    try {
      const parks_in_destructor guard{self, before, after};
      throw std::logic_error("through a destructor");
    } catch (const std::logic_error&) {
      caught = true;
    }
    at_end = std::uncaught_exceptions();
  });
  fiber.resume();
  EXPECT_EQ(before, 1);
  EXPECT_EQ(std::uncaught_exceptions(), 0);
  fiber.resume_elsewhere();
  EXPECT_TRUE(fiber.done());
  EXPECT_TRUE(caught);
  EXPECT_EQ(after, 1);
  EXPECT_EQ(at_end, 0);
  EXPECT_EQ(std::uncaught_exceptions(), 0);
}

// Goal: resuming from within a catch block of the host does not show the fiber the host's
// exception.
TEST(arch_eh_state, a_fiber_does_not_see_its_hosts_exception) {
  stack_pool pool;
  bool fiber_saw = true;
  hand_fiber fiber(pool, [&](hand_fiber&) { fiber_saw = std::current_exception() != nullptr; });
  try {
    throw std::runtime_error("the host's");
  } catch (...) {
    fiber.resume();
    EXPECT_EQ(current_message(), "the host's");
  }
  EXPECT_FALSE(fiber_saw);
}

// Goal: within one function, each call after a migration gives the new thread's address.
// Method: a loop without anything that the compiler could not see through but the accessor.
TEST(arch_eh_state, globals_are_those_of_the_thread_after_each_migration) {
  stack_pool pool;
  constexpr int rounds = 8;
  void* on_fiber[rounds];
  void* on_thread[rounds];
  hand_fiber fiber(pool, [&](hand_fiber& self) {
    for (int i = 0; i < rounds; ++i) {
      on_fiber[i] = eh_globals();
      self.park();
    }
  });
  for (int i = 0; i < rounds; ++i) {
    if (i % 2 == 0) {
      on_thread[i] = eh_globals();
      fiber.resume();
    } else {
      std::thread other([&] {
        on_thread[i] = eh_globals();
        fiber.resume();
      });
      other.join();
    }
  }
  fiber.resume();
  for (int i = 0; i < rounds; ++i) EXPECT_EQ(on_fiber[i], on_thread[i]) << "round " << i;
  EXPECT_NE(on_fiber[0], on_fiber[1]);
  EXPECT_EQ(on_fiber[0], on_fiber[2]);
}

}  // namespace
}  // namespace exeunt::arch
