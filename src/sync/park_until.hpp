// SPDX-License-Identifier: Apache-2.0
// The wait of this room that a context or a deadline may end.

#pragma once

#include <exeunt/base/clock.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/cancel.hpp>
#include <exeunt/sched/wait.hpp>
#include <exeunt/sync/wait_queue.hpp>

namespace exeunt::detail {

/// Parks until `self`, which is linked in its queue and shares `several`, is claimed, or `cancel`
/// (may be null) is cancelled, or `deadline` passes. The queue's lock must not be held. Afterwards
/// the caller takes that lock and unlinks `self` if it still is, in each case.
wait_end park_until(ticket& several, queued_waiter& self, cancel_node* cancel,
                    clock::time_point deadline, wait_reason why, const void* on) noexcept;

/// The frame of a lock(ctx): `acquire(cancel)` waits until it has what it wants, or `cancel`, which
/// may be null, ends. Returns: the context's error, also if it had ended before.
template <typename F>
[[nodiscard]] result<> acquire_until(const context& ctx, F&& acquire) noexcept {
  cancel_node* const cancel = node_of(ctx);
  if (cancel != nullptr && cancel->canceled()) return fail(cancel->reason());
  if (acquire(cancel) == wait_end::canceled) return fail(cancel->reason());
  return {};
}

}  // namespace exeunt::detail
