// SPDX-License-Identifier: Apache-2.0
#include <exeunt/sim/bubble.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <coroutine>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/group/errgroup.hpp>
#include <exeunt/sched/blocking.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sim/gtest.hpp>
#include <exeunt/sync/condition_variable.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/semaphore.hpp>
#include <exeunt/sync/wait_group.hpp>
#include <exeunt/time/sleep.hpp>
#include <exeunt/time/timer.hpp>

#include "support/abandons.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;

std::string failure_of(void (*f)(), sim::failure::reason why) {
  try {
    sim::bubble(f);
  } catch (const sim::failure& failed) {
    EXPECT_EQ(failed.why(), why) << failed.what();
    return failed.what();
  }
  ADD_FAILURE() << "no failure";
  return {};
}

// FC-01
EXEUNT_SIM_TEST(bubble, fc_01_time_begins_in_2000_and_moves_by_what_is_slept) {
  EXPECT_EQ(clock::now(), sim::epoch);
  EXPECT_EQ(unix_time(), 946'684'800s);
  chan<clock::time_point> seen;
  go([seen] { seen.send(clock::now()); });
  EXPECT_EQ(seen.recv(), sim::epoch);
  sleep(1s);
  EXPECT_EQ(clock::now() - sim::epoch, 1s);
  EXPECT_EQ(unix_time(), 946'684'801s);
}

// FC-01
// Goal:   times from outside can be compared with those inside, by what lies between them; and no
//         time passes outside for what is slept inside.
TEST(bubble, fc_01_differences_against_times_outside_are_exact) {
  const auto outside = unix_time();
  const auto begun = std::chrono::steady_clock::now();
  const auto before = clock::now();
  clock::duration difference{};
  sim::bubble([&] {
    sleep(1s);
    difference = outside - unix_time();
  });
  EXPECT_EQ(difference, outside - 946'684'801s);
  const auto took = clock::now() - before;
  EXPECT_GE(took, 0s);
  EXPECT_LE(took, std::chrono::steady_clock::now() - begun);
}

// FC-02
TEST(bubble, fc_02_may_be_empty) {
  sim::bubble([] {});
  sim::bubble([] { sim::settle(); });
}

EXEUNT_SIM_TEST(bubble, fc_02_settle_waits_for_the_others) {
  std::atomic<bool> done{false};
  go([&] {
    for (int i = 0; i < 10; ++i) yield();
    done = true;
  });
  sim::settle();
  EXPECT_TRUE(done);
}

// FC-04
EXEUNT_SIM_TEST(bubble, fc_04_timers_fire_at_their_moment) {
  const auto start = clock::now();
  timer early{5s};
  EXPECT_EQ(early.channel().recv(), start + 5s);
  timer late{5s};
  sleep(8s);
  EXPECT_EQ(late.channel().recv(), start + 10s);
  late.reset(1s);
  EXPECT_TRUE(late.channel().recv());
  EXPECT_EQ(clock::now() - start, 14s);
  late.reset(1h);
  late.reset(3s);
  EXPECT_TRUE(late.channel().recv());
  EXPECT_EQ(clock::now() - start, 17s);
}

// FC-05
TEST(bubble, fc_05_what_timers_start_belongs_to_it_until_its_end) {
  sim::bubble([] {
    std::atomic<int> count{0};
    auto first = after_func(1s, [&] { ++count; });
    auto second = after_func(3s, [&] {
      ++count;
      go([&] { ++count; });
    });
    sleep(2s);
    EXPECT_EQ(count, 1);
    sim::advance(1s);
    EXPECT_EQ(count, 3);
  });
}

// FC-05: a timer that is pending at the end never runs; that it was left is a failure.
TEST(bubble, fc_05_a_timer_that_is_left_does_not_run_and_is_told) {
  static std::atomic<bool> late{false};
  const std::string report = failure_of(
      [] {
        static std::optional<timer> pending;
        pending.emplace(after_func(1h, [] { late = true; }));
        sleep(2s);
      },
      sim::failure::reason::left);
  EXPECT_NE(report.find("timers are pending still, of which the next would fire after 3598 s"),
            std::string::npos)
      << report;
  EXPECT_FALSE(late);
}

TEST(bubble, a_context_that_nobody_has_cancelled_is_told) {
  failure_of(
      [] {
        static std::optional<with_cancel_result> kept;
        kept.emplace(with_timeout(context::background(), 1h));
      },
      sim::failure::reason::left);
}

// Goal:   nobody runs any more after a failure.
// Method: the function would look for good for what the fiber that failed was to do.
TEST(bubble, the_first_failure_is_its_end) {
  static std::atomic<int> looks{0};
  const std::string report = failure_of(
      [] {
        std::atomic<bool> done{false};
        go([&] {
          sleep(1s);
          sim::check(looks > 5, "looked");
          sim::check(false, "the first failure");
          done = true;
        });
        go([] { sleep(1h); });
        while (!done) {
          ++looks;
          sleep(100ms);
        }
      },
      sim::failure::reason::check);
  EXPECT_NE(report.find("the first failure"), std::string::npos) << report;
  EXPECT_LT(looks, 12);
}

TEST(bubble, what_goes_on_for_good_while_time_stands_still_is_told) {
  const std::string report = failure_of(
      [] {
        std::atomic<bool> over{false};
        go({.name = "sleeper"}, [&] {
          sleep(1s);
          over = true;
        });
        while (!over) yield();
      },
      sim::failure::reason::endless);
  EXPECT_NE(report.find("\"sleeper\""), std::string::npos) << report;
}

TEST(bubble, the_dump_says_which_lock_each_waits_for) {
  const std::string report = failure_of(
      [] {
        mutex a;
        mutex b;
        const auto lock_both = [](mutex& first, mutex& second) {
          const std::lock_guard held{first};
          sim::settle();
          const std::lock_guard never{second};
        };
        go({.name = "ab"}, [&] { lock_both(a, b); });
        lock_both(b, a);
      },
      sim::failure::reason::deadlock);
  EXPECT_NE(report.find("waits for mutex 1"), std::string::npos) << report;
  EXPECT_NE(report.find("waits for mutex 2"), std::string::npos) << report;
}

// Goal:   what was made outside does not suffer from who waited for it in a simulation that failed.
// Method: the semaphore is used afterwards, and goes.
TEST(bubble, what_it_has_abandoned_is_never_woken) {
  static semaphore outside{1};
  outside.acquire();
  failure_of([] { outside.acquire(); }, sim::failure::reason::deadlock);
  outside.release();  // Hands it to the fiber that never comes back.
}

// FC-06
EXEUNT_SIM_TEST(bubble, fc_06_what_is_due_needs_no_waiting) {
  timer zero{0s};
  EXPECT_EQ(zero.channel().recv(), sim::epoch);
  timer past{-1s};
  EXPECT_EQ(past.channel().recv(), sim::epoch - 1s);
  EXPECT_EQ(clock::now(), sim::epoch);
  std::atomic<bool> ran{false};
  const auto called = after_func(0s, [&] { ran = true; });
  while (!ran) yield();
  EXPECT_EQ(clock::now(), sim::epoch);
}

// FC-11
EXEUNT_SIM_TEST(bubble, fc_11_condition_variables_and_groups_wait_durably) {
  mutex lock;
  condition_variable changed;
  const auto start = clock::now();
  go([&] {
    sleep(1ms);
    changed.notify_one();
    sleep(1ms);
    changed.notify_all();
  });
  std::unique_lock held{lock};
  changed.wait(held);
  EXPECT_EQ(clock::now() - start, 1ms);
  changed.wait(held);
  EXPECT_EQ(clock::now() - start, 2ms);
  held.unlock();
  wait_group group;
  group.go([] { sleep(1s); });
  group.wait();
  EXPECT_EQ(clock::now() - start, 1s + 2ms);
}

// In Go a mutex does not count as durable; here it does.
EXEUNT_SIM_TEST(bubble, who_waits_for_a_mutex_lets_time_move) {
  mutex lock;
  lock.lock();
  go([&] {
    sleep(1h);
    lock.unlock();
  });
  lock.lock();
  EXPECT_EQ(clock::now() - sim::epoch, 1h);
  lock.unlock();
}

EXEUNT_SIM_TEST(bubble, a_year_of_ticks_takes_no_time) {
  ticker daily{24h};
  for (int day = 0; day < 365; ++day) EXPECT_TRUE(daily.channel().recv());
  EXPECT_EQ(clock::now() - sim::epoch, 365 * 24h);
}

// [timeout]
EXEUNT_SIM_TEST(bubble, contexts_end_at_their_deadline) {
  const auto ended = with_timeout(context::background(), 30s);
  ended.ctx.wait();
  EXPECT_EQ(clock::now() - sim::epoch, 30s);
  EXPECT_TRUE(ended.ctx.err()->is(errc::deadline_exceeded));
}
// [timeout]

EXEUNT_SIM_TEST(bubble, blocking_calls_are_made_in_line) {
  const auto me = std::this_thread::get_id();
  EXPECT_EQ(blocking([] { return std::this_thread::get_id(); }), me);
  EXPECT_TRUE(sim::inside());
}

TEST(bubble, hands_on_what_the_function_throws) {
  EXPECT_THROW(sim::bubble([] { throw std::out_of_range{"mine"}; }), std::out_of_range);
  EXPECT_FALSE(sim::inside());
  EXPECT_THROW(sim::settle(), std::logic_error);
}

TEST(bubble, does_not_nest) {
  EXPECT_THROW(sim::bubble([] { sim::bubble([] {}); }), std::logic_error);
}

TEST(bubble, a_deadlock_is_told_with_who_waits_for_what) {
  const std::string text = failure_of(
      [] {
        chan<int> never;
        go({.name = "giver"}, [] {
          chan<int> c;
          c.send(1);
        });
        static_cast<void>(never.recv());
      },
      sim::failure::reason::deadlock);
  EXPECT_NE(text.find("\"main\" started at"), std::string::npos) << text;
  EXPECT_NE(text.find("waits for channel receive"), std::string::npos) << text;
  EXPECT_NE(text.find("\"giver\" started at bubble_test.cpp:"), std::string::npos) << text;
  EXPECT_NE(text.find("waits for channel send"), std::string::npos) << text;
}

TEST(bubble, who_waits_for_good_after_the_functions_return_is_told) {
  const std::string text = failure_of(
      [] {
        go({.name = "forgotten"}, [] { static_cast<void>(chan<int>{}.recv()); });
        yield();
      },
      sim::failure::reason::left);
  EXPECT_NE(text.find("\"forgotten\""), std::string::npos) << text;
}

TEST(bubble, an_exception_in_a_fiber_is_a_failure) {
  const std::string text = failure_of(
      [] {
        go([] { throw std::runtime_error{"lost in a fiber"}; });
        sim::settle();
      },
      sim::failure::reason::exception);
  EXPECT_NE(text.find("lost in a fiber"), std::string::npos) << text;
}

TEST(bubble, a_check_that_fails_says_what) {
  EXPECT_THROW(sim::bubble([] { sim::check(false, "two and two are four"); }), sim::failure);
}

// Goal:   several at once, each with its own time.
// Method: threads whose bubbles sleep for different times.
TEST(bubble, several_threads_have_one_each) {
  std::vector<std::thread> all;
  for (int i = 1; i <= 4; ++i) {
    all.emplace_back([i] {
      sim::bubble([i] {
        for (int step = 0; step < 1000; ++step) sleep(std::chrono::seconds{i});
        EXPECT_EQ(clock::now() - sim::epoch, std::chrono::seconds{i} * 1000);
      });
    });
  }
  for (std::thread& one : all) one.join();
}

// FC-08: a channel made outside is not used inside.
TEST(bubble, fc_08_a_channel_from_outside_is_refused_inside) {
  static const chan<int> outside{1};
  const auto expect_refused = [](void (*use)(), const char* call) {
    const std::string report = failure_of(use, sim::failure::reason::foreign);
    EXPECT_NE(report.find(std::string{call} + " on a channel that was made outside"),
              std::string::npos)
        << report;
  };
  expect_refused([] { static_cast<void>(outside.recv()); }, "channel receive");
  expect_refused([] { static_cast<void>(outside.try_recv()); }, "channel receive");
  expect_refused([] { outside.send(1); }, "channel send");
  expect_refused([] { outside.close(); }, "channel close");
  expect_refused([] { select(on_recv(outside, [](auto) {})); }, "select");
  EXPECT_TRUE(outside.try_send(1));
  EXPECT_EQ(outside.recv(), 1);
}

TEST(bubble, a_channel_of_another_simulation_is_refused) {
  static std::optional<chan<int>> kept;
  sim::bubble([] { kept.emplace(1); });
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(sim::bubble([] { static_cast<void>(kept->try_send(1)); }),
               "made in a simulation is used outside");
}

// Goal:   a thread that is none of the simulation's, and what comes after it, cannot use a channel
//         that was made inside.
TEST(bubble_death, a_channel_from_inside_is_refused_outside) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  constexpr const char* text = "made in a simulation is used outside";
  EXPECT_DEATH(sim::bubble([] {
                 const chan<int> inside{1};
                 std::thread{[inside] { inside.send(1); }}.join();
               }),
               text);
  std::optional<chan<int>> kept;
  sim::bubble([&kept] { kept.emplace(1); });
  EXPECT_DEATH(static_cast<void>(kept->try_recv()), text);
}

// Method: whoever waits for a condition is in its queue when it has let go of the mutex.
TEST(bubble_death, a_fiber_inside_cannot_wake_a_thread) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        mutex lock;
        condition_variable woken;
        bool waits = false;
        std::thread waiting{[&] {
          std::unique_lock held{lock};
          waits = true;
          woken.wait(held);
        }};
        for (bool seen = false; !seen;) {
          const std::lock_guard held{lock};
          seen = waits;
        }
        sim::bubble([&woken] { woken.notify_one(); });
        waiting.join();
      },
      "woke a thread outside");
}

// Method: the other thread is started when the fiber waits for certain.
TEST(bubble_death, a_thread_cannot_wake_a_fiber_inside) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        semaphore shared{1};
        shared.acquire();
        sim::bubble([&shared] {
          go([&shared] { shared.acquire(); });
          sim::settle();
          std::thread{[&shared] { shared.release(); }}.join();
        });
      },
      "woken by a thread outside");
}

// FC-12
TEST(bubble, fc_12_a_group_whose_count_is_zero_may_be_used_in_the_next_one) {
  wait_group group;
  for (int i = 0; i < 2; ++i) {
    sim::bubble([&group] {
      group.go([] { sleep(1s); });
      group.wait();
      EXPECT_EQ(clock::now() - sim::epoch, 1s);
    });
  }
  group.add(1);
  group.done();
  group.wait();
}

// Goal:   a count that is not zero cannot be shared by inside and outside.
// Method: as for FC-08.
TEST(bubble_death, fc_12_a_group_waited_for_inside_cannot_be_counted_down_outside) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        wait_group shared;
        shared.add(1);
        sim::bubble([&shared] {
          go([&shared] { shared.wait(); });
          sim::settle();
          std::thread{[&shared] { shared.done(); }}.join();
        });
      },
      "simulation");
}

// A coroutine whose body runs in whoever asks for the next value.
class pulled {
 public:
  struct promise_type;
  using frame = std::coroutine_handle<promise_type>;
  struct promise_type {
    pulled get_return_object() { return pulled{frame::from_promise(*this)}; }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    std::suspend_always yield_value(clock::time_point given) noexcept {
      value = given;
      return {};
    }
    void return_void() noexcept {}
    void unhandled_exception() { throw; }

    clock::time_point value;
  };

  explicit pulled(frame body) : body_{body} {}
  pulled(const pulled&) = delete;
  pulled& operator=(const pulled&) = delete;
  ~pulled() { body_.destroy(); }

  std::optional<clock::time_point> next() {
    body_.resume();
    if (body_.done()) return std::nullopt;
    return body_.promise().value;
  }

 private:
  frame body_;
};

// FC-14
EXEUNT_SIM_TEST(bubble, fc_14_a_generator_that_sleeps_is_consumed_by_push_and_by_pull) {
  const std::vector<clock::time_point> stamps{sim::epoch + 1s, sim::epoch + 2s, sim::epoch + 3s};
  std::vector<clock::time_point> seen;
  const auto push = [](const auto& take) {
    for (int i = 0; i < 3; ++i) {
      sleep(1s);
      take(clock::now());
    }
  };
  push([&seen](clock::time_point at) { seen.push_back(at); });
  EXPECT_EQ(seen, stamps);

  const auto generate = []() -> pulled {
    for (int i = 0; i < 3; ++i) {
      sleep(1s);
      co_yield clock::now();
    }
  };
  const chan<clock::time_point> values;
  go([=] {
    pulled generator = generate();
    while (const auto at = generator.next()) values.send(*at);
    values.close();
  });
  for (clock::time_point& stamp : seen) stamp += 3s;
  for (const clock::time_point stamp : seen) EXPECT_EQ(values.recv(), stamp);
  EXPECT_FALSE(values.recv());
}

// FC-15
EXEUNT_SIM_TEST(bubble, fc_15_a_context_that_ends_with_the_test_lets_its_fibers_end) {
  wait_group group;
  {
    const auto life = with_cancel(context::background());
    group.go([ctx = context{life.ctx}] { ctx.wait(); });
    sim::settle();
  }
  group.wait();
}

}  // namespace
}  // namespace exeunt
