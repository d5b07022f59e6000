// SPDX-License-Identifier: Apache-2.0
// Registers one wait with its queue's rivals, a context and a deadline, and takes it back.
// Tests: tests/sync/mutex_test.cpp, semaphore_test.cpp.

#include "sync/park_until.hpp"

#include <exeunt/sched/timer_node.hpp>

namespace exeunt::detail {

wait_end park_until(ticket& several, queued_waiter& self, cancel_node* cancel,
                    clock::time_point deadline, wait_reason why, const void* on) noexcept {
  const timeout_waiter timeout{several, deadline};
  waiter canceled{several};
  if (cancel != nullptr && !cancel->add_waiter(canceled)) {
    cancel = nullptr;
    // Nobody is parked yet, so nothing is due. If this fails, the queue was faster.
    wakeup due;
    static_cast<void>(canceled.claim(due));
  }
  park(several, why, on);  // Woken by: the queue's owner, the context, the timer.
  if (cancel != nullptr) cancel->remove_waiter(canceled);
  if (self.won()) return wait_end::claimed;
  return canceled.won() ? wait_end::canceled : wait_end::timed_out;
}

}  // namespace exeunt::detail
