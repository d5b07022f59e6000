// SPDX-License-Identifier: Apache-2.0
// Waits until others wait, without a clock: a fact about the fibers, not a guess about their speed.

#pragma once

#include <cstddef>

#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sched/wait.hpp>

namespace exeunt::test {

/// Yields until `count` fibers of this runtime are parked for this reason. From a fiber.
inline void until_parked(std::size_t count, detail::wait_reason why) {
  for (;;) {
    std::size_t parked = 0;
    for (const fiber_info& fiber : runtime::current().fibers()) {
      if (fiber.state == fiber_info::run_state::parked &&
          fiber.waits_for == detail::to_string(why)) {
        ++parked;
      }
    }
    if (parked >= count) return;
    yield();
  }
}

}  // namespace exeunt::test
