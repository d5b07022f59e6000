// SPDX-License-Identifier: Apache-2.0
// detail: where an exception that nobody caught becomes an error with its stack.

#pragma once

#include <optional>
#include <type_traits>

#include <exeunt/base/error.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>

namespace exeunt::detail {

/// Calls `body`. An exception that leaves it comes back as an error that holds the exception, its
/// type and the stack where it was thrown. Forced unwinding (pthread_cancel) passes through.
[[nodiscard]] EXEUNT_API std::optional<error> call_caught(function_ref<void()> body);

class timer_queue;

/// Gives an error nobody waits for to the current runtime's panic handler, and counts it.
EXEUNT_API void report_panic(const error& what) noexcept;
/// The same with that of the runtime `home`, unless that is null or has stopped.
EXEUNT_API void report_panic_in(timer_queue* home, const error& what) noexcept;

}  // namespace exeunt::detail
