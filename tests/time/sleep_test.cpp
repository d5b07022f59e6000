// SPDX-License-Identifier: Apache-2.0

#include <exeunt/time/sleep.hpp>

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>

#include "support/child.hpp"
#include "support/explored.hpp"
#include "support/until_parked.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using detail::wait_reason;

class sleep_test : public test::explored {};

// TM-01: other timers that come and go meanwhile do not shorten it.
TEST_P(sleep_test, lasts_at_least_as_long_as_asked) {
  run([] {
    chan<void> poked;
    go([=] {
      sleep(2ms);
      poked.send();
    });
    const auto start = clock::now();
    EXPECT_TRUE(sleep(context::background(), 5ms));
    EXPECT_GE(clock::now() - start, 5ms);
    EXPECT_TRUE(poked.recv());
    const auto when = clock::now() + 1ms;
    sleep_until(when);
    EXPECT_GE(clock::now(), when);
    EXPECT_TRUE(sleep_until(context::background(), when + 1ms));
    EXPECT_GE(clock::now(), when + 1ms);
  });
}

// TM-08.
TEST_P(sleep_test, no_time_and_less_than_none_return_amid_other_work) {
  run([] {
    chan<int> work;
    go([=] {
      for (int i = 0; i < 100; ++i) work.send(i);
      work.close();
    });
    auto [ctx, cancel] = with_cancel(context::background());
    for (int i = 0; i < 100; ++i) {
      EXPECT_TRUE(sleep(ctx, 0s));
      EXPECT_TRUE(sleep(ctx, -1h));
      EXPECT_TRUE(sleep(context::background(), 0s));
      sleep_until(clock::now() - 1s);
      EXPECT_EQ(work.recv(), i);
    }
    EXPECT_FALSE(work.recv());
  });
}

TEST_P(sleep_test, a_cancel_ends_it) {
  run([] {
    auto [ctx, cancel] = with_cancel(context::background());
    chan<void> ended;
    go([=, &end = ctx] {
      const result<> slept = sleep(end, 1h);
      ASSERT_FALSE(slept);
      EXPECT_TRUE(slept.error().is(errc::canceled));
      ended.send();
    });
    test::until_parked(1, wait_reason::sleep);
    cancel();
    EXPECT_TRUE(ended.recv());
  });
}

TEST_P(sleep_test, with_an_ended_context_does_not_begin) {
  run([] {
    auto [ctx, cancel] = with_cancel(context::background());
    cancel();
    EXPECT_FALSE(sleep(ctx, 1h));
    EXPECT_FALSE(sleep(ctx, 0s)) << "also without anything to wait for";
    EXPECT_FALSE(sleep_until(ctx, clock::now() - 1s));
  });
}

TEST_P(sleep_test, the_earlier_of_time_and_deadline_ends_it) {
  run([] {
    const result<> cut = sleep(with_timeout(context::background(), 1ms), 1h);
    ASSERT_FALSE(cut);
    EXPECT_TRUE(cut.error().is(errc::deadline_exceeded));
    EXPECT_TRUE(sleep(with_timeout(context::background(), 1h), 1ms));
  });
}

TEST_P(sleep_test, for_good_ends_with_the_context) {
  run([] {
    EXPECT_FALSE(sleep(with_timeout(context::background(), 1ms), clock::duration::max()));
    EXPECT_FALSE(sleep_until(with_timeout(context::background(), 1ms), no_deadline));
  });
}

TEST(sleep_on_threads, works_without_a_fiber) {
  const auto start = clock::now();
  EXPECT_TRUE(sleep(context::background(), 1ms));
  EXPECT_GE(clock::now() - start, 1ms);
  auto [ctx, cancel] = with_cancel(context::background());
  std::thread sleeper{[&end = ctx] { EXPECT_FALSE(sleep(end, 1h)); }};
  cancel();
  sleeper.join();
}

EXEUNT_EXPLORED(sleep_test);

// The destructors of statics run when the default runtime has stopped: nobody fires timers then.
TEST(sleep_at_exit, needs_no_runtime) {
  if (test::child::body() == "exit") {
    std::atexit([] {
      sleep(1us);
      sleep_until(clock::now() + 1us);
      auto [ctx, cancel] = with_cancel(context::background());
      EXPECT_TRUE(sleep(ctx, 1us));
      EXPECT_FALSE(sleep(with_timeout(ctx, 1us), 24h));
      EXPECT_EQ(select(on_recv(chan<int>{nullptr}, [] {}), after(1us, [] {})), 1U);
      test::say("slept");
    });
    chan<void> started;
    go([=] { started.send(); });
    EXPECT_TRUE(started.recv());
    std::exit(0);
  }
  test::child sleeper{"exit"};
  EXPECT_EQ(sleeper.finish(), 0) << sleeper.output();
  EXPECT_NE(sleeper.output().find("slept"), std::string::npos) << sleeper.output();
  EXPECT_EQ(sleeper.output().find("Failure"), std::string::npos) << sleeper.output();
}

// A claim by the thread's own clock races with one by the context.
TEST(sleep_on_a_thread, ends_once_though_a_cancel_comes_with_the_deadline) {
  for (int round = 0; round < 500; ++round) {
    auto [ctx, cancel] = with_cancel(context::background());
    std::thread sleeper{[its = context{ctx}] {
      const auto ended = sleep(its, 20us);
      EXPECT_TRUE(ended || ended.error().is(errc::canceled));
    }};
    const auto until = clock::now() + 20us;
    while (clock::now() < until) std::this_thread::yield();
    cancel();
    sleeper.join();
  }
}

}  // namespace
}  // namespace exeunt
