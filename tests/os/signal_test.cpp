// SPDX-License-Identifier: Apache-2.0

#include <exeunt/os/signal.hpp>

#include <gtest/gtest.h>

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#include <atomic>
#include <chrono>
#include <csignal>
#include <semaphore>
#include <thread>
#include <utility>
#include <vector>

#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>

#include "os/raised.hpp"
#include "support/child.hpp"
#include "support/on_workers.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using test::child;
using test::raise_at_once;
using test::raise_here;
using test::settle;

// The tests of this program, these and those of signal_child_test.cpp, are about the usual effects,
// whatever it was started with: nohup, or a shell that runs it in the background, lets some be
// ignored. A child's come from its parent.
class usual_effects : public ::testing::Environment {
 public:
  void SetUp() override {
    if (!child::body().empty()) return;
    for (const int number : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE}) ::signal(number, SIG_DFL);
  }
};
const auto* const effects = ::testing::AddGlobalTestEnvironment(new usual_effects);

bool is_default(int number) {
  struct sigaction now{};
  ::sigaction(number, nullptr, &now);
  return (now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler == SIG_DFL;
}

class os_signal_test : public test::on_workers {};

// SG-01: each arrives, also at those who asked for all; a full channel blocks nobody.
TEST_P(os_signal_test, SG_01_delivers_and_never_blocks) {
  run([] {
    chan<int> one{1};
    auto to_one = signal::notify(one, {SIGHUP});
    raise_here(SIGHUP);
    EXPECT_EQ(*one.recv(), SIGHUP);

    chan<int> all{10};
    auto to_all = signal::notify(all);
    raise_here(SIGWINCH);
    EXPECT_EQ(*all.recv(), SIGWINCH);
    for (int i = 0; i < 3; ++i) {
      raise_here(SIGHUP);
      EXPECT_EQ(*all.recv(), SIGHUP);
    }
    EXPECT_EQ(*one.recv(), SIGHUP);
    settle();
    EXPECT_EQ(one.try_recv(), std::nullopt);
  });
}

// SG-03: after reset or ignore nothing comes to the old channels.
TEST_P(os_signal_test, SG_03_reset_and_ignore_silence) {
  run([] {
    for (const bool by_reset : {true, false}) {
      chan<int> window{1};
      chan<int> hangup{1};
      auto to_window = signal::notify(window, {SIGWINCH});
      auto to_hangup = signal::notify(hangup, {SIGHUP});
      raise_here(SIGWINCH);
      raise_here(SIGHUP);
      EXPECT_EQ(*window.recv(), SIGWINCH);
      EXPECT_EQ(*hangup.recv(), SIGHUP);
      by_reset ? signal::reset({SIGWINCH, SIGHUP}) : signal::ignore({SIGWINCH, SIGHUP});
      raise_here(SIGWINCH);
      if (!by_reset) raise_at_once(SIGHUP);
      settle();
      EXPECT_EQ(window.try_recv(), std::nullopt);
      EXPECT_EQ(hangup.try_recv(), std::nullopt);
      signal::reset({SIGWINCH, SIGHUP});
    }
  });
}

// SG-04
TEST_P(os_signal_test, SG_04_tells_what_is_ignored) {
  run([] {
    chan<int> window{1};
    auto to_window = signal::notify(window, {SIGWINCH});
    EXPECT_FALSE(signal::ignored(SIGWINCH));
    to_window.stop();
    signal::ignore({SIGWINCH});
    EXPECT_TRUE(signal::ignored(SIGWINCH));
    signal::reset();
    EXPECT_FALSE(signal::ignored(SIGWINCH));
    EXPECT_FALSE(signal::ignored(0));
  });
}

// SG-05: after stop nothing is delivered, late ones of these kinds do not kill, and again works.
TEST_P(os_signal_test, SG_05_stop_ends_delivery) {
  run([] {
    for (const int number : {SIGWINCH, SIGHUP, SIGUSR1}) {
      chan<int> got{1};
      for (int again = 0; again < 2; ++again) {
        auto subscription = signal::notify(got, {number});
        raise_here(number);
        EXPECT_EQ(*got.recv(), number);
        subscription.stop();
        if (number != SIGHUP) raise_at_once(number);
        settle();
        EXPECT_EQ(got.try_recv(), std::nullopt);
      }
    }
    EXPECT_TRUE(is_default(SIGHUP));
    EXPECT_TRUE(is_default(SIGWINCH));
    signal::reset({SIGUSR1});
    EXPECT_TRUE(is_default(SIGUSR1));
  });
}

// SG-07
TEST_P(os_signal_test, SG_07_delivers_cont) {
  run([] {
    chan<int> got{1};
    auto subscription = signal::notify(got, {SIGCONT});
    raise_here(SIGCONT);
    EXPECT_EQ(*got.recv(), SIGCONT);
  });
}

// SG-09: one and ten at once end the context; more do not kill while it is not stopped.
TEST_P(os_signal_test, SG_09_context_ends_at_the_first) {
  run([] {
    for (const int times : {1, 10}) {
      auto [ctx, stop] = signal::notify_context(context::background(), {SIGINT});
      EXPECT_FALSE(ctx.err().has_value());
      for (int i = 0; i < times; ++i) raise_at_once(SIGINT);
      ctx.wait();
      EXPECT_TRUE(ctx.err()->is(errc::canceled));
      EXPECT_EQ(cause(ctx)->signal(), SIGINT);
      EXPECT_EQ(cause(ctx)->message(), error::from_signal(SIGINT).message());
      EXPECT_EQ(exit_code(fail(*cause(ctx))), 0);
      raise_at_once(SIGINT);
      settle();
    }
  });
}

// SG-10
TEST_P(os_signal_test, SG_10_stop_ends_the_context) {
  run([] {
    signal::ignore({SIGHUP});
    EXPECT_TRUE(signal::ignored(SIGHUP));
    {
      auto [ctx, stop] = signal::notify_context(context::background(), {SIGHUP});
      EXPECT_FALSE(signal::ignored(SIGHUP));
      stop();
      EXPECT_TRUE(ctx.err()->is(errc::canceled));
      EXPECT_EQ(cause(ctx)->signal(), std::nullopt);
      stop();
    }
    EXPECT_TRUE(signal::ignored(SIGHUP));  // As it was before.
    signal::reset({SIGHUP});
    EXPECT_TRUE(is_default(SIGHUP));
  });
}

// SG-11
TEST_P(os_signal_test, SG_11_parent_ends_the_context) {
  run([] {
    auto [parent, cancel] = with_cancel(context::background());
    auto [live, stop_live] = signal::notify_context(parent, {SIGINT});
    EXPECT_FALSE(live.err().has_value());
    cancel();
    EXPECT_TRUE(live.err()->is(errc::canceled));
    auto [born_ended, stop_ended] = signal::notify_context(parent, {SIGINT});
    EXPECT_TRUE(born_ended.err()->is(errc::canceled));
  });
}

// SG-13: what the runtime and libc send to threads does not show; a child's end does not kill.
TEST_P(os_signal_test, SG_13_own_signals_stay_inside) {
  run([] {
    chan<int> interrupts{100};
    auto subscription = signal::notify(interrupts, {SIGINT});
    // Makes the C library signal every thread.
    ASSERT_EQ(::setgid(::getgid()), 0);
    raise_here(SIGCHLD);
    settle();
    EXPECT_EQ(interrupts.try_recv(), std::nullopt);
  });
}

TEST_P(os_signal_test, stop_after_the_signal_keeps_the_cause) {
  run([] {
    for (int i = 0; i < 50; ++i) {
      auto [ctx, stop] = signal::notify_context(context::background(), {SIGTERM});
      raise_at_once(SIGTERM);
      stop();
      EXPECT_EQ(cause(ctx)->signal(), SIGTERM);
    }
  });
}

// Goal: nothing is delivered after stop() has returned, and nothing is lost before it is called.
TEST_P(os_signal_test, what_was_raised_before_stop_is_there_after_it) {
  run([] {
    for (int i = 0; i < 200; ++i) {
      chan<int> got{1};
      auto subscription = signal::notify(got, {SIGUSR2});
      raise_at_once(SIGUSR2);
      subscription.stop();
      ASSERT_EQ(got.try_recv(), SIGUSR2);
    }
  });
}

// Goal: none is lost: the kernel queues real-time signals, and each comes through.
TEST_P(os_signal_test, many_arrive_each_once) {
  run([] {
    constexpr int senders = 4;
    constexpr int each = 250;
    chan<int> got{senders * each};
    const int number = SIGRTMIN + 3;
    auto subscription = signal::notify(got, {number});
    std::vector<std::thread> threads;
    for (int s = 0; s < senders; ++s) {
      threads.emplace_back([number] {
        for (int i = 0; i < each; ++i) {
          sigval nothing{};
          while (::sigqueue(::getpid(), number, nothing) != 0) std::this_thread::yield();
        }
      });
    }
    for (std::thread& one : threads) one.join();
    for (int i = 0; i < senders * each; ++i) EXPECT_EQ(*got.recv(), number);
    settle();
    EXPECT_EQ(got.try_recv(), std::nullopt);
  });
}

TEST_P(os_signal_test, several_subscriptions_of_one_channel) {
  run([] {
    chan<int> got{4};
    auto first = signal::notify(got, {SIGUSR1});
    auto second = signal::notify(got, {SIGUSR2});
    raise_here(SIGUSR1);
    EXPECT_EQ(*got.recv(), SIGUSR1);
    first.stop();
    raise_here(SIGUSR2);
    EXPECT_EQ(*got.recv(), SIGUSR2);
    first = std::move(second);  // Moving leaves the subscription alive.
    raise_here(SIGUSR2);
    EXPECT_EQ(*got.recv(), SIGUSR2);
  });
}

TEST_P(os_signal_test, a_closed_channel_takes_nothing) {
  run([] {
    chan<int> closed{1};
    chan<int> open{1};
    auto to_closed = signal::notify(closed, {SIGUSR1});
    closed.close();
    auto to_open = signal::notify(open, {SIGUSR1});  // Orders the close before the delivery.
    raise_here(SIGUSR1);
    EXPECT_EQ(*open.recv(), SIGUSR1);
  });
}

TEST(os_signal, works_without_any_runtime) {
  chan<int> got{1};
  auto subscription = signal::notify(got, {SIGUSR1});
  raise_here(SIGUSR1);
  EXPECT_EQ(*got.recv(), SIGUSR1);
}

TEST(os_signal, misuse_throws) {
  chan<int> got{1};
  EXPECT_THROW(static_cast<void>(signal::notify(chan<int>{nullptr}, {SIGINT})), panic_error);
  for (const int number : {SIGKILL, SIGSTOP, SIGSEGV, 0, -1, 65, 32}) {
    EXPECT_THROW(static_cast<void>(signal::notify(got, {number})), panic_error) << number;
  }
}

// Goal: an application thread keeps its mask, and a signal sent to it in particular is delivered.
TEST(os_signal, reaches_a_thread_that_blocks_nothing) {
  chan<int> got{1};
  auto subscription = signal::notify(got, {SIGUSR1});
  std::binary_semaphore done{0};
  std::thread application{[&] { done.acquire(); }};
  ASSERT_EQ(::pthread_kill(application.native_handle(), SIGUSR1), 0);
  EXPECT_EQ(*got.recv(), SIGUSR1);
  done.release();
  application.join();
}

// Goal: it is delivered even if every thread of the application blocks it.
TEST(os_signal, arrives_though_every_other_thread_blocks_it) {
  sigset_t one;
  sigset_t before;
  ::sigemptyset(&one);
  ::sigaddset(&one, SIGUSR1);
  ::pthread_sigmask(SIG_BLOCK, &one, &before);
  chan<int> got{1};
  auto subscription = signal::notify(got, {SIGUSR1});
  raise_here(SIGUSR1);
  EXPECT_EQ(*got.recv(), SIGUSR1);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

// A handler of the application's is back when nobody subscribes.
std::atomic<int> former_calls{0};

TEST(os_signal, gives_a_former_handler_back) {
  struct sigaction own{};
  struct sigaction before{};
  own.sa_handler = [](int) { ++former_calls; };
  former_calls = 0;
  ASSERT_EQ(::sigaction(SIGPWR, &own, &before), 0);
  chan<int> got{1};
  auto subscription = signal::notify(got, {SIGPWR});
  ::raise(SIGPWR);
  EXPECT_EQ(*got.recv(), SIGPWR);
  EXPECT_EQ(former_calls, 0);
  subscription.stop();
  ::raise(SIGPWR);
  EXPECT_EQ(former_calls, 1);
  ::sigaction(SIGPWR, &before, nullptr);
}

EXEUNT_ON_WORKERS(os_signal_test);

}  // namespace
}  // namespace exeunt
