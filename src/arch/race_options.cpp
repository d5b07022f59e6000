// SPDX-License-Identifier: Apache-2.0
// The tool asks so early that getenv() finds nothing yet and open() is not usable: it would be
// intercepted by what is not there. The kernel's copy of the environment can be read by then.
//
// Tests: tests/arch/sanitizer_test.cpp.

#include "arch/race_options.hpp"

#if EXEUNT_SAN_THREAD

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <string_view>

namespace exeunt::arch {
namespace {

constexpr std::string_view variable = "EXEUNT_RACE=";

/// Text that ends with a zero, cut at its room.
struct line {
  char text[2048] = {};
  std::size_t length = 0;

  void add(char c) noexcept {
    if (length + 1 < sizeof text) text[length++] = c;
  }
  void add(std::string_view more) noexcept {
    for (const char c : more) add(c);
  }
};

// Goes through the environment's "name=value" byte by byte, as it may be longer than any buffer.
void add_variable(line& to) noexcept {
  const long file = ::syscall(SYS_openat, AT_FDCWD, "/proc/self/environ", O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  constexpr std::size_t other = variable.size() + 1;
  std::size_t matched = 0;  // Of the variable's name; `other`: this is another one.
  char bytes[1024];
  for (long count = 0; (count = ::syscall(SYS_read, file, bytes, sizeof bytes)) > 0;) {
    for (long i = 0; i < count; ++i) {
      const char c = bytes[i];
      if (c == '\0') {
        matched = 0;
      } else if (matched == variable.size()) {
        to.add(c);
      } else if (matched != other) {
        matched = c == variable[matched] ? matched + 1 : other;
      }
    }
  }
  ::syscall(SYS_close, file);
}

}  // namespace

const char* race_options() noexcept {
  static constinit line options;
  // Of one place the tool would report one race only, whichever of its accesses met first.
  options.add("suppress_equal_addresses=0 ");
#ifdef EXEUNT_SYMBOLIZER
  if (::syscall(SYS_faccessat, AT_FDCWD, EXEUNT_SYMBOLIZER, X_OK) == 0) {
    options.add("external_symbolizer_path=" EXEUNT_SYMBOLIZER " ");
  }
#endif
  add_variable(options);
  return options.text;
}

}  // namespace exeunt::arch

#endif
