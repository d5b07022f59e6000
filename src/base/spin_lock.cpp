// SPDX-License-Identifier: Apache-2.0
// The slow path of the spin lock: pause, ever longer, and give the processor up if that is no help.
// Tests: tests/base/spin_lock_test.cpp.

#include <exeunt/base/spin_lock.hpp>

#include <sched.h>
#include <iterator>

namespace exeunt::detail {

void spin_wait::pause() noexcept {
  // A critical section is some 20 ns long and a cache line's journey 113 ns there and back
  // (docs/benchmarks.md). Two threads that use a lock all the time and look at it often take the
  // line from one another for each section, and each look costs the holder such a journey; so who
  // waits looks ever less often, and soon every 4 µs, in which the other one gets through a hundred
  // sections. A pause is some 30 ns. A lock that is not free after six looks is most likely held by
  // a thread that the kernel has put aside.
  constexpr int pauses[] = {2, 16, 128, 128, 128, 128};
  constexpr int after_yield = 2;
  if (looks_ == std::size(pauses)) {
    looks_ = after_yield;
    ::sched_yield();
    return;
  }
  for (int left = pauses[looks_]; left > 0; --left) cpu_relax();
  ++looks_;
}

#ifdef EXEUNT_CORE_MODEL
void spin_lock::lock_slowly() noexcept {
  for (spin_wait mine;;) {
    {
      const model::scheduler_section own;  // How often one looks is no matter of choice.
      if (try_lock()) return;
      if (held_.load() != model::held_by_fiber) {
        mine.pause();
        continue;
      }
    }
    if (!model::installed.wait_for(this)) mine.pause();
  }
}
#else
void spin_lock::lock_slowly() noexcept {
  for (spin_wait mine; !try_lock();) mine.pause();
}
#endif

}  // namespace exeunt::detail
