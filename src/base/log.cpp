// SPDX-License-Identifier: Apache-2.0
// The log: one lock, one sink, whole records.
//
// Invariants:
//   I1  A record reaches the sink whole and alone.
// Locks: log_lock is a leaf; the sink is called under it and must neither log nor park. It is one
//   that sleeps: a sink, or a write(2) to a pipe that nobody reads, may take as long as it likes,
//   and whoever logs meanwhile must not burn a processor for it.
// Tests: tests/base/log_test.cpp.

#include <exeunt/base/log.hpp>

#include <pthread.h>
#include <unistd.h>
#include <cerrno>
#include <mutex>
#include <new>
#include <string>

#include <exeunt/base/race.hpp>

namespace exeunt {

namespace {

std::mutex log_lock;
log_sink sink_in_use = nullptr;

// The holder of the lock is not there in a forked child, which may have something to say, too.
void watch_forks() noexcept {
  [[maybe_unused]] static const int once =
      ::pthread_atfork(nullptr, nullptr, [] { ::new (&log_lock) std::mutex; });
}

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
  const std::lock_guard guard{log_lock};
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
    watch_forks();
    const std::lock_guard guard{log_lock};
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
