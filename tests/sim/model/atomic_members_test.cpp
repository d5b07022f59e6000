// SPDX-License-Identifier: Apache-2.0
// Each access to an atomic of core_model is a step: what has a member lets another fiber in before
// it, and what std::atomic has beside them is not there.

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <type_traits>

#include <exeunt/base/atomic.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sim/explore.hpp>

namespace exeunt {
namespace {

using detail::atomic;

template <typename A>
concept has_operators =
    requires(A& a) { ++a; } || requires(A& a) { a++; } || requires(A& a) { --a; } ||
    requires(A& a) { a--; } || requires(A& a) { a += 1; } || requires(A& a) { a -= 1; } ||
    requires(A& a) { a |= 1; } || requires(A& a) { a &= 1; } || requires(A& a) { a ^= 1; } ||
    requires(A& a) { a = 1; };
template <typename A>
concept has_more = requires(A& a) { a.fetch_xor(1); } || requires(A& a) { a.wait(1); } ||
                   requires(A& a) { a.notify_all(); };

static_assert(has_operators<std::atomic<int>> && has_more<std::atomic<int>>);
static_assert(!has_operators<atomic<int>> && !has_more<atomic<int>>);
static_assert(!std::is_convertible_v<atomic<int>, int>);
static_assert(!std::is_convertible_v<atomic<int>&, std::atomic<int>&>);
static_assert(!std::is_copy_assignable_v<atomic<int>>);

struct member {
  const char* name;
  void (*call)(atomic<int>& on);
  bool is_step = true;
};
class atomic_members : public ::testing::TestWithParam<member> {};

// Goal:   another fiber is let in between the line before and what the member does.
TEST_P(atomic_members, are_steps) {
  std::atomic<bool> met{false};
  const auto sum = sim::explore({.name = "members", .preemptions = 1, .exhaustive = true}, [&met] {
    atomic<int> on{1};
    std::atomic<bool> inside{false};
    go([&] { met = met || inside; });
    inside = true;
    GetParam().call(on);
    inside = false;
    sim::settle();
  });
  EXPECT_TRUE(sum.covered);
  EXPECT_EQ(met, GetParam().is_step);
}

const member members[] = {
    {"load", [](auto& on) { EXPECT_EQ(on.load(), 1); }},
    {"store", [](auto& on) { on.store(2); }},
    {"exchange", [](auto& on) { EXPECT_EQ(on.exchange(2), 1); }},
    {"compare_exchange_strong",
     [](auto& on) {
       int expected = 1;
       EXPECT_TRUE(on.compare_exchange_strong(expected, 2));
     }},
    {"compare_exchange_weak",
     [](auto& on) {
       int expected = 1;
       EXPECT_TRUE(on.compare_exchange_weak(expected, 2));
     }},
    {"compare_exchange_that_fails",
     [](auto& on) {
       int expected = 3;
       EXPECT_FALSE(on.compare_exchange_weak(expected, 2));
       EXPECT_EQ(expected, 1);
     }},
    {"fetch_add", [](auto& on) { EXPECT_EQ(on.fetch_add(1), 1); }},
    {"fetch_sub", [](auto& on) { EXPECT_EQ(on.fetch_sub(1), 1); }},
    {"fetch_or", [](auto& on) { EXPECT_EQ(on.fetch_or(2), 1); }},
    {"fetch_and", [](auto& on) { EXPECT_EQ(on.fetch_and(2), 1); }},
    {"nothing", [](auto&) {}, false},
};

INSTANTIATE_TEST_SUITE_P(of_atomic, atomic_members, ::testing::ValuesIn(members),
                         [](const auto& one) { return std::string{one.param.name}; });

}  // namespace
}  // namespace exeunt
