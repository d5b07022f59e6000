// SPDX-License-Identifier: Apache-2.0

#include <exeunt/time/timer.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <malloc.h>

#include <gtest/gtest.h>

#include <exeunt/base/random.hpp>
#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sim/gtest.hpp>
#include <exeunt/time/sleep.hpp>

#include "support/explored.hpp"
#include "support/until_parked.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using detail::wait_reason;

// TM-12: a timer that was never set cannot be made.
static_assert(!std::is_default_constructible_v<timer>);
static_assert(!std::is_copy_constructible_v<timer>);
static_assert(std::is_nothrow_move_constructible_v<timer>);

// Timers fire in the order of their deadlines: after this, all that are due now have fired.
void until_due_have_fired() { static_cast<void>(after(1ms).recv()); }

class timer_test : public test::explored {};

// TM-04.
TEST_P(timer_test, fires_no_earlier_than_asked) {
  run([] {
    const auto start = clock::now();
    for (int i = 1; i <= 5; ++i) {
      const auto before = clock::now();
      const auto value = after(1ms).recv();
      ASSERT_TRUE(value.has_value());
      EXPECT_GE(*value, before + 1ms);
      EXPECT_GE(clock::now(), *value);
      EXPECT_GE(clock::now() - start, i * 1ms);
    }
  });
}

// TM-04's second half: ten in a row take as long as ten do, and not a nanosecond longer.
EXEUNT_SIM_TEST(timer, ten_in_a_row_take_ten_times_as_long) {
  for (int i = 1; i <= 10; ++i) {
    EXPECT_EQ(after(100ms).recv(), sim::epoch + i * 100ms);
    EXPECT_EQ(clock::now(), sim::epoch + i * 100ms);
  }
}

// TM-26: the value is the moment at which it was due, not that of reading or of firing.
EXEUNT_SIM_TEST(timer, delivers_the_moment_it_was_due) {
  const timer t{2ms};
  sleep(8ms);
  EXPECT_EQ(t.channel().recv(), sim::epoch + 2ms);
}

// TM-05, TM-07.
TEST_P(timer_test, stopped_in_time_neither_fires_nor_calls) {
  run([] {
    std::atomic<int> calls = 0;
    std::vector<timer> timers;
    for (int i = 0; i < 100; ++i) {
      timers.emplace_back(1h);
      timers.push_back(after_func(1h, [&] { ++calls; }));
    }
    for (timer& t : timers) EXPECT_TRUE(t.stop());
    for (timer& t : timers) EXPECT_FALSE(t.stop()) << "a second stop prevents nothing";
    until_due_have_fired();
    EXPECT_EQ(calls, 0);
    for (const timer& t : timers) {
      if (!t.channel()) continue;
      EXPECT_FALSE(t.channel().try_recv());
    }
  });
}

// TM-06.
EXEUNT_EXPLORE_TEST(timer, the_order_of_firing_follows_the_deadlines) {
  const std::vector<int> slots{5, 3, 6, 6, 6, 1, 1, 2, 7, 9, 4, 8, 0};
  const chan<int> fired{slots.size()};
  for (const int slot : slots) {
    go([=] {
      static_cast<void>(after(10ms + slot * 100us).recv());
      fired.send(slot);
    });
  }
  std::vector<int> order;
  for (std::size_t i = 0; i < slots.size(); ++i) order.push_back(*fired.recv());
  EXPECT_TRUE(std::ranges::is_sorted(order));
  EXPECT_EQ(clock::now() - sim::epoch, 10ms + 900us);
}

// TM-09: what was moved to later before it was due does not fire when it had been due.
EXEUNT_EXPLORE_TEST(timer, reset_to_later_is_quiet_at_the_old_deadline) {
  timer t{2s};
  sleep(1s);
  EXPECT_TRUE(t.reset(3s));
  sleep(2s);
  EXPECT_FALSE(t.channel().try_recv());
  sleep(2s);
  EXPECT_EQ(t.channel().try_recv(), sim::epoch + 4s);
  EXPECT_FALSE(t.reset(50ms)) << "it had fired, and its value was received";
}

// TM-09, told by results alone.
TEST_P(timer_test, reset_moves_it_and_says_whether_it_was_running) {
  run([] {
    timer t{1h};
    EXPECT_TRUE(t.reset(2h));
    EXPECT_FALSE(t.channel().try_recv());
    EXPECT_TRUE(t.reset(1ms));
    EXPECT_TRUE(t.channel().recv());
    EXPECT_FALSE(t.reset(1h)) << "it had fired, and its value was received";
    EXPECT_TRUE(t.stop());
    EXPECT_FALSE(t.reset(0s)) << "it had been stopped";
    EXPECT_TRUE(t.channel().recv());
    EXPECT_FALSE(t.stop());
  });
}

// Go 1.23: a value that nobody has received is as if it had not been sent.
TEST_P(timer_test, no_stale_value_after_stop_or_reset) {
  run([] {
    timer stopped{0s};
    timer moved{0s};
    until_due_have_fired();
    EXPECT_TRUE(stopped.stop()) << "due, but not received";
    EXPECT_FALSE(stopped.channel().try_recv());
    EXPECT_FALSE(stopped.stop());
    EXPECT_TRUE(moved.reset(1h)) << "due, but not received";
    EXPECT_FALSE(moved.channel().try_recv());
    const auto before = clock::now();
    EXPECT_TRUE(moved.reset(1ms));
    EXPECT_GE(*moved.channel().recv(), before + 1ms);
  });
}

// TM-21.
TEST_P(timer_test, the_channel_looks_unbuffered) {
  run([] {
    timer t{0s};
    until_due_have_fired();
    EXPECT_EQ(t.channel().size(), 0U);
    EXPECT_EQ(t.channel().capacity(), 0U);
    EXPECT_TRUE(t.channel().try_recv());
    EXPECT_FALSE(t.channel().try_recv()) << "once";
  });
}

// TM-23.
TEST_P(timer_test, a_blocked_receiver_follows_the_resets) {
  run([] {
    timer t{1h};
    chan<void> received;
    go([=, ticks = t.channel()] {
      EXPECT_TRUE(ticks.recv());
      received.send();
    });
    test::until_parked(1, wait_reason::chan_recv);
    EXPECT_TRUE(t.reset(2h));
    until_due_have_fired();
    EXPECT_FALSE(received.try_recv());
    EXPECT_TRUE(t.reset(1ns));
    EXPECT_TRUE(received.recv());
    until_due_have_fired();
    EXPECT_FALSE(t.channel().try_recv()) << "a timer fires once";
  });
}

// TM-13, TM-08.
TEST_P(timer_test, of_no_time_or_less_fires_at_once_every_time) {
  run([] {
    for (int i = 0; i < 2000; ++i) {
      EXPECT_TRUE(timer{0s}.channel().recv());
      EXPECT_TRUE(after(-1h).recv());
    }
  });
}

TEST_P(timer_test, of_the_longest_time_is_running_and_can_be_stopped) {
  run([] {
    timer t{clock::duration::max()};
    EXPECT_TRUE(after(1ms).recv()) << "and is in nobody's way";
    EXPECT_TRUE(t.stop());
  });
}

// TM-15: whatever is done in whatever order, results and values agree.
TEST_P(timer_test, results_agree_with_what_can_be_received) {
  run([] {
    detail::random_source random{7};
    std::vector<timer> timers;
    std::vector<bool> running(100, true);
    for (int i = 0; i < 100; ++i) timers.emplace_back(1h);
    for (int step = 0; step < 2000; ++step) {
      const std::size_t i = random.below(100);
      timer& t = timers[i];
      switch (random.below(4)) {
        case 0:
          EXPECT_EQ(t.reset(0s), running[i]);
          running[i] = true;
          break;
        case 1:
          EXPECT_EQ(t.reset(1h), running[i]);
          running[i] = true;
          break;
        case 2:
          EXPECT_EQ(t.stop(), running[i]);
          running[i] = false;
          break;
        default:
          if (t.channel().try_recv()) {
            EXPECT_TRUE(running[i]);
            running[i] = false;
          }
      }
    }
    for (std::size_t i = 0; i < 100; ++i) {
      EXPECT_EQ(timers[i].reset(0s), running[i]);
      EXPECT_TRUE(timers[i].channel().recv());
    }
  });
}

// TM-20: handles that are dropped take everything along, though nothing was read or stopped.
TEST_P(timer_test, dropping_stops_and_frees) {
  run([] {
    const auto many = [](int count) {
      std::vector<recv_only<clock::time_point>> channels;
      std::vector<timer> timers;
      std::vector<ticker> tickers;
      for (int i = 0; i < count; ++i) {
        channels.push_back(after(1h));
        timers.emplace_back(1h);
        timers.push_back(after_func(1h, [] { ADD_FAILURE() << "ran"; }));
        tickers.emplace_back(1h);
      }
    };
    // The runtime's heap of timers grows, and keeps its size. Sanitizers show no figures, but find
    // what leaks themselves.
    many(10'000);
    const std::size_t before = ::mallinfo2().uordblks;
    many(10'000);
    EXPECT_LT(::mallinfo2().uordblks, before + 10'000);
  });
}

TEST_P(timer_test, dropping_the_timer_stops_it_for_those_who_keep_its_channel) {
  run([] {
    recv_only<clock::time_point> kept{nullptr};
    {
      const timer t{0s};
      kept = t.channel();
      until_due_have_fired();
    }
    EXPECT_FALSE(kept.try_recv());
  });
}

TEST_P(timer_test, a_move_takes_the_timer_along) {
  run([] {
    timer first{1h};
    const auto channel = first.channel();
    timer second{std::move(first)};
    EXPECT_EQ(second.channel(), channel);
    timer third{0s};
    third = std::move(second);
    EXPECT_EQ(third.channel(), channel);
    EXPECT_TRUE(third.reset(0s));
    EXPECT_TRUE(channel.recv());
  });
}

TEST_P(timer_test, works_in_a_select) {
  run([] {
    const chan<int> never;
    const int which = select(on_recv(never, [](std::optional<int>) { return 1; }),
                             on_recv(after(1ms), [](std::optional<clock::time_point> at) {
                               EXPECT_TRUE(at.has_value());
                               return 2;
                             }));
    EXPECT_EQ(which, 2);
  });
}

TEST_P(timer_test, after_func_calls_in_a_fiber_of_its_own) {
  run([] {
    chan<std::uint64_t> ids;
    timer t = after_func(1ms, [=] { ids.send(this_fiber::id()); });
    EXPECT_FALSE(t.channel());
    const auto id = ids.recv();
    EXPECT_NE(*id, 0U);
    EXPECT_NE(*id, this_fiber::id());
    EXPECT_FALSE(t.stop()) << "it has started";
    EXPECT_FALSE(t.reset(0s));
    EXPECT_TRUE(ids.recv()) << "and a reset calls it again";
  });
}

TEST_P(timer_test, stop_does_not_wait_for_a_call_that_has_started) {
  run([] {
    chan<void> started, go_on, ended;
    timer t = after_func(0s, [=] {
      started.send();
      static_cast<void>(go_on.recv());
      ended.send();
    });
    EXPECT_TRUE(started.recv());
    EXPECT_FALSE(t.stop());
    EXPECT_FALSE(t.reset(0s)) << "a second call beside the first";
    EXPECT_TRUE(started.recv());
    go_on.close();
    EXPECT_TRUE(ended.recv());
    EXPECT_TRUE(ended.recv());
  });
}

TEST_P(timer_test, a_call_may_outlive_its_timer) {
  run([] {
    chan<void> started, go_on, ended;
    {
      const timer t = after_func(0s, [=] {
        started.send();
        static_cast<void>(go_on.recv());
        ended.send();
      });
      EXPECT_TRUE(started.recv());
    }
    go_on.close();
    EXPECT_TRUE(ended.recv());
  });
}

std::atomic<int> reported = 0;

TEST_P(timer_test, an_exception_of_the_call_is_reported) {
  reported = 0;
  runtime workers{{.procs = GetParam(), .panic_handler = [](const panic_report&) { ++reported; }}};
  workers.run([] {
    const timer t = after_func(0s, [] { throw std::runtime_error{"late"}; });
    while (reported == 0) yield();
  });
  EXPECT_EQ(workers.stop(), 0U);
  EXPECT_EQ(reported, 1);
}

// What was written before the timer was set is seen by who receives its value, and by the call.
TEST_P(timer_test, setting_happens_before_what_it_causes) {
  run([] {
    int data = 0;
    timer t{1h};
    chan<void> done;
    go([&, ticks = t.channel()] {
      EXPECT_TRUE(ticks.recv());
      EXPECT_EQ(data, 1);
      done.send();
    });
    test::until_parked(1, wait_reason::chan_recv);
    data = 1;
    t.reset(0s);
    EXPECT_TRUE(done.recv());
    timer call = after_func(1h, [&] {
      EXPECT_EQ(data, 2);
      done.send();
    });
    data = 2;
    call.reset(0s);
    EXPECT_TRUE(done.recv());
  });
}

TEST(timer_on_threads, works_without_a_fiber) {
  timer t{1ms};
  EXPECT_TRUE(t.channel().recv());
  EXPECT_TRUE(after(0s).recv());
  std::atomic<bool> called = false;
  const timer call = after_func(0s, [&] { called = true; });
  while (!called) std::this_thread::yield();
}

TEST(timer_death, stop_of_one_that_was_moved_from_is_fatal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto moved = [] {
    timer first{1h};
    const timer second{std::move(first)};
    first.stop();  // NOLINT: that is the misuse.
  };
  EXPECT_DEATH(moved(), "moved from");
}

EXEUNT_EXPLORED(timer_test);

}  // namespace
}  // namespace exeunt
