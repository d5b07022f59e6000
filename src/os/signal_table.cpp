// SPDX-License-Identifier: Apache-2.0
// The dispositions of signals, with what there was before kept for its return.
//
// Invariants:
//   I1  entry.installed  <=>  the bit in installed_  =>  entry.known.
//   I2  entry.original never changes once known. Neither it nor entry.former is our own handler.
// Tests: tests/os/signal_test.cpp, signal_child_test.cpp.

#include "os/signal_table.hpp"

#include <cstdio>
#include <cstring>
#include <string>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/error.hpp>
#include <exeunt/base/race.hpp>

#ifdef EXEUNT_HAS_TSAN
extern "C" int __sigaction(int number, const struct sigaction* to, struct sigaction* before);
#endif

namespace exeunt::os {

namespace {

// ThreadSanitizer puts handlers off until their thread makes a call that it knows, and a worker
// that sleeps, or the thread in run(), makes none. Ours touches nothing that it watches, so it may
// run at once, by the C library's other name for the call.
int change_action(int number, const struct sigaction* to, struct sigaction* before) noexcept {
#ifdef EXEUNT_HAS_TSAN
  return ::__sigaction(number, to, before);
#else
  return ::sigaction(number, to, before);
#endif
}

bool may_be_caught(int number) noexcept {
  switch (number) {
    case SIGKILL:
    case SIGSTOP:
    // Faults of the running code: there is nothing to return to.
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGTRAP:
    case SIGSYS:
    case SIGABRT:
    // The C library's own: thread cancellation and set*id().
    case 32:
    case 33:
      return false;
    default:
      return number > 0 && number < signal_count;
  }
}

// Ends the process by default although nobody sends it but by agreement.
bool only_by_agreement(int number) noexcept {
  switch (number) {
    case SIGUSR1:
    case SIGUSR2:
    case SIGALRM:
    case SIGVTALRM:
    case SIGPROF:
    case SIGIO:
    case SIGPWR:
    case SIGXCPU:
    case SIGXFSZ:
    case SIGSTKFLT:
      return true;
    default:
      return number > 33;  // The real-time ones.
  }
}

bool is_plain(const struct sigaction& action, void (*value)(int)) noexcept {
  return (action.sa_flags & SA_SIGINFO) == 0 && action.sa_handler == value;
}

}  // namespace

signal_set checked_set(std::span<const int> numbers) {
  signal_set set;
  for (const int number : numbers) {
    if (!may_be_caught(number)) {
      throw panic_error{"signal " + std::to_string(number) + " cannot be caught"};
    }
    set.set(static_cast<std::size_t>(number));
  }
  if (!numbers.empty()) return set;
  for (int number = 1; number < signal_count; ++number) {
    if (may_be_caught(number)) set.set(static_cast<std::size_t>(number));
  }
  return set;
}

bool is_ignored(int number) noexcept {
  struct sigaction now{};
  return change_action(number, nullptr, &now) == 0 && is_plain(now, SIG_IGN);
}

void signal_table::remember(int number) noexcept {
  entry& e = entry_of(number);
  if (e.known) return;
  EXEUNT_ASSERT(change_action(number, nullptr, &e.original) == 0);
  e.known = true;
}

void signal_table::install(int number, handler ours) noexcept {
  remember(number);
  entry& e = entry_of(number);
  struct sigaction action{};
  action.sa_sigaction = ours;
  // On the alternate stack if the thread has one, since a fiber's may be too small; with system
  // calls restarted, since application code does not expect otherwise.
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  ::sigfillset(&action.sa_mask);
  EXEUNT_ASSERT(change_action(number, &action, e.installed ? nullptr : &e.former) == 0);
  e.installed = true;
  installed_.set(static_cast<std::size_t>(number));
}

void signal_table::change(int number, const struct sigaction& to) noexcept {
  change_action(number, &to, nullptr);
  entry_of(number).installed = false;
  installed_.reset(static_cast<std::size_t>(number));
}

void signal_table::uninstall(int number, bool deadly) noexcept {
  const entry& e = entry_of(number);
  if (!e.installed) return;
  if (!deadly && only_by_agreement(number) && is_plain(e.former, SIG_DFL)) {
    return;  // Stays ours, and is dropped. An exec'd program gets the default, unlike with SIG_IGN.
  }
  change(number, e.former);
}

void signal_table::ignore(int number) noexcept {
  remember(number);
  struct sigaction ignoring{};
  ignoring.sa_handler = SIG_IGN;
  change(number, ignoring);
}

void signal_table::reset(int number) noexcept {
  remember(number);
  change(number, entry_of(number).original);
}

bool signal_table::had_handler(int number) const noexcept {
  const entry& e = entry_of(number);
  return e.installed && !is_plain(e.former, SIG_DFL) && !is_plain(e.former, SIG_IGN);
}

void signal_table::hand_back(int number) noexcept {
  EXEUNT_ASSERT(had_handler(number));
  change(number, entry_of(number).former);
}

const char* name_of(int number, char (&room)[16]) noexcept {
  const char* const short_name = ::sigabbrev_np(number);
  if (short_name != nullptr) {
    std::snprintf(room, sizeof room, "SIG%s", short_name);
  } else {
    std::snprintf(room, sizeof room, "signal %d", number);
  }
  return room;
}

}  // namespace exeunt::os
