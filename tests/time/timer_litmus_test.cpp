// SPDX-License-Identifier: Apache-2.0
// Message passing by a timer: who receives its value, or is called, finds what was written before
// it was set. A timer promises no more, so of the other small programs there is none.

#include <exeunt/time/timer.hpp>

#include <chrono>

#include <gtest/gtest.h>

#include <exeunt/sched/go.hpp>

#include "support/litmus.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;

void call_starts() {
  test::start_only([](auto f) { return after_func(0s, f); });
}
EXEUNT_START_LITMUS_TEST(timer_litmus, call_starts, call_starts)

void call_starts_after_reset() {
  test::start_only([](auto f) {
    timer due = after_func(1h, f);
    due.reset(0s);
    return due;
  });
}
EXEUNT_START_LITMUS_TEST(timer_litmus, call_starts_after_reset, call_starts_after_reset)

void value_is_received() {
  test::start_only([](auto f) {
    timer due{1h};
    go([f, ticks = due.channel()] {
      EXPECT_TRUE(ticks.recv());
      f();
    });
    due.reset(0s);
    return due;
  });
}
EXEUNT_START_LITMUS_TEST(timer_litmus, value_is_received, value_is_received)

}  // namespace
}  // namespace exeunt
