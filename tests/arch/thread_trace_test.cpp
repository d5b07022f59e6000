// SPDX-License-Identifier: Apache-2.0
#include "arch/thread_trace.hpp"

#include <gtest/gtest.h>

#include <sys/syscall.h>
#include <unistd.h>
#include <atomic>
#include <chrono>
#include <csignal>
#include <string>
#include <thread>

#include "arch/throw_trace.hpp"

namespace exeunt::arch {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

#if !EXEUNT_TSAN  // It keeps signals back until the thread makes a call that it knows.
std::atomic<int> spinner{0};
std::atomic<bool> over{false};

[[gnu::noinline]] void spins_until_told() {
  spinner = static_cast<int>(::syscall(SYS_gettid));
  while (!over) {
  }
}

// Goal:   the innermost frames are those of what the thread does, and the program's own handler
//         for the signal is there again afterwards.
// Method: a thread that spins in a function whose name can be found.
TEST(thread_trace, shows_what_another_thread_does) {
  struct sigaction before{};
  before.sa_handler = [](int) {};
  ASSERT_EQ(::sigaction(SIGURG, &before, nullptr), 0);
  std::thread other{spins_until_told};
  while (spinner == 0) std::this_thread::yield();
  for (int i = 0; i < 3; ++i) {
    void* pcs[16];
    const int depth = trace_thread(spinner, pcs, 16, seconds{10});
    ASSERT_GT(depth, 1);
    const std::string text = format_trace(pcs, depth);
    EXPECT_NE(text.find("spins_until_told"), std::string::npos) << text;
    EXPECT_EQ(text.find("answer"), std::string::npos) << text;
  }
  over = true;
  other.join();
  struct sigaction now{};
  ASSERT_EQ(::sigaction(SIGURG, nullptr, &now), 0);
  EXPECT_EQ(now.sa_handler, before.sa_handler);
  ::signal(SIGURG, SIG_DFL);
}
#endif

TEST(thread_trace, a_thread_that_is_gone_has_no_stack) {
  std::atomic<int> id{0};
  std::thread{[&] { id = static_cast<int>(::syscall(SYS_gettid)); }}.join();
  void* pcs[4];
  EXPECT_EQ(trace_thread(id, pcs, 4, seconds{10}), 0);
}

// Goal:   whoever does not answer holds nobody up.
// Method: a thread that blocks the signal.
TEST(thread_trace, waits_no_longer_than_told) {
  std::atomic<int> id{0};
  std::atomic<bool> end{false};
  std::thread deaf{[&] {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
    id = static_cast<int>(::syscall(SYS_gettid));
    while (!end) std::this_thread::yield();
  }};
  while (id == 0) std::this_thread::yield();
  void* pcs[4];
  EXPECT_EQ(trace_thread(id, pcs, 4, milliseconds{1}), 0);
  end = true;
  deaf.join();
}

}  // namespace
}  // namespace exeunt::arch
