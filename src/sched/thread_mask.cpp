// SPDX-License-Identifier: Apache-2.0
// Masks of threads. A program that a fiber starts inherits its thread's, and must be as easy to end
// as if main() had started it.
// Tests: tests/sched/thread_mask_test.cpp.

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

// As the kernel counts: bit 0 is signal 1. The leader's, whichever thread reads it; 0 if unknown.
std::uint64_t bits_of_main_thread() noexcept {
  try {
    std::ifstream status{"/proc/self/status"};
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("SigBlk:")) {
        return std::stoull(line.substr(line.find(':') + 1), nullptr, 16);
      }
    }
  } catch (const std::exception&) {
    // An empty one is as good as what a shell starts programs with.
  }
  return 0;
}

sigset_t mask_of_main_thread() noexcept {
  // The C library's own signals, which it lets nobody block, are blocked inside pthread_create()
  // and the like: then the mask that is meant is not to be seen, but will be at once.
  constexpr std::uint64_t inside_the_library = std::uint64_t{3} << 31;
  constexpr int looks_max = 10'000;
  std::uint64_t bits = bits_of_main_thread();
  for (int i = 0; (bits & inside_the_library) != 0; ++i) {
    ::sched_yield();
    bits = i < looks_max ? bits_of_main_thread() : 0;
  }
  sigset_t mask;
  sigemptyset(&mask);
  for (int number = 1; number <= 64; ++number) {
    if ((bits >> (number - 1) & 1U) != 0) sigaddset(&mask, number);
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
