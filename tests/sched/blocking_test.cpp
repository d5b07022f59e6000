// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <thread>

#include <exeunt/sched/blocking.hpp>
#include <exeunt/sched/runtime.hpp>

#include "support/on_workers.hpp"

namespace exeunt {
namespace {

TEST(blocking, runs_on_another_thread_and_returns_the_value) {
  test::run_on(1, [] {
    const auto here = std::this_thread::get_id();
    const auto there = blocking([] { return std::this_thread::get_id(); });
    EXPECT_NE(here, there);
    EXPECT_EQ(*blocking([] { return std::make_unique<int>(5); }), 5);
  });
}

TEST(blocking, passes_exceptions_on) {
  test::run_on(1, [] {
    EXPECT_THROW(blocking([] { throw std::runtime_error{"from the pool"}; }), std::runtime_error);
  });
}

TEST(blocking, lets_the_worker_go_on) {
  test::run_on(1, [] {
    std::atomic<bool> other_ran{false};
    go([&] { other_ran = true; });
    blocking([&] {
      while (!other_ran) std::this_thread::yield();
    });
    EXPECT_TRUE(other_ran);
  });
}

TEST(blocking, calls_directly_on_a_plain_thread) {
  EXPECT_EQ(blocking([] { return std::this_thread::get_id(); }), std::this_thread::get_id());
}

}  // namespace
}  // namespace exeunt
