// SPDX-License-Identifier: Apache-2.0
// Stack overflow on a fiber: named, and then as deadly as it would have been. SC-24.

#include "arch/fault.hpp"

#include <gtest/gtest.h>

#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "hand_fiber.hpp"

namespace exeunt::arch {
namespace {

const stack* watched = nullptr;

bool describe_watched(void* address, char* buf, std::size_t n) {
  if (watched == nullptr || !watched->guard_contains(address)) return false;
  std::snprintf(buf, n, "fiber 7 started at home.cpp:42");
  return true;
}

// Deeper than any stack here, but not endless in the compiler's eyes.
[[gnu::noinline]] int recurse(int times) {
  volatile char frame[512];
  frame[0] = 1;
  return times == 0 ? 0 : recurse(times - 1) + frame[0];
}

// Ends the process by a fiber that recurses.
void overflow() {
  stack_pool pool;
  hand_fiber fiber(pool, [](hand_fiber& self) {
    watched = &self.its_stack();
    EXPECT_GT(recurse(1'000'000), 0);
  });
  fiber.resume();
}

// How a process dies of SIGSEGV: sanitizers have handlers that report and exit instead.
bool died_of_segv(int status) {
#if EXEUNT_SAN_ADDRESS || EXEUNT_SAN_THREAD
  return status != 0;
#else
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
#endif
}

TEST(arch_fault_death_test, overflow_is_reported_with_what_describe_says) {
  EXPECT_EXIT(
      {
        install_fault_handler(describe_watched);
        ensure_alt_stack();
        overflow();
      },
      died_of_segv, "exeunt: stack overflow in fiber 7 started at home.cpp:42\n.*stack_size");
}

TEST(arch_fault_death_test, overflow_is_reported_on_other_threads) {
  EXPECT_EXIT(
      {
        install_fault_handler(describe_watched);
        std::thread worker([] {
          ensure_alt_stack();
          overflow();
        });
        worker.join();
      },
      died_of_segv, "exeunt: stack overflow in fiber 7");
}

TEST(arch_fault_death_test, other_faults_die_without_our_words) {
  EXPECT_EXIT(
      {
        install_fault_handler(
            [](void*, char*, std::size_t) { return ::write(STDERR_FILENO, "asked\n", 6) != 6; });
        ensure_alt_stack();
        static volatile std::uintptr_t nowhere = 16;
        *reinterpret_cast<volatile int*>(nowhere) = 1;
      },
      died_of_segv, "^asked\n($|[^e])");  // sanitizers and emulators go on
}

TEST(arch_fault_death_test, the_previous_handler_is_called) {
  EXPECT_EXIT(
      {
        struct sigaction own{};
        own.sa_sigaction = [](int, siginfo_t* info, void*) {
          ::_exit(info->si_addr != nullptr ? 42 : 43);
        };
        own.sa_flags = SA_SIGINFO | SA_ONSTACK;
        ::sigaction(SIGSEGV, &own, nullptr);
        install_fault_handler(describe_watched);
        ensure_alt_stack();
        overflow();
      },
      testing::ExitedWithCode(42), "stack overflow in fiber 7");
}

TEST(arch_fault_death_test, a_previous_handler_without_siginfo_is_called) {
  EXPECT_EXIT(
      {
        ::signal(SIGSEGV, [](int) { ::_exit(44); });
        install_fault_handler(describe_watched);
        ensure_alt_stack();
        overflow();
      },
      testing::ExitedWithCode(44), "stack overflow in fiber 7");
}

TEST(arch_fault_death_test, a_signal_sent_by_kill_has_its_default_action) {
  EXPECT_EXIT(
      {
        ::signal(SIGSEGV, SIG_DFL);
        install_fault_handler(describe_watched);
        ::kill(::getpid(), SIGSEGV);
        std::_Exit(0);
      },
      testing::KilledBySignal(SIGSEGV), "");
  EXPECT_EXIT(
      {
        ::signal(SIGSEGV, SIG_IGN);
        install_fault_handler(describe_watched);
        ::kill(::getpid(), SIGSEGV);
        std::_Exit(7);
      },
      testing::ExitedWithCode(7), "");
}

TEST(arch_fault, the_last_uninstall_restores_what_was_there) {
  struct sigaction before{};
  struct sigaction during{};
  struct sigaction after{};
  ::sigaction(SIGSEGV, nullptr, &before);
  install_fault_handler(describe_watched);
  install_fault_handler(describe_watched);
  ::sigaction(SIGSEGV, nullptr, &during);
  uninstall_fault_handler();
  ::sigaction(SIGSEGV, nullptr, &after);
  EXPECT_EQ(reinterpret_cast<void*>(after.sa_handler), reinterpret_cast<void*>(during.sa_handler))
      << "somebody else still wants it";
  uninstall_fault_handler();
  ::sigaction(SIGSEGV, nullptr, &after);
  EXPECT_NE(reinterpret_cast<void*>(during.sa_handler), reinterpret_cast<void*>(before.sa_handler));
  EXPECT_NE(during.sa_flags & SA_ONSTACK, 0);
  EXPECT_EQ(reinterpret_cast<void*>(after.sa_handler), reinterpret_cast<void*>(before.sa_handler));
}

bool has_alt_stack() {
  stack_t now{};
  ::sigaltstack(nullptr, &now);
  return (now.ss_flags & SS_DISABLE) == 0;
}

TEST(arch_fault, the_alternate_stack_comes_and_goes_with_its_thread) {
  if (EXEUNT_SAN_ADDRESS || EXEUNT_SAN_THREAD) GTEST_SKIP() << "sanitizers bring alternate stacks";
  std::thread([] {
    EXPECT_FALSE(has_alt_stack());
    ensure_alt_stack();
    ensure_alt_stack();
    EXPECT_TRUE(has_alt_stack());
    release_alt_stack();
    EXPECT_FALSE(has_alt_stack());
    release_alt_stack();
  }).join();
}

TEST(arch_fault, somebody_elses_alternate_stack_is_left_alone) {
  std::thread([] {
    stack_t before{};
    ::sigaltstack(nullptr, &before);
    static char memory[128 * 1024];
    stack_t own{};
    own.ss_sp = memory;
    own.ss_size = sizeof memory;
    ASSERT_EQ(::sigaltstack(&own, nullptr), 0);
    ensure_alt_stack();
    release_alt_stack();
    stack_t now{};
    ::sigaltstack(nullptr, &now);
    EXPECT_EQ(now.ss_sp, static_cast<void*>(memory));
    ::sigaltstack(&before, nullptr);
  }).join();
}

}  // namespace
}  // namespace exeunt::arch
