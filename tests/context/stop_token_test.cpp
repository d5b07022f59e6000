// SPDX-License-Identifier: Apache-2.0

#include <exeunt/context/stop_token.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stop_token>
#include <thread>

#include <exeunt/sim/gtest.hpp>

namespace exeunt {
namespace {

using namespace std::chrono_literals;

TEST(stop_token, of_a_context_that_never_ends_cannot_be_stopped) {
  EXPECT_FALSE(stop_token(context::background()).stop_possible());
}

TEST(stop_token, is_stopped_by_a_cancel) {
  auto [ctx, cancel] = with_cancel(context::background());
  const std::stop_token token = stop_token(ctx);
  const std::stop_token again = stop_token(with_value<int>(ctx, 1));
  EXPECT_EQ(token, again);  // However often it is asked for, there is one.
  int called = 0;
  const std::stop_callback count{token, [&called] { ++called; }};
  EXPECT_FALSE(token.stop_requested());
  cancel();
  EXPECT_TRUE(token.stop_requested());
  EXPECT_EQ(called, 1);
}

TEST(stop_token, outlives_its_context) {
  std::stop_token token;
  {
    auto [ctx, cancel] = with_cancel(context::background());
    token = stop_token(ctx);
  }
  EXPECT_TRUE(token.stop_requested());
}

TEST(stop_token, of_an_ended_context_is_stopped) {
  auto [ctx, cancel] = with_cancel(context::background());
  cancel();
  EXPECT_TRUE(stop_token(ctx).stop_requested());
}

EXEUNT_SIM_TEST(stop_token, is_stopped_by_a_deadline) {
  auto [ctx, cancel] = with_timeout(context::background(), 1ms);
  const std::stop_token token = stop_token(ctx);
  EXPECT_FALSE(token.stop_requested());
  sim::advance(1ms);
  EXPECT_TRUE(token.stop_requested());
  EXPECT_TRUE(ctx.err().has_value());
}

// CX-24 and CX-28: the standard's token is our foreign context.
TEST(with_stop_token, ends_by_the_token) {
  std::stop_source source;
  auto [ctx, cancel] = with_stop_token(context::background(), source.get_token());
  auto [child, cancel_child] = with_timeout(ctx, 1h);
  EXPECT_FALSE(child.err().has_value());
  source.request_stop();
  EXPECT_EQ(*ctx.err(), error{errc::canceled});
  EXPECT_EQ(*child.err(), error{errc::canceled});
}

TEST(with_stop_token, ends_by_its_cancel_and_its_parent) {
  std::stop_source source;
  auto [parent, cancel_parent] = with_cancel_cause(context::background());
  auto [one, cancel_one] = with_stop_token(parent, source.get_token());
  auto [two, cancel_two] = with_stop_token(parent, source.get_token());
  cancel_one();
  EXPECT_TRUE(one.err().has_value());
  EXPECT_FALSE(two.err().has_value());
  cancel_parent(errc::closed);
  EXPECT_EQ(*cause(two), error{errc::closed});
  EXPECT_FALSE(source.stop_requested());
  source.request_stop();
  EXPECT_EQ(*cause(two), error{errc::closed});
}

TEST(with_stop_token, of_a_stopped_token_has_ended) {
  std::stop_source source;
  source.request_stop();
  auto [ctx, cancel] = with_stop_token(context::background(), source.get_token());
  EXPECT_EQ(*ctx.err(), error{errc::canceled});
}

TEST(with_stop_token, without_a_source_is_as_with_cancel) {
  auto [ctx, cancel] = with_stop_token(context::background(), std::stop_token{});
  EXPECT_FALSE(ctx.err().has_value());
  cancel();
  EXPECT_TRUE(ctx.err().has_value());
}

// Stop and cancel from two threads at once: nobody waits for the other for good.
TEST(with_stop_token, stop_races_with_cancel) {
  for (int round = 0; round < 300; ++round) {
    std::stop_source source;
    auto [ctx, cancel] = with_stop_token(context::background(), source.get_token());
    std::thread stops{[&source] { source.request_stop(); }};
    cancel();
    stops.join();
    EXPECT_EQ(*ctx.err(), error{errc::canceled});
  }
}

TEST(with_stop_token, is_made_while_the_stop_comes) {
  for (int round = 0; round < 300; ++round) {
    std::stop_source source;
    std::thread stops{[&source] { source.request_stop(); }};
    auto [ctx, cancel] = with_stop_token(context::background(), source.get_token());
    ctx.wait();
    stops.join();
  }
}

TEST(with_stop_token, round_trip) {
  auto [ctx, cancel] = with_cancel(context::background());
  auto [below, cancel_below] = with_stop_token(context::background(), stop_token(ctx));
  cancel();
  EXPECT_TRUE(below.err().has_value());
}

}  // namespace
}  // namespace exeunt
