// SPDX-License-Identifier: Apache-2.0
// The slow path of the spin lock: pause, and give the processor up if that does not help.
// Tests: tests/base/spin_lock_test.cpp.

#include <exeunt/base/spin_lock.hpp>

#include <sched.h>

namespace exeunt::detail {

void spin_lock::lock_slowly() noexcept {
  // A critical section is some 20 ns long and a cache line's journey 113 ns there and back
  // (docs/benchmarks.md), so 64 pauses of some 20 ns cover a holder that is running. After that
  // the holder's thread has most likely been put aside by the kernel.
  constexpr int pauses_before_yield = 64;
  for (;;) {
    for (int i = 0; i < pauses_before_yield; ++i) {
      // order: relaxed look, then acquire as in lock().
      if (held_.load(memory_order_relaxed) == 0 && held_.exchange(1, memory_order_acquire) == 0)
        return;
      cpu_relax();
    }
    ::sched_yield();
  }
}

}  // namespace exeunt::detail
