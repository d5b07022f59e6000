// SPDX-License-Identifier: Apache-2.0
// The calls of a runtime's switch hooks.

#pragma once

#include <exeunt/sched/runtime.hpp>

#include "sched/fiber_locals.hpp"

namespace exeunt::sched {

/// For a fiber that the caller is about to start: its state, on which the start hooks have been
/// called. Null if there are no hooks. Throws: std::bad_alloc.
[[nodiscard]] fiber_locals_ptr start_hooks(const runtime_options& options);

/// On the worker that is about to run `next`, as soon as nobody else does.
[[gnu::cold]] void run_enter_hooks(fiber& next, const runtime_options& options) noexcept;
/// On the worker that runs `self`, before others may run it.
[[gnu::cold]] void run_leave_hooks(fiber& self, const runtime_options& options) noexcept;

/// On the fiber at its end: leaves for the last time, and ends.
void end_hooks(fiber& self) noexcept;
/// For a fiber that never ran, and never will.
void drop_hooks(fiber& never_run) noexcept;

}  // namespace exeunt::sched
