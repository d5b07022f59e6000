// SPDX-License-Identifier: Apache-2.0
// What the environment says about explorations, and how a command is told that repeats one.

#pragma once

#include <exeunt/sim/explore.hpp>

namespace exeunt::sim {

/// `options` as EXEUNT_SIM_SCHEDULES and EXEUNT_SIM_SEED would have them.
/// Throws: std::invalid_argument for one that is no number.
[[nodiscard]] explore_options as_environment_has_it(explore_options options);

}  // namespace exeunt::sim
