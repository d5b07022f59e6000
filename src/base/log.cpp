// SPDX-License-Identifier: Apache-2.0
// The log: one lock, one sink, whole records.
//
// Invariants:
//   I1  A record reaches the sink whole and alone.
// Locks: log_lock is a leaf; the sink is called under it and must not log.
// Tests: tests/base/log_test.cpp.

#include <exeunt/base/log.hpp>

#include <unistd.h>
#include <cerrno>
#include <string>

#include <exeunt/base/race.hpp>
#include <exeunt/base/spin_lock.hpp>

namespace exeunt {

namespace {

detail::spin_lock log_lock;
log_sink sink_in_use = nullptr;

void write_to_stderr(std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return;  // Nobody can be told.
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

void set_log_sink(log_sink sink) noexcept {
  const detail::spin_guard guard{log_lock};
  detail::race_acquire(&log_lock);
  sink_in_use = sink;
  detail::race_release(&log_lock);
}

void log_line(std::string_view text) noexcept {
  try {
    std::string record;
    if (text.empty() || text.back() != '\n') {
      record.reserve(text.size() + 1);
      record.append(text).push_back('\n');
      text = record;
    }
    const detail::spin_guard guard{log_lock};
    detail::race_acquire(&log_lock);  // Sinks are never called concurrently.
    if (sink_in_use != nullptr) {
      sink_in_use(text);
    } else {
      const detail::race_ignore own;
      write_to_stderr(text);
    }
    detail::race_release(&log_lock);
  } catch (const std::bad_alloc&) {
    write_to_stderr(text);
  }
}

}  // namespace exeunt
