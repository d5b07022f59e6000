// SPDX-License-Identifier: Apache-2.0
// How the process ends when an invariant is broken: one report on stderr, then abort().

#include <exeunt/base/assert.hpp>

#include <unistd.h>
#include <cstdio>
#include <cstdlib>

#include <exeunt/base/atomic.hpp>

namespace exeunt::detail {

namespace {

atomic<describe_running_fn> describe_running{nullptr};

void report(const char* text) noexcept {
  char where[256] = "";
  // order: acquire, pairs with set_describe_running(); the function's own data is set before.
  if (const auto describe = describe_running.load(memory_order_acquire)) {
    describe(where, sizeof where);
  }
  char line[1024];
  const int length =
      where[0] == '\0'
          ? std::snprintf(line, sizeof line, "exeunt: fatal: %s\n", text)
          : std::snprintf(line, sizeof line, "exeunt: fatal: %s\n  in %s\n", text, where);
  // Not through the log: its lock may be held by the very code that failed.
  if (length > 0) {
    const auto size = static_cast<std::size_t>(length) < sizeof line
                          ? static_cast<std::size_t>(length)
                          : sizeof line - 1;
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line, size);
  }
}

}  // namespace

void set_describe_running(describe_running_fn describe) noexcept {
  describe_running.store(describe, memory_order_release);  // order: see report().
}

void fatal(const char* message) noexcept {
  report(message);
  std::abort();
}

void assert_failed(const char* condition, const char* file, int line,
                   const char* message) noexcept {
  char text[640];
  std::snprintf(text, sizeof text, "%s:%d: %s%s%s", file, line, condition,
                *message == '\0' ? "" : ": ", message);
  report(text);
  std::abort();
}

}  // namespace exeunt::detail
