// SPDX-License-Identifier: Apache-2.0
//
// The state of exception handling that the C++ ABI keeps per thread and that must belong to a
// fiber: the stack of exceptions being handled, and the number of those in flight. Moving it along
// lets a fiber park in a catch block or in a destructor during unwinding, and go on elsewhere.
#pragma once

namespace exeunt::arch {

/// What __cxa_get_globals() points at; a fiber owns one while it does not run.
struct eh_state {
  void* caught = nullptr;
  unsigned uncaught = 0;
};

/// Returns: the address of the exception state of the thread that runs the call.
/// Threads: the result is of this thread only: ask again after every switch. The call is opaque to
///     the optimizer, which would otherwise keep the first answer, as __cxa_get_globals() and the
///     address of a thread-local are constants in its eyes.
[[nodiscard]] void* eh_globals() noexcept;

/// Copies the thread's state at `globals` into `state`, before a fiber is left.
inline void eh_save(const void* globals, eh_state& state) noexcept {
  state = *static_cast<const eh_state*>(globals);
}

/// Makes `state` the thread's, after a fiber has been entered.
inline void eh_load(void* globals, const eh_state& state) noexcept {
  *static_cast<eh_state*>(globals) = state;
}

}  // namespace exeunt::arch
