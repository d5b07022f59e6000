// SPDX-License-Identifier: Apache-2.0
// The stack of another thread that does not stop to be asked.
#pragma once

#include <chrono>

namespace exeunt::arch {

/// Writes the return addresses of what the thread `id` (as gettid() has it) executes now to `pcs`,
/// innermost first, as format_trace() takes them, by interrupting it with SIGURG, which programs
/// ignore. Whoever has a handler for that signal has it back afterwards. A system call in which the
/// thread waits goes on, but for the few that the kernel never restarts. Returns: how many, at most
/// `max`; 0 if the thread did not answer within `limit`: it has blocked
///     the signal, or got no processor.
/// Threads: any but that one; calls wait for each other.
int trace_thread(int id, void** pcs, int max, std::chrono::milliseconds limit) noexcept;

}  // namespace exeunt::arch
