// SPDX-License-Identifier: Apache-2.0

#include <exeunt/base/clock.hpp>

#include <chrono>
#include <type_traits>

#include <gtest/gtest.h>

namespace exeunt {
namespace {

using namespace std::chrono_literals;

static_assert(std::chrono::is_clock_v<clock>);
static_assert(clock::is_steady);

// What a simulation puts in the clock's place.
class hand_set_clock final : public detail::clock_source {
 public:
  clock::time_point now() noexcept override { return time; }
  clock::time_point time{};
};

hand_set_clock virtual_clock;

class base_clock : public ::testing::Test {
 protected:
  static void use_virtual_clock() {
    detail::set_find_clock([]() noexcept -> detail::clock_source* { return &virtual_clock; });
  }
  void TearDown() override { detail::set_find_clock(nullptr); }
};

TEST_F(base_clock, never_goes_back) {
  auto before = clock::now();
  EXPECT_GT(before.time_since_epoch(), 0ns);
  for (int i = 0; i < 1000; ++i) {
    const auto after = clock::now();
    EXPECT_GE(after, before);
    before = after;
  }
}

TEST_F(base_clock, shows_the_time_of_the_source_that_was_found) {
  use_virtual_clock();
  virtual_clock.time = clock::time_point{5s};
  EXPECT_EQ(clock::now(), clock::time_point{5s});
}

TEST_F(base_clock, falls_back_to_the_monotonic_clock_where_no_source_is) {
  virtual_clock.time = clock::time_point{1ns};
  detail::set_find_clock([]() noexcept -> detail::clock_source* { return nullptr; });
  EXPECT_GT(clock::now(), clock::time_point{1ns});
}

TEST_F(base_clock, deadline_after_adds_to_now) {
  use_virtual_clock();
  virtual_clock.time = clock::time_point{5s};
  EXPECT_EQ(deadline_after(2s), clock::time_point{7s});
  EXPECT_EQ(deadline_after(-2s), clock::time_point{3s});
  EXPECT_EQ(deadline_after(0s), clock::time_point{5s});
}

TEST_F(base_clock, deadline_after_too_long_a_time_is_no_deadline) {
  use_virtual_clock();
  virtual_clock.time = clock::time_point{5s};
  EXPECT_EQ(deadline_after(clock::duration::max()), no_deadline);
  EXPECT_EQ(deadline_after(clock::duration::max() - 5s), no_deadline);
  EXPECT_EQ(deadline_after(clock::duration::max() - 5s - 1ns), no_deadline - 1ns);
}

}  // namespace
}  // namespace exeunt
