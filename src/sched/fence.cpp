// SPDX-License-Identifier: Apache-2.0
// The asymmetric fence by membarrier(2); no state but whether there is one.
// Tests: tests/sched/fence_test.cpp, sched_stress_test.cpp; for the way without membarrier(2), what
//        exeunt_test_without_membarrier() runs (cmake/room.cmake).

#include "sched/fence.hpp"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <exeunt/base/assert.hpp>

namespace exeunt::sched {

detail::atomic<bool> fences_are_asymmetric{false};

void settle_fences() noexcept {
  // A process registers once; a kernel without it, or one that forbids it, says so each time.
  static const bool has_it =
      ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0 &&
      ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
  // order: relaxed; the workers are started after it.
  fences_are_asymmetric.store(has_it, detail::memory_order_relaxed);
}

void heavy_fence() noexcept {
  detail::atomic_fence();
  if (!fences_are_asymmetric.load(detail::memory_order_relaxed)) return;
  const long done = ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
  EXEUNT_ASSERT(done == 0, "membarrier was there, and is not any more");
}

}  // namespace exeunt::sched
