// SPDX-License-Identifier: Apache-2.0
// Saying what goes on while the process is made to end, however stuck it is.

#pragma once

#include <chrono>
#include <string>

namespace exeunt::os {

/// Prints `headline`, what the exit reporters say if `with_reporters`, and every fiber, but no
/// longer than `limit`: a thread of its own does it, and is left behind if it hangs.
///
/// Blocks:  the thread, up to `limit`. Threads: not for fibers.
void print_report(std::string headline, bool with_reporters,
                  std::chrono::milliseconds limit) noexcept;

/// Writes `text` to stderr if that takes it at once. Async-signal-safe.
void write_if_possible(const char* text) noexcept;

}  // namespace exeunt::os
