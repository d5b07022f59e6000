// SPDX-License-Identifier: Apache-2.0
// The sanitizers know which fiber runs: no false report from what fibers do, and true ones for what
// they do wrong. Without sanitizers only the first half has a meaning.

#include "arch/sanitizer.hpp"

#include <gtest/gtest.h>

#include <unistd.h>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

#include "hand_fiber.hpp"
#include "support/child.hpp"

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

int shared_by_others = 0;

void race_between_two_fibers() {
  stack_pool pool;
  const auto body = [](hand_fiber&) { ++shared_by_fibers; };
  hand_fiber one(pool, body);
  hand_fiber two(pool, body);
  one.resume(false);
  two.resume(false);
}

void another_race() {
  stack_pool pool;
  const auto body = [](hand_fiber&) { ++shared_by_others; };
  hand_fiber one(pool, body);
  hand_fiber two(pool, body);
  one.resume(false);
  two.resume(false);
}

// Goal: two fibers run in turn on one thread are not ordered by that; a race between them shows.
TEST(arch_sanitizer_death_test, thread_sanitizer_sees_a_race_between_fibers_of_one_thread) {
  EXPECT_EXIT(
      {
        race_between_two_fibers();
        std::exit(0);  // which the tool turns into its own status
      },
      testing::ExitedWithCode(66), "data race");
}

// What a program with two races says and how it ends, with these options.
struct outcome {
  int status;
  std::string output;
};
outcome run_with(const char* options) {
  if (test::child::body() == "races") {
    race_between_two_fibers();
    another_race();
    std::exit(0);
  }
  ::setenv("EXEUNT_RACE", options, 1);
  test::child racy{"races"};
  ::unsetenv("EXEUNT_RACE");
  const int status = racy.finish();
  return {status, racy.output()};
}
std::size_t races_in(std::string_view report) {
  constexpr std::string_view heading = "WARNING: ThreadSanitizer: data race";
  std::size_t count = 0;
  for (std::size_t at = report.find(heading); at != std::string_view::npos;
       at = report.find(heading, at + 1)) {
    ++count;
  }
  return count;
}

TEST(race_options, none_are_needed) {
  const outcome seen = run_with("");
  EXPECT_EQ(seen.status, 66);
  EXPECT_GE(races_in(seen.output), 2U) << seen.output;
}

TEST(race_options, set_the_exit_status) {
  EXPECT_EQ(run_with("exitcode=13").status, 13);
  EXPECT_EQ(run_with("exitcode=0").status, 0);
}

TEST(race_options, end_the_program_at_the_first_race) {
  const outcome seen = run_with("halt_on_error=1 exitcode=14");
  EXPECT_EQ(seen.status, 14);
  EXPECT_EQ(races_in(seen.output), 1U) << seen.output;
}

TEST(race_options, send_the_reports_to_a_file) {
  const std::filesystem::path directory =
      std::filesystem::path{testing::TempDir()} / ("races." + std::to_string(::getpid()));
  std::filesystem::create_directory(directory);
  const outcome seen = run_with(("log_path=" + (directory / "log").string()).c_str());
  EXPECT_EQ(seen.status, 66);
  EXPECT_EQ(races_in(seen.output), 0U) << seen.output;
  std::size_t races = 0;
  for (const auto& file : std::filesystem::directory_iterator{directory}) {
    EXPECT_TRUE(file.path().filename().string().starts_with("log."));
    std::stringstream text;
    text << std::ifstream{file.path()}.rdbuf();
    races += races_in(text.str());
  }
  EXPECT_GE(races, 2U);
  std::filesystem::remove_all(directory);
}

TEST(race_options, shorten_the_names_of_files) {
  const std::string before = run_with("").output;
  const std::size_t end = before.find("sanitizer_test.cpp:");
  if (end == std::string::npos) GTEST_SKIP() << "no symbolizer";
  const std::size_t begin = before.rfind(' ', end) + 1;
  const std::string prefix = before.substr(begin, end - begin);
  const std::string after = run_with(("strip_path_prefix=" + prefix).c_str()).output;
  EXPECT_NE(after.find(" sanitizer_test.cpp:"), std::string::npos) << after;
}

TEST(race_options, of_the_tools_own_variable_have_the_last_word) {
  const char* const given = std::getenv("TSAN_OPTIONS");
  const std::string kept = given == nullptr ? "" : given;
  ::setenv("TSAN_OPTIONS", (kept + " exitcode=15").c_str(), 1);
  EXPECT_EQ(run_with("exitcode=13").status, 15);
  ::setenv("TSAN_OPTIONS", kept.c_str(), 1);
}
#endif

}  // namespace
}  // namespace exeunt::arch
