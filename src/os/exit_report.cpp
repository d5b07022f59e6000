// SPDX-License-Identifier: Apache-2.0
// The report of a forced exit: who is in flight, printed by a thread that nothing can stop.
//
// Invariants:
//   I1  An entry's `describe` is not called once its exit_reporter's destructor has returned.
// Locks: reporters_lock guards the list; an entry's own lock is held while it describes, so that
//   its owner's destructor waits for it. None is taken by the thread that will exit.
// Tests: tests/os/exit_report_test.cpp.

#include "os/exit_report.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <exeunt/base/log.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/os/signal.hpp>
#include <exeunt/sched/runtime.hpp>

#include "os/signal_dispatcher.hpp"

namespace exeunt::detail {

struct exit_reporter::entry : ref_counted {
  void release() const noexcept {
    if (drop()) delete this;
  }

  std::mutex describing;
  unique_function<std::string()> describe;
};

struct exit_reporters {
  using entry = exit_reporter::entry;

  // Never destroyed: the report may be under way when the process's statics go.
  static exit_reporters& all() noexcept {
    static exit_reporters* const instance = [] {
      auto* const made = new exit_reporters;
      race_release(made);
      return made;
    }();
    race_acquire(instance);  // Or its lock's first use would look like a race with its making.
    return *instance;
  }

  void print() {
    std::vector<ref_ptr<entry>> now;
    {
      const std::lock_guard guard{lock};
      now = entries;
    }
    for (const auto& one : now) {
      const std::lock_guard guard{one->describing};
      if (!one->describe) continue;
      const std::string text = one->describe();
      if (!text.empty()) log_line(text);
    }
  }

  std::mutex lock;
  std::vector<ref_ptr<entry>> entries;
};

exit_reporter::exit_reporter(unique_function<std::string()> describe)
    : entry_{ref_ptr<entry>::adopt(new entry)} {
  entry_->describe = std::move(describe);
  exit_reporters& all = exit_reporters::all();
  const std::lock_guard guard{all.lock};
  all.entries.push_back(entry_);
}

exit_reporter::~exit_reporter() {
  {
    exit_reporters& all = exit_reporters::all();
    const std::lock_guard guard{all.lock};
    std::erase(all.entries, entry_);
  }
  const std::lock_guard guard{entry_->describing};
  entry_->describe = nullptr;  // I1
}

}  // namespace exeunt::detail

namespace exeunt::os {

void write_if_possible(const char* text) noexcept {
  pollfd room{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (::poll(&room, 1, 0) != 1 || (room.revents & POLLOUT) == 0) return;
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, std::strlen(text));
}

void print_report(std::string headline, bool with_reporters,
                  std::chrono::milliseconds limit) noexcept {
  // For the printer, and so that further signals do not interrupt the wait for it.
  const detail::all_signals_blocked blocked;
  const int done = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  try {
    std::thread printer{[headline = std::move(headline), with_reporters, done] {
      try {
        log_line(headline);
        if (with_reporters) detail::exit_reporters::all().print();
        log_line(dump_fibers());
      } catch (...) {
        log_line("(the report ends here: an exception)");
      }
      const std::uint64_t one = 1;
      [[maybe_unused]] const auto written = ::write(done, &one, sizeof one);
    }};
    printer.detach();
  } catch (...) {
    write_if_possible("(no report: no thread for it)\n");
    return;
  }
  pollfd finished{.fd = done, .events = POLLIN, .revents = 0};
  if (::poll(&finished, done >= 0 ? 1 : 0, static_cast<int>(limit.count())) != 1) {
    write_if_possible("(the report is cut short)\n");
    return;  // The printer may still use the eventfd.
  }
  // Reading says to the race detector what poll() does not: the printer has come to its end.
  std::uint64_t one = 0;
  [[maybe_unused]] const auto got = ::read(done, &one, sizeof one);
  ::close(done);
}

}  // namespace exeunt::os
