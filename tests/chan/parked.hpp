// SPDX-License-Identifier: Apache-2.0
// Waits for facts of the scheduler's, in place of sleeping and hoping.

#pragma once

#include <algorithm>
#include <cstddef>

#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sched/wait.hpp>

namespace exeunt::test {

/// How many fibers of `workers` are parked for this reason.
inline std::size_t parked(const runtime& workers, detail::wait_reason why) {
  const auto all = workers.fibers();
  return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [why](const auto& one) {
    return one.state == fiber_info::run_state::parked && one.waits_for == detail::to_string(why);
  }));
}

/// Gives way until so many fibers of the current runtime are parked for this reason.
inline void until_parked(std::size_t count, detail::wait_reason why) {
  while (parked(runtime::current(), why) < count) yield();
}

}  // namespace exeunt::test
