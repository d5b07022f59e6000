// SPDX-License-Identifier: Apache-2.0
//
// Where an exception that escapes a boundary was thrown: its stack is gone when it is caught, so it
// is recorded while the unwinder looks for a handler; and how to print such a stack.
#pragma once

#include <string>
#include <typeinfo>

namespace exeunt::arch {

/// The return addresses of a throw, innermost first.
struct throw_trace {
  static constexpr int max = 48;
  int depth = 0;
  void* pc[max];
};

/// Calls fn(arg). An exception that leaves fn goes on to the caller, who catches it; before
/// anything is unwound, the stack from the throw up to this call is recorded in `*trace`. A later
/// exception overwrites the record; one caught inside fn leaves it alone, and so does a forced
/// unwind (pthread_cancel), which just passes. A `throw;` records where it stands.
/// Throws: what fn throws.
void call_tracing(void (*fn)(void*), void* arg, throw_trace* trace);

/// Returns: one line per address, `  #0 function+0x1c (binary+0x4f2c)\n`, without the frames of the
///     C++ runtime that did the throwing.
/// Threads: any; allocates; not for signal handlers.
[[nodiscard]] std::string format_trace(void* const* pcs, int depth);

/// Returns: the type's name as it is written in C++.
[[nodiscard]] std::string demangled_type_name(const std::type_info& type);

}  // namespace exeunt::arch
