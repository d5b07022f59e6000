// SPDX-License-Identifier: Apache-2.0
// The condition variable: a queue that is entered before the user's lock is released.
//
// Invariants, whenever lock_ is free:
//   I1  queue_ has exactly those that wait and were not notified, or whose context or deadline has
//       ended their wait but who have not left yet; in the order in which they came.
//   I2  A waiter is in queue_ before its mutex is unlocked: a notify after that reaches it.
// Locks: lock_ is a leaf among locks of sources; tickets are claimed under it. The user's mutex is
//   neither locked nor unlocked under it.
// Wake-ups: notify_one() and notify_all(), after releasing lock_. A notify is not lost on a waiter
//   that has given up: the claim fails, and the next one gets it.
// Tests: tests/sync/condition_variable_test.cpp, tests/sim/covered_bypass_test.cpp.

#include <exeunt/sync/condition_variable.hpp>

#include <exeunt/base/assert.hpp>
#include <exeunt/context/context.hpp>

#include "sync/park_until.hpp"

namespace exeunt {

using detail::queued_waiter;
using detail::spin_guard;

namespace {

detail::wait_end wait_in(detail::spin_lock& lock, detail::wait_queue& queue,
                         std::unique_lock<mutex>& held, detail::cancel_node* cancel,
                         clock::time_point deadline, const void* on) noexcept {
  EXEUNT_ASSERT(held.owns_lock(), "a wait on a condition variable without its lock");
  detail::ticket several;
  queued_waiter self{several};
  {
    const spin_guard guard{lock};
    queue.push_back(self);
  }
  held.unlock();
  const detail::wait_end end =
      detail::park_until(several, self, cancel, deadline, detail::wait_reason::condition, on);
  {
    const spin_guard guard{lock};
    if (self.linked()) queue.remove(self);
  }
  held.lock();
  return end;
}

}  // namespace

void condition_variable::wait(std::unique_lock<mutex>& held) noexcept {
  wait_in(lock_, queue_, held, nullptr, no_deadline, this);
}

result<> condition_variable::wait(const context& ctx, std::unique_lock<mutex>& held) noexcept {
  detail::cancel_node* const cancel = detail::node_of(ctx);
  if (wait_in(lock_, queue_, held, cancel, no_deadline, this) == detail::wait_end::canceled) {
    return fail(cancel->reason());
  }
  return {};
}

bool condition_variable::wait_until(std::unique_lock<mutex>& held,
                                    clock::time_point deadline) noexcept {
  return wait_in(lock_, queue_, held, nullptr, deadline, this) == detail::wait_end::claimed;
}

void condition_variable::notify_one() noexcept {
  detail::step("condition notify", this);
  detail::wakeup due;
  {
    const spin_guard guard{lock_};
    if (queued_waiter* const first = queue_.claim_first()) due = first->due;
  }
  due.fire();
}

void condition_variable::notify_all() noexcept {
  detail::step("condition notify", this);
  detail::wake_list woken;
  {
    const spin_guard guard{lock_};
    while (queued_waiter* const waiting = queue_.claim_first()) woken.add(*waiting);
  }
  woken.fire();
}

}  // namespace exeunt
