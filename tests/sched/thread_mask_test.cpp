// SPDX-License-Identifier: Apache-2.0
// Signals blocked on workers and on the threads of blocking(), and in what these fork.

#include "sched/thread_mask.hpp"

#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#include <cstdlib>
#include <thread>

#include <exeunt/sched/blocking.hpp>
#include <exeunt/sched/runtime.hpp>

namespace exeunt {
namespace {

bool blocked_here(int number) {
  sigset_t mask;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
  return sigismember(&mask, number) == 1;
}

// Of a child that is forked here, as the program that it would execute finds it.
bool blocked_in_child(int number) {
  const pid_t forked = ::fork();
  if (forked == 0) ::_exit(blocked_here(number) ? 1 : 0);
  int status = 0;
  EXPECT_EQ(::waitpid(forked, &status, 0), forked);
  EXPECT_TRUE(WIFEXITED(status));
  return WEXITSTATUS(status) == 1;
}

// Makes a runtime on a thread that blocks `blocked`, and calls `check` in a fiber of it and in a
// blocking call of that fiber.
template <typename F>
void in_both(const sigset_t& blocked, F&& check) {
  std::thread{[&] {
    ::pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
    runtime workers{{.procs = 1}};
    workers.run([&] {
      check("in a fiber");
      blocking([&] { check("in a blocking call"); });
    });
  }}.join();
}

TEST(thread_mask, a_child_can_be_ended_as_if_main_had_started_it) {
  sigset_t none;
  sigemptyset(&none);
  in_both(none, [](const char* where) {
    EXPECT_TRUE(blocked_here(SIGPIPE)) << where;
    for (const int number : {SIGPIPE, SIGTERM, SIGINT, SIGUSR1}) {
      EXPECT_FALSE(blocked_in_child(number)) << number << " " << where;
    }
  });
}

// A program that waits for a signal in a thread of its own blocks it in main() first.
TEST(thread_mask, what_the_runtimes_maker_blocks_stays_blocked) {
  sigset_t some;
  sigemptyset(&some);
  sigaddset(&some, SIGUSR1);
  sigaddset(&some, SIGPIPE);
  in_both(some, [](const char* where) {
    EXPECT_TRUE(blocked_here(SIGUSR1)) << where;
    EXPECT_FALSE(blocked_here(SIGTERM)) << where;
    EXPECT_TRUE(blocked_in_child(SIGUSR1)) << where;
    EXPECT_TRUE(blocked_in_child(SIGPIPE)) << where;
  });
}

// Our own threads that serve signals block them all, and may be the first to need a runtime.
TEST(thread_mask, a_maker_that_blocks_everything_is_no_model) {
  if (std::getenv("EXEUNT_TEST_PROGRAM") != nullptr) {
    GTEST_SKIP() << "/proc shows the mask of qemu's own thread, which blocks everything at times";
  }
  sigset_t all;
  sigfillset(&all);
  ASSERT_FALSE(blocked_here(SIGTERM)) << "this is the main thread, the model";
  in_both(all, [](const char* where) {
    EXPECT_FALSE(blocked_here(SIGTERM)) << where;
    EXPECT_FALSE(blocked_in_child(SIGTERM)) << where;
  });
}

}  // namespace
}  // namespace exeunt
