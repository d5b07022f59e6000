// SPDX-License-Identifier: Apache-2.0
// The one place that asks the C++ runtime for a thread's exception state; no state of its own.

#include "arch/eh_state.hpp"

#include <cxxabi.h>

namespace exeunt::arch {

// noinline alone lets GCC see that the result is that of a const function, and merge two calls;
// noipa does not. For Clang the volatile asm has that effect, also under LTO.
#if defined(__clang__)
[[gnu::noinline]]
#else
[[gnu::noipa]]
#endif
void* eh_globals() noexcept {
  void* globals = abi::__cxa_get_globals();
  asm volatile("" : "+r"(globals) : : "memory");
  return globals;
}

}  // namespace exeunt::arch
