// SPDX-License-Identifier: Apache-2.0
// The sanitizers know which fiber runs: no false report from what fibers do, and true ones for what
// they do wrong. Without sanitizers only the first half has a meaning.

#include "arch/sanitizer.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "hand_fiber.hpp"

namespace exeunt::arch {
namespace {

[[gnu::noinline]] void fill(char* buffer, std::size_t n) {
  std::memset(buffer, 1, n);
  asm volatile("" : : "r"(buffer) : "memory");
}

// Goal: poisoned frames of one fiber, left by an exception and by a death, are no report for the
// next one on the same stack.
TEST(arch_sanitizer, a_recycled_stack_is_clean) {
  stack_pool pool;
  void* first_base = nullptr;
  for (int round = 0; round < 3; ++round) {
    hand_fiber fiber(pool, [round](hand_fiber& self) {
      char buffer[2000];
      fill(buffer, sizeof buffer - static_cast<std::size_t>(round) * 100);
      try {
        char inner[300];
        fill(inner, sizeof inner);
        throw std::runtime_error("through instrumented frames");
      } catch (const std::exception&) {
        self.park();
      }
    });
    if (round == 0) first_base = fiber.its_stack().base;
    EXPECT_EQ(fiber.its_stack().base, first_base);
    fiber.resume();
    fiber.resume_elsewhere();
    EXPECT_TRUE(fiber.done());
  }
}

#if EXEUNT_SAN_ADDRESS
TEST(arch_sanitizer_death_test, address_sanitizer_sees_an_overrun_on_a_fiber) {
  EXPECT_DEATH(
      {
        stack_pool pool;
        hand_fiber fiber(pool, [](hand_fiber&) {
          char buffer[64];
          volatile std::size_t n = sizeof buffer + 1;
          fill(buffer, n);
        });
        fiber.resume();
      },
      "stack-buffer-overflow");
}
#endif

#if EXEUNT_SAN_THREAD
int shared_by_fibers = 0;

// Goal: two fibers run in turn on one thread are not ordered by that; a race between them shows.
TEST(arch_sanitizer_death_test, thread_sanitizer_sees_a_race_between_fibers_of_one_thread) {
  EXPECT_EXIT(
      {
        stack_pool pool;
        const auto body = [](hand_fiber&) { ++shared_by_fibers; };
        hand_fiber one(pool, body);
        hand_fiber two(pool, body);
        one.resume(false);
        two.resume(false);
        std::exit(0);  // which the tool turns into its own status
      },
      testing::ExitedWithCode(66), "data race");
}
#endif

}  // namespace
}  // namespace exeunt::arch
