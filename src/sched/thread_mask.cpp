// SPDX-License-Identifier: Apache-2.0
// Masks of threads. A program that a fiber starts inherits its thread's, and must be as easy to end
// as if main() had started it.
// Tests: tests/sched/thread_mask_test.cpp, exec_test.cpp.

#include "sched/thread_mask.hpp"

#include <sched.h>
#include <cstdint>
#include <exception>
#include <fstream>
#include <string>

#include "sched/current.hpp"

namespace exeunt::sched {

namespace {

constexpr int first_realtime = 32;  // Programs that mean to block everything need not block these.

bool blocks_everything(const sigset_t& mask) noexcept {
  for (int number = 1; number < first_realtime; ++number) {
    if (number == SIGKILL || number == SIGSTOP) continue;
    if (sigismember(&mask, number) == 0) return false;
  }
  return true;
}

// The leader's, whichever thread reads it; empty if unknown, as a shell starts programs.
sigset_t mask_of_main_thread_now() noexcept {
  sigset_t mask;
  sigemptyset(&mask);
  try {
    std::ifstream status{"/proc/self/status"};
    for (std::string line; std::getline(status, line);) {
      if (!line.starts_with("SigBlk:")) continue;
      // As the kernel counts: bit 0 is signal 1.
      const std::uint64_t bits = std::stoull(line.substr(line.find(':') + 1), nullptr, 16);
      for (int number = 1; number <= 64; ++number) {
        if ((bits >> (number - 1) & 1U) != 0) sigaddset(&mask, number);
      }
      break;
    }
  } catch (const std::exception&) {
    sigemptyset(&mask);
  }
  return mask;
}

// A thread that blocks everything mostly does so for a moment, inside pthread_create() and the
// like: the mask that is meant is not to be seen then, but will be at once. A main thread that
// still does at the last look means it.
sigset_t mask_of_main_thread() noexcept {
  constexpr int looks_max = 1000;  // Of some 10 us each.
  sigset_t mask = mask_of_main_thread_now();
  for (int i = 1; i < looks_max && blocks_everything(mask); ++i) {
    ::sched_yield();
    mask = mask_of_main_thread_now();
  }
  return mask;
}

}  // namespace

sigset_t mask_of_users() noexcept {
  sigset_t mask;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
  return blocks_everything(mask) ? mask_of_main_thread() : mask;
}

void take_mask(const sigset_t& users) noexcept {
  this_thread().hides_broken_pipes = sigismember(&users, SIGPIPE) == 0;
  sigset_t mask = users;
  sigaddset(&mask, SIGPIPE);
  ::pthread_sigmask(SIG_SETMASK, &mask, nullptr);
}

}  // namespace exeunt::sched
