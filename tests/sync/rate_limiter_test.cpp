// SPDX-License-Identifier: Apache-2.0
// The tables are the cases of golang.org/x/time/rate's own test, in our words.

#include <exeunt/sync/rate_limiter.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <initializer_list>
#include <type_traits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <exeunt/base/error.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sim/bubble.hpp>
#include <exeunt/sim/gtest.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/explored.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;

static_assert(!std::is_copy_constructible_v<rate_limiter>);
static_assert(!std::is_copy_constructible_v<rate_limiter::reservation>);
static_assert(std::is_nothrow_move_constructible_v<rate_limiter::reservation>);

constexpr clock::duration tick = 100ms;
constexpr clock::time_point start{1000s};

constexpr clock::time_point at(int ticks) { return start + ticks * tick; }

// The nearest tick: a rate is no whole number of nanoseconds.
long ticks_of(clock::time_point t) { return std::lround(double((t - start).count()) / 1e8); }

struct question {
  int when;
  double tokens;  // before
  std::int64_t n;
  bool allowed;
};

void ask(rate_limiter& limiter, std::initializer_list<question> questions) {
  int step = 0;
  for (const question& q : questions) {
    EXPECT_DOUBLE_EQ(limiter.tokens_at(at(q.when)), q.tokens) << "step " << step;
    EXPECT_EQ(limiter.allow_at(at(q.when), q.n), q.allowed) << "step " << step;
    ++step;
  }
}

rate_limiter::reservation reserve(rate_limiter& limiter, int when, std::int64_t n, int due,
                                  clock::duration longest = rate_limiter::never) {
  auto taken = limiter.reserve_at(at(when), n, longest);
  EXPECT_TRUE(taken.ok());
  EXPECT_EQ(ticks_of(taken.when()), due);
  return taken;
}

rate_limiter::reservation refused(rate_limiter& limiter, int when, std::int64_t n,
                                  clock::duration longest = rate_limiter::never) {
  auto taken = limiter.reserve_at(at(when), n, longest);
  EXPECT_FALSE(taken.ok());
  EXPECT_EQ(taken.delay_from(at(when)), rate_limiter::never);
  EXPECT_EQ(taken.when(), no_deadline);
  return taken;
}

TEST(rate_limiter_test, every_is_a_limit) {
  EXPECT_EQ(rate_limiter::every(0s), rate_limiter::unlimited);
  EXPECT_EQ(rate_limiter::every(-1s), rate_limiter::unlimited);
  EXPECT_DOUBLE_EQ(rate_limiter::every(1ns), 1e9);
  EXPECT_DOUBLE_EQ(rate_limiter::every(10ms), 100);
  EXPECT_DOUBLE_EQ(rate_limiter::every(2500ms), 0.4);
  EXPECT_DOUBLE_EQ(rate_limiter::every(10s), 0.1);
  EXPECT_GT(rate_limiter::every(clock::duration::max()), 0);
  const rate_limiter limiter{2.5, 7};
  EXPECT_EQ(limiter.limit(), 2.5);
  EXPECT_EQ(limiter.burst(), 7);
}

TEST(rate_limiter_test, a_burst_of_one) {
  rate_limiter limiter{10, 1};
  ask(limiter, {{0, 1, 1, true},
                {0, 0, 1, false},
                {0, 0, 1, false},
                {1, 1, 1, true},
                {1, 0, 1, false},
                {2, 1, 2, false},  // Above the burst: never.
                {2, 1, 1, true},
                {2, 0, 1, false}});
}

TEST(rate_limiter_test, a_burst_of_three) {
  rate_limiter limiter{10, 3};
  ask(limiter, {{0, 3, 2, true},
                {0, 1, 2, false},
                {0, 1, 1, true},
                {0, 0, 1, false},
                {1, 1, 4, false},
                {2, 2, 1, true},
                {3, 2, 1, true},
                {4, 2, 1, true},
                {4, 1, 1, true},
                {4, 0, 1, false},
                {9, 3, 3, true},  // Never more than the burst, however long it was.
                {9, 0, 0, true}});
}

TEST(rate_limiter_test, time_that_goes_back_brings_and_takes_nothing) {
  rate_limiter limiter{10, 3};
  ask(limiter, {{1, 3, 1, true},
                {0, 2, 1, true},
                {0, 1, 1, true},
                {0, 0, 1, false},
                {1, 1, 1, true},
                {1, 0, 1, false},
                {2, 1, 1, true},
                {2, 0, 1, false}});
}

TEST(rate_limiter_test, a_full_bucket_has_a_whole_token_at_any_rate) {
  EXPECT_TRUE(rate_limiter(0.7692307692307693, 1).allow());
}

TEST(rate_limiter_test, the_limit_0_has_one_bucket) {
  rate_limiter none{0, 1};
  EXPECT_TRUE(none.allow());
  EXPECT_FALSE(none.allow());
  EXPECT_EQ(none.reserve().delay(), rate_limiter::never);
  rate_limiter tiny{1e-10, 1};
  EXPECT_TRUE(tiny.allow());
  EXPECT_FALSE(tiny.allow());
}

TEST(rate_limiter_test, without_a_limit_the_burst_is_no_matter) {
  rate_limiter limiter{rate_limiter::unlimited, 0};
  EXPECT_TRUE(limiter.allow(1000));
  EXPECT_EQ(limiter.reserve(5).delay(), 0s);
  EXPECT_TRUE(limiter.wait(context::background(), 3));
}

TEST(rate_limiter_test, a_burst_of_0_allows_nothing) {
  rate_limiter limiter{10, 0};
  EXPECT_FALSE(limiter.allow());
  EXPECT_TRUE(limiter.allow(0));
  EXPECT_FALSE(limiter.reserve().ok());
}

TEST(rate_limiter_test, a_negative_number_throws) {
  rate_limiter limiter{10, 1};
  EXPECT_THROW(static_cast<void>(limiter.allow(-1)), panic_error);
  EXPECT_THROW(static_cast<void>(limiter.reserve(-1)), panic_error);
  EXPECT_THROW(static_cast<void>(limiter.wait(context::background(), -1)), panic_error);
  EXPECT_TRUE(limiter.allow());
}

TEST(rate_limiter_test, over_a_long_time_the_rate_is_kept) {
  rate_limiter limiter{100, 100};
  int allowed = 0;
  for (clock::duration t = 0s; t < 5s; t += 2ms) {
    if (limiter.allow_at(start + t)) ++allowed;
  }
  EXPECT_GE(allowed, 599);
  EXPECT_LE(allowed, 601);
}

TEST(rate_limiter_test, reservations_are_due_in_order) {
  rate_limiter limiter{10, 2};
  reserve(limiter, 0, 2, 0);
  reserve(limiter, 0, 2, 2);
  reserve(limiter, 3, 2, 4);
}

TEST(rate_limiter_test, debt_is_paid_before_anything_is_allowed) {
  rate_limiter limiter{10, 2};
  refused(limiter, 0, 3);
  reserve(limiter, 0, 2, 0);
  EXPECT_FALSE(limiter.allow_at(at(1), 2));
  reserve(limiter, 1, 2, 2);
  EXPECT_DOUBLE_EQ(limiter.tokens_at(at(1)), -1);
  EXPECT_FALSE(limiter.allow_at(at(1)));
  EXPECT_TRUE(limiter.allow_at(at(3)));
}

TEST(rate_limiter_test, who_took_nothing_gives_nothing_back) {
  rate_limiter limiter{10, 2};
  reserve(limiter, 0, 2, 0);
  auto taken = refused(limiter, 0, 3);
  taken.cancel_at(at(0));
  reserve(limiter, 0, 2, 2);
}

TEST(rate_limiter_test, cancelling_the_last_gives_all_back_once) {
  rate_limiter limiter{10, 2};
  reserve(limiter, 0, 2, 0);
  auto taken = reserve(limiter, 0, 2, 2);
  taken.cancel_at(at(1));
  taken.cancel_at(at(1));
  reserve(limiter, 1, 2, 2);
}

TEST(rate_limiter_test, cancelling_too_late_gives_nothing_back) {
  rate_limiter limiter{10, 2};
  reserve(limiter, 0, 2, 0);
  auto taken = reserve(limiter, 0, 2, 2);
  taken.cancel_at(at(3));
  reserve(limiter, 3, 2, 4);
}

TEST(rate_limiter_test, what_later_ones_count_on_is_not_given_back) {
  {
    rate_limiter limiter{10, 2};
    reserve(limiter, 0, 2, 0);
    auto taken = reserve(limiter, 0, 1, 1);
    reserve(limiter, 0, 1, 2);
    taken.cancel_at(at(0));  // Nothing.
    reserve(limiter, 0, 1, 3);
  }
  {
    rate_limiter limiter{10, 2};
    reserve(limiter, 0, 2, 0);
    auto taken = reserve(limiter, 0, 2, 2);
    reserve(limiter, 0, 1, 3);
    taken.cancel_at(at(2));  // One.
    reserve(limiter, 2, 2, 4);
  }
  {
    rate_limiter limiter{10, 4};
    reserve(limiter, 0, 4, 0);
    auto first = reserve(limiter, 0, 3, 3);
    reserve(limiter, 0, 1, 4);
    auto last = reserve(limiter, 0, 1, 5);
    last.cancel_at(at(1));   // One.
    first.cancel_at(at(1));  // Two, as if the last had never been.
    reserve(limiter, 1, 3, 5);
  }
}

TEST(rate_limiter_test, reservations_when_time_goes_back) {
  {
    rate_limiter limiter{10, 2};
    reserve(limiter, 1, 2, 1);
    reserve(limiter, 0, 1, 1);
    reserve(limiter, 2, 2, 3);
    refused(limiter, 0, 3);
    reserve(limiter, 2, 1, 4);
    refused(limiter, 0, 2, tick);
    reserve(limiter, 2, 1, 5);
  }
  {
    rate_limiter limiter{10, 2};
    reserve(limiter, 1, 2, 1);
    auto taken = reserve(limiter, 1, 2, 3);
    reserve(limiter, 1, 1, 4);
    taken.cancel_at(at(0));  // One.
    reserve(limiter, 1, 2, 4);
  }
}

TEST(rate_limiter_test, a_new_limit_and_a_new_burst_hold_from_then_on) {
  {
    rate_limiter limiter{5, 2};
    reserve(limiter, 0, 2, 0);
    reserve(limiter, 0, 2, 4);
    limiter.set_limit_at(at(2), 10);
    reserve(limiter, 2, 1, 4);
  }
  {
    rate_limiter limiter{5, 2};
    reserve(limiter, 0, 2, 0);
    reserve(limiter, 0, 2, 4);
    limiter.set_burst_at(at(3), 4);
    reserve(limiter, 0, 4, 9);
  }
  {
    rate_limiter limiter{5, 2};
    reserve(limiter, 0, 2, 0);
    auto taken = reserve(limiter, 0, 2, 4);
    limiter.set_limit_at(at(2), 10);
    taken.cancel_at(at(2));
    reserve(limiter, 2, 2, 3);
  }
}

TEST(rate_limiter_test, a_reservation_may_say_how_long_is_too_long) {
  rate_limiter limiter{10, 2};
  reserve(limiter, 0, 2, 0, tick);
  reserve(limiter, 0, 1, 1, tick);
  refused(limiter, 0, 1, tick);
}

TEST(rate_limiter_test, a_reservation_changes_hands) {
  rate_limiter limiter{10, 1};
  auto first = limiter.reserve_at(at(0));
  auto second = std::move(first);
  EXPECT_FALSE(first.ok());  // NOLINT(bugprone-use-after-move): what is left of it
  EXPECT_TRUE(second.ok());
  EXPECT_EQ(second.delay_from(at(0)), 0s);
}

// --- waiting, in virtual time: the moments are exact

TEST(rate_limiter_wait, takes_what_is_there_and_waits_for_the_rest) {
  sim::bubble([] {
    rate_limiter limiter{10, 3};
    const clock::time_point begin = clock::now();
    {
      auto [ctx, cancel] = with_cancel(context::background());
      cancel();
      const result<> ended = limiter.wait(ctx);
      ASSERT_FALSE(ended);
      EXPECT_TRUE(ended.error().is(errc::canceled));
    }
    const result<> too_many = limiter.wait(context::background(), 4);
    ASSERT_FALSE(too_many);
    EXPECT_TRUE(too_many.error().is(errc::limit_exceeded));
    EXPECT_TRUE(limiter.wait(context::background(), 2));
    EXPECT_EQ(clock::now(), begin);
    EXPECT_TRUE(limiter.wait(context::background(), 3));
    EXPECT_EQ(clock::now(), begin + 200ms);
  });
}

TEST(rate_limiter_wait, one_that_is_cancelled_gives_its_tokens_back) {
  sim::bubble([] {
    rate_limiter limiter{10, 3};
    const clock::time_point begin = clock::now();
    EXPECT_TRUE(limiter.wait(context::background(), 2));
    auto [ctx, cancel] = with_cancel(context::background());
    wait_group canceller;
    canceller.go([&, &stop = cancel] {
      sleep(100ms);
      stop();
    });
    const result<> waited = limiter.wait(ctx, 3);
    ASSERT_FALSE(waited);
    EXPECT_TRUE(waited.error().is(errc::canceled));
    EXPECT_EQ(clock::now(), begin + 100ms);
    EXPECT_DOUBLE_EQ(limiter.tokens(), 2);
    EXPECT_TRUE(limiter.wait(context::background(), 2));
    EXPECT_EQ(clock::now(), begin + 100ms);
    canceller.wait();
  });
}

TEST(rate_limiter_wait, is_refused_at_once_if_the_deadline_would_come_first) {
  sim::bubble([] {
    rate_limiter limiter{10, 3};
    const clock::time_point begin = clock::now();
    auto [ctx, cancel] = with_timeout(context::background(), 100ms);
    EXPECT_TRUE(limiter.wait(ctx, 2));
    const result<> waited = limiter.wait(ctx, 3);
    ASSERT_FALSE(waited);
    EXPECT_TRUE(waited.error().is(errc::deadline_exceeded));
    EXPECT_FALSE(ctx.err());
    EXPECT_EQ(clock::now(), begin);
    EXPECT_DOUBLE_EQ(limiter.tokens(), 1) << "it took nothing";
  });
}

TEST(rate_limiter_wait, goes_on_when_a_limit_of_0_is_raised_before) {
  sim::bubble([] {
    rate_limiter limiter{0, 1};
    EXPECT_TRUE(limiter.allow());
    limiter.set_limit(10);
    const clock::time_point begin = clock::now();
    EXPECT_TRUE(limiter.wait(context::background()));
    EXPECT_EQ(clock::now(), begin + 100ms);
  });
}

TEST(rate_limiter_wait, at_a_limit_of_0_ends_with_its_context) {
  sim::bubble([] {
    rate_limiter limiter{0, 1};
    EXPECT_TRUE(limiter.allow());
    auto [ctx, cancel] = with_cancel(context::background());
    wait_group waiting;
    waiting.go([&, &end = ctx] { EXPECT_FALSE(limiter.wait(end)); });
    sim::advance(24h);
    cancel();
    waiting.wait();
  });
}

// Each waits for its own moment, in the order in which they came.
TEST(rate_limiter_wait, many_go_on_one_after_the_other) {
  sim::expect_explored({.name = "rate_limiter_wait.many", .schedules = 50}, [] {
    rate_limiter limiter{10, 1};
    const clock::time_point begin = clock::now();
    std::vector<clock::duration> moments(5);
    wait_group waiting;
    for (clock::duration& moment : moments) {
      waiting.go([&] {
        EXPECT_TRUE(limiter.wait(context::background()));
        moment = clock::now() - begin;
      });
    }
    waiting.wait();
    std::sort(moments.begin(), moments.end());
    EXPECT_EQ(moments, (std::vector<clock::duration>{0ms, 100ms, 200ms, 300ms, 400ms}));
  });
}

// --- many at once

class rate_limiter_at_once : public test::explored {};
EXEUNT_EXPLORED(rate_limiter_at_once);

TEST_P(rate_limiter_at_once, no_more_than_the_burst_get_through) {
  run([] {
    rate_limiter limiter{1e-6, 5};
    std::atomic<int> allowed = 0;
    wait_group fibers;
    for (int f = 0; f < 15; ++f) {
      fibers.go([&] {
        if (limiter.allow()) ++allowed;
      });
    }
    fibers.wait();
    EXPECT_EQ(allowed, 5);
  });
}

}  // namespace
}  // namespace exeunt
