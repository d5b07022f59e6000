// SPDX-License-Identifier: Apache-2.0
// Which signals are blocked on the threads that run users' code: workers, and those of blocking().

#pragma once

#include <csignal>

namespace exeunt::sched {

/// The mask for the threads of a runtime that is made here and now: the caller's, as for any thread
/// it would start. A caller that blocks everything, such as a thread of ours that only serves
/// signals, is no model: then it is the main thread's.
[[nodiscard]] sigset_t mask_of_users() noexcept;

/// Gives the calling thread `users`, and SIGPIPE blocked: a write to a socket must not end the
/// process. A child that it forks has SIGPIPE as `users` has it, see watch_forks().
void take_mask(const sigset_t& users) noexcept;

}  // namespace exeunt::sched
