// SPDX-License-Identifier: Apache-2.0
// Two fences that order as full ones against each other, at the cost of the rare side alone.
//
// Whoever readies fibers does it all the time and looks for sleepers afterwards; whoever goes to
// sleep does it seldom. Where the kernel has membarrier(2), the sleeper lets it put a full fence
// into every thread of the process that runs, and the other side needs none: its store is seen by
// the sleeper's look, or its look comes after the sleeper's store. A full fence costs 5 ns and
// more, the system call about a microsecond, next to the twenty that a futex takes to wake.

#pragma once

#include <exeunt/base/atomic.hpp>

namespace exeunt::sched {

/// Whether membarrier(2) serves; settled by settle_fences(), and never changes afterwards.
extern detail::atomic<bool> fences_are_asymmetric;

/// Before the first use of either fence, by every runtime. Threads: any.
void settle_fences() noexcept;

/// Of the frequent side: between its store and its look.
inline void light_fence() noexcept {
  // order: relaxed; it was settled before the threads that ask were started, or their lock's turn.
  if (fences_are_asymmetric.load(detail::memory_order_relaxed)) [[likely]] {
    asm volatile("" : : : "memory");
  } else {
    detail::atomic_fence();
  }
}

/// Of the rare side: between its store and its look.
void heavy_fence() noexcept;

}  // namespace exeunt::sched
