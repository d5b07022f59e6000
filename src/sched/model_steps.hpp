// SPDX-License-Identifier: Apache-2.0
// In core_model: makes each atomic operation of a simulation's fibers a step.

#pragma once

namespace exeunt::sched {

#ifdef EXEUNT_CORE_MODEL
/// For the rest of the process. Before anything is simulated; again: nothing.
void install_model_steps() noexcept;
#else
inline void install_model_steps() noexcept {}
#endif

}  // namespace exeunt::sched
