// SPDX-License-Identifier: Apache-2.0

#include <chrono>
#include <type_traits>
#include <utility>

#include <gtest/gtest.h>

#include <exeunt/base/error.hpp>
#include <exeunt/chan/chan.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sim/gtest.hpp>
#include <exeunt/time/timer.hpp>

#include "support/explored.hpp"
#include "support/until_parked.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using detail::wait_reason;

static_assert(!std::is_default_constructible_v<ticker>);
static_assert(!std::is_copy_constructible_v<ticker>);

void until_due_have_fired() { static_cast<void>(after(1ms).recv()); }

class ticker_test : public test::explored {};

// TM-17: no tick comes early, and the period does not drift, whatever the machine does.
TEST_P(ticker_test, ticks_at_multiples_of_its_period) {
  run([] {
    const auto start = clock::now();
    ticker t{1ms};
    const auto created = clock::now();
    clock::time_point last{};
    for (int i = 1; i <= 5; ++i) {
      const auto tick = t.channel().recv();
      ASSERT_TRUE(tick.has_value());
      EXPECT_GE(*tick, start + i * 1ms);
      EXPECT_LE(*tick, clock::now());
      if (i == 1) {
        EXPECT_LE(*tick, created + 1ms);
      } else {
        EXPECT_EQ((*tick - last) % 1ms, 0ns);
        EXPECT_GT(*tick, last);
      }
      last = *tick;
    }
    const auto moved = clock::now();
    t.reset(2ms);
    for (int i = 1; i <= 3; ++i) EXPECT_GE(*t.channel().recv(), moved + i * 2ms);
  });
}

// TM-17, TM-21.
TEST_P(ticker_test, does_not_tick_after_stop_until_reset) {
  run([] {
    ticker t{100us};
    EXPECT_TRUE(t.channel().recv());
    until_due_have_fired();
    EXPECT_EQ(t.channel().size(), 0U) << "it looks unbuffered, though a tick is due";
    EXPECT_EQ(t.channel().capacity(), 0U);
    t.stop();
    EXPECT_FALSE(t.channel().try_recv()) << "also not the one that was due";
    until_due_have_fired();
    EXPECT_FALSE(t.channel().try_recv());
    t.stop();
    t.reset(1h);
    until_due_have_fired();
    EXPECT_FALSE(t.channel().try_recv());
    t.reset(100us);
    EXPECT_TRUE(t.channel().recv());
  });
}

EXEUNT_SIM_TEST(ticker, a_slow_reader_loses_ticks) {
  const ticker t{100us};
  sleep(5050us);
  EXPECT_EQ(t.channel().recv(), sim::epoch + 100us) << "the oldest is kept";
  EXPECT_EQ(t.channel().recv(), sim::epoch + 5100us) << "those between are lost";
}

// TM-18.
TEST_P(ticker_test, is_made_used_and_stopped_again_and_again) {
  run([] {
    for (int i = 0; i < 3; ++i) {
      ticker t{100us};
      EXPECT_TRUE(t.channel().recv());
      t.stop();
    }
  });
}

// TM-18.
TEST_P(ticker_test, a_period_of_nothing_or_less_throws) {
  run([] {
    EXPECT_THROW(static_cast<void>(ticker{0s}), panic_error);
    EXPECT_THROW(static_cast<void>(ticker{-1s}), panic_error);
    ticker t{100us};
    EXPECT_THROW(t.reset(0s), panic_error);
    EXPECT_THROW(t.reset(-1ns), panic_error);
    EXPECT_TRUE(t.channel().recv()) << "it ticks on";
  });
}

// TM-03: as fast as can be, under load of other timers.
TEST_P(ticker_test, of_one_nanosecond_ticks_under_load) {
  run([] {
    chan<void> stop;
    go([=] {
      while (!stop.try_recv()) static_cast<void>(after(1ns).recv());
    });
    const ticker t{1ns};
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(t.channel().recv());
    stop.send();
  });
}

// TM-11.
TEST_P(ticker_test, of_the_longest_period_is_in_nobodys_way) {
  run([] {
    ticker t{clock::duration::max()};
    EXPECT_TRUE(after(1ms).recv());
    t.reset(1ms);
    EXPECT_TRUE(t.channel().recv());
    t.reset(clock::duration::max() - 1ns);
    EXPECT_TRUE(after(1ms).recv());
  });
}

// TM-23.
TEST_P(ticker_test, a_blocked_receiver_follows_the_resets) {
  run([] {
    ticker t{1h};
    chan<void> received;
    go([=, ticks = t.channel()] {
      EXPECT_TRUE(ticks.recv());
      received.send();
    });
    test::until_parked(1, wait_reason::chan_recv);
    t.reset(2h);
    until_due_have_fired();
    EXPECT_FALSE(received.try_recv());
    t.reset(1us);
    EXPECT_TRUE(received.recv());
    EXPECT_TRUE(t.channel().recv()) << "a ticker goes on";
  });
}

TEST_P(ticker_test, a_move_takes_the_ticker_along) {
  run([] {
    ticker first{1h};
    const auto channel = first.channel();
    ticker second{1h};
    second = std::move(first);
    EXPECT_EQ(second.channel(), channel);
    second.reset(100us);
    EXPECT_TRUE(channel.recv());
    first.stop();  // NOLINT: nothing to stop, and harmless.
  });
}

EXEUNT_EXPLORED(ticker_test);

}  // namespace
}  // namespace exeunt
