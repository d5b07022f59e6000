// SPDX-License-Identifier: Apache-2.0
// Sleeping is waiting for a deadline, and perhaps for a context.

#include <exeunt/time/sleep.hpp>

#include <exeunt/context/context.hpp>
#include <exeunt/sched/cancel.hpp>
#include <exeunt/sched/timer_node.hpp>
#include <exeunt/sched/wait.hpp>

namespace exeunt {

void sleep_until(clock::time_point when) noexcept {
  if (when <= clock::now()) {
    yield();
    return;
  }
  detail::ticket several;
  const detail::timeout_waiter timeout{several, when};
  detail::park(several, detail::wait_reason::sleep, nullptr);  // Woken by: the timer.
}

result<> sleep_until(const context& ctx, clock::time_point when) noexcept {
  detail::cancel_node* const cancel = detail::node_of(ctx);
  if (cancel == nullptr) {
    sleep_until(when);
    return {};
  }
  if (cancel->canceled()) return fail(cancel->reason());
  if (when <= clock::now()) {
    yield();
    return {};
  }
  detail::ticket several;
  const detail::timeout_waiter timeout{several, when};
  detail::waiter canceled{several};
  if (!cancel->add_waiter(canceled)) return fail(cancel->reason());
  detail::park(several, detail::wait_reason::sleep, nullptr);  // Woken by: the timer, the context.
  cancel->remove_waiter(canceled);
  if (canceled.won()) return fail(cancel->reason());
  return {};
}

result<> sleep(const context& ctx, clock::duration d) noexcept {
  return sleep_until(ctx, deadline_after(d));
}

}  // namespace exeunt
