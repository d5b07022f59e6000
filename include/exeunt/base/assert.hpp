// SPDX-License-Identifier: Apache-2.0
// Assertions that stay on in every build. A broken invariant ends the process, loudly.

#pragma once

#include <exeunt/base/export.hpp>

namespace exeunt::detail {

/// Reports the failed condition, the place, the running fiber if there is one, and aborts.
[[noreturn, gnu::cold]] EXEUNT_API void assert_failed(const char* condition, const char* file,
                                                      int line, const char* message) noexcept;

/// Reports misuse that nobody can repair (what Go calls a fatal error), and aborts.
[[noreturn, gnu::cold]] EXEUNT_API void fatal(const char* message) noexcept;

/// Writes what is running here (the fiber's name and origin) to a report; set by the scheduler.
using describe_running_fn = void (*)(char* buffer, unsigned long size) noexcept;
EXEUNT_API void set_describe_running(describe_running_fn describe) noexcept;

}  // namespace exeunt::detail

/// Checks `condition` in all builds: EXEUNT_ASSERT(count > 0, "why it must hold").
#define EXEUNT_ASSERT(condition, ...)                \
  (__builtin_expect(static_cast<bool>(condition), 1) \
       ? static_cast<void>(0)                        \
       : ::exeunt::detail::assert_failed(#condition, __FILE__, __LINE__, "" __VA_ARGS__))

/// As EXEUNT_ASSERT, but only in dev, sanitizer and sim builds: for checks that walk a structure.
#ifdef EXEUNT_DCHECKS
#define EXEUNT_DCHECK(condition, ...) EXEUNT_ASSERT(condition, __VA_ARGS__)
#else
#define EXEUNT_DCHECK(condition, ...) static_cast<void>(sizeof(static_cast<bool>(condition)))
#endif

/// A place that control never reaches; aborts in every build.
#define EXEUNT_UNREACHABLE(message) \
  ::exeunt::detail::assert_failed("unreachable", __FILE__, __LINE__, message)
