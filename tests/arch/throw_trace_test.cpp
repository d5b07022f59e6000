// SPDX-License-Identifier: Apache-2.0
// The stack of a throw that escapes a boundary, and its printed form.

#include "arch/throw_trace.hpp"

#include <gtest/gtest.h>

#include <pthread.h>

#include <cstdlib>
#include <exception>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "hand_fiber.hpp"

namespace exeunt::arch {
namespace {

[[gnu::noinline]] void throws_deep(int value) {
  if (value >= 0) throw std::runtime_error("deep");
  asm volatile("");
}
[[gnu::noinline]] void calls_throws_deep(int value) {
  throws_deep(value);
  asm volatile("");
}
[[gnu::noinline]] void outermost(void* arg) {
  calls_throws_deep(*static_cast<int*>(arg));
  asm volatile("");
}
[[gnu::noinline]] bool boundary(void (*fn)(void*), void* arg, throw_trace& trace) {
  try {
    call_tracing(fn, arg, &trace);
    return false;
  } catch (...) {
    return true;
  }
}

// The printed lines of a trace. By name, as a compiler may put a throw in a cold part of its own.
std::vector<std::string> lines_of(const throw_trace& trace) {
  std::istringstream text(format_trace(trace.pcs(), trace.depth()));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

bool names(const std::string& line, const std::string& function) {
  return line.find("::" + function + "(") != std::string::npos;
}

void expect_three_frames_deep(const throw_trace& trace) {
  const auto lines = lines_of(trace);
  ASSERT_EQ(lines.size(), 3u) << "the trace goes from the throw to the boundary:\n"
                              << format_trace(trace.pcs(), trace.depth());
  EXPECT_TRUE(names(lines[0], "throws_deep")) << lines[0];
  EXPECT_TRUE(names(lines[1], "calls_throws_deep")) << lines[1];
  EXPECT_TRUE(names(lines[2], "outermost")) << lines[2];
}

TEST(arch_throw_trace, holds_the_frames_between_throw_and_boundary) {
  throw_trace trace;
  int value = 1;
  ASSERT_TRUE(boundary(outermost, &value, trace));
  expect_three_frames_deep(trace);
}

TEST(arch_throw_trace, works_on_a_fiber) {
  stack_pool pool;
  throw_trace trace;
  bool caught = false;
  hand_fiber fiber(pool, [&](hand_fiber&) {
    int value = 1;
    caught = boundary(outermost, &value, trace);
  });
  fiber.resume();
  ASSERT_TRUE(caught);
  expect_three_frames_deep(trace);
}

TEST(arch_throw_trace, stays_empty_without_an_exception) {
  throw_trace trace;
  int value = -1;
  EXPECT_FALSE(boundary(outermost, &value, trace));
  EXPECT_EQ(trace.depth(), 0);
}

TEST(arch_throw_trace, ignores_what_is_caught_inside) {
  throw_trace trace;
  const auto catches = [](void*) {
    try {
      throws_deep(1);
    } catch (const std::exception&) {
    }
  };
  EXPECT_FALSE(boundary(catches, nullptr, trace));
  EXPECT_EQ(trace.depth(), 0);
}

[[gnu::noinline]] void throws_otherwise(void*) { throw 7; }

TEST(arch_throw_trace, a_newer_exception_overwrites) {
  throw_trace trace;
  int value = 1;
  ASSERT_TRUE(boundary(outermost, &value, trace));
  ASSERT_TRUE(boundary(throws_otherwise, nullptr, trace));
  const auto lines = lines_of(trace);
  ASSERT_EQ(lines.size(), 1u) << format_trace(trace.pcs(), trace.depth());
  EXPECT_TRUE(names(lines[0], "throws_otherwise")) << lines[0];
}

TEST(arch_throw_trace, inner_and_outer_boundary_both_record) {
  throw_trace inner;
  throw_trace outer;
  const auto nested = [](void* arg) {
    int value = 1;
    call_tracing(outermost, &value, static_cast<throw_trace*>(arg));
  };
  ASSERT_TRUE(boundary(nested, &inner, outer));
  expect_three_frames_deep(inner);
  EXPECT_GT(outer.depth(), inner.depth());
}

[[gnu::noinline]] void recurse_and_throw(int depth) {
  if (depth == 0) throw 1;
  recurse_and_throw(depth - 1);
  asm volatile("");
}

TEST(arch_throw_trace, keeps_the_innermost_frames_of_a_deep_throw) {
  throw_trace trace;
  ASSERT_TRUE(boundary([](void*) { recurse_and_throw(200); }, nullptr, trace));
  EXPECT_EQ(trace.depth(), throw_trace::max);
  const auto lines = lines_of(trace);
  ASSERT_FALSE(lines.empty());
  EXPECT_TRUE(names(lines.front(), "recurse_and_throw")) << lines.front();
  EXPECT_TRUE(names(lines.back(), "recurse_and_throw")) << lines.back();
}

// Goal: a forced unwind passes through the boundary, runs destructors and records nothing.
TEST(arch_throw_trace, forced_unwind_passes) {
  struct shared {
    throw_trace trace;
    bool cleaned = false;
    bool passed_by_rethrow = false;
  } state;
  pthread_t thread;
  const auto body = [](void* arg) -> void* {
    auto& s = *static_cast<shared*>(arg);
    try {
      call_tracing(
          [](void* inner) {
            struct cleanup {
              shared& s;
              ~cleanup() { s.cleaned = true; }
            } guard{*static_cast<shared*>(inner)};
            ::pthread_cancel(::pthread_self());
            ::pthread_testcancel();
          },
          arg, &s.trace);
    } catch (...) {
      s.passed_by_rethrow = true;
      throw;
    }
    return nullptr;
  };
  ASSERT_EQ(::pthread_create(&thread, nullptr, body, &state), 0);
  void* result = nullptr;
  ASSERT_EQ(::pthread_join(thread, &result), 0);
  EXPECT_EQ(result, PTHREAD_CANCELED);
  EXPECT_TRUE(state.cleaned);
  EXPECT_TRUE(state.passed_by_rethrow);
  EXPECT_EQ(state.trace.depth(), 0);
}

TEST(arch_throw_trace, text_names_functions_and_binary_innermost_first) {
  throw_trace trace;
  int value = 1;
  ASSERT_TRUE(boundary(outermost, &value, trace));
  const auto lines = lines_of(trace);
  ASSERT_FALSE(lines.empty());
  EXPECT_TRUE(std::regex_match(
      lines[0],
      std::regex("  #0 .*::throws_deep\\(int\\).*\\+0x[0-9a-f]+ \\([^/()]+\\+0x[0-9a-f]+\\)")))
      << lines[0];
  const std::string text = format_trace(trace.pcs(), trace.depth());
  EXPECT_EQ(text.find("__cxa_throw"), std::string::npos) << text;
  EXPECT_EQ(text.find("_Unwind"), std::string::npos) << text;
  EXPECT_EQ(text.back(), '\n');
}

TEST(arch_throw_trace, text_names_functions_of_libraries) {
  throw_trace trace;
  const auto sorts = [](void*) {
    int numbers[] = {3, 1, 2};
    std::qsort(numbers, 3, sizeof(int), [](const void*, const void*) -> int { throw 1; });
  };
  ASSERT_TRUE(boundary(sorts, nullptr, trace));
  const std::string text = format_trace(trace.pcs(), trace.depth());
  EXPECT_NE(text.find("qsort"), std::string::npos) << text;
}

TEST(arch_throw_trace, text_of_an_unknown_address_is_the_address) {
  void* const nowhere[] = {reinterpret_cast<void*>(0x10)};
  EXPECT_EQ(format_trace(nowhere, 1), "  #0 0x10 (?+0x10)\n");
  EXPECT_EQ(format_trace(nullptr, 0), "");
}

namespace local {
template <typename T>
struct thing {};
}  // namespace local

TEST(arch_throw_trace, type_names_are_those_of_the_source) {
  EXPECT_EQ(demangled_type_name(typeid(int)), "int");
  EXPECT_EQ(demangled_type_name(typeid(std::runtime_error)), "std::runtime_error");
  EXPECT_NE(demangled_type_name(typeid(local::thing<int>)).find("local::thing<int>"),
            std::string::npos);
}

}  // namespace
}  // namespace exeunt::arch
