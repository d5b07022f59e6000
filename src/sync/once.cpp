// SPDX-License-Identifier: Apache-2.0
// The first call and those that come during it.
//
// Invariants, whenever lock_ is free:
//   I1  stage_ goes from fresh to running to returned or threw, once.
//   I2  queue_ is not empty only while running.
//   I3  thrown_ is written before `threw` is stored, and never again.
// Locks: lock_ is a leaf among locks of sources; tickets are claimed under it.
// Wake-ups: finish() claims all waiters under lock_ and wakes them after; by then the object may be
//   gone, if nobody waited.
// Tests: tests/sync/once_test.cpp.

#include <exeunt/sync/once.hpp>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/error.hpp>
#include <exeunt/context/context.hpp>

#include "sync/park_until.hpp"

namespace exeunt {

using detail::memory_order_acquire;
using detail::memory_order_relaxed;
using detail::memory_order_release;
using detail::queued_waiter;
using detail::spin_guard;

bool once::done() const noexcept {
  const auto now = stage_.load(memory_order_acquire);  // order: pairs with finish().
  if (now != returned && now != threw) return false;
  detail::race_acquire(this);
  return true;
}

result<> once::call_slowly(const context* ctx, function_ref<void()> body) {
  detail::step("once", this);
  detail::cancel_node* const cancel = ctx == nullptr ? nullptr : detail::node_of(*ctx);
  detail::ticket several;
  queued_waiter self{several};
  bool first = false;
  bool must_wait = false;
  {
    const spin_guard guard{lock_};
    // order: relaxed here and below; changes are made under lock_.
    switch (stage_.load(memory_order_relaxed)) {
      case fresh:
        if (cancel != nullptr && cancel->canceled()) return fail(cancel->reason());
        runner_ = detail::caller::current();
        stage_.store(running, memory_order_relaxed);
        first = true;
        break;
      case running:
        if (runner_ == detail::caller::current()) throw panic_error{"nested call of once"};
        queue_.push_back(self);
        must_wait = true;
        break;
      default:
        break;
    }
  }
  if (first) {
    run(body);
    return {};
  }
  if (must_wait) {
    const detail::wait_end end =
        detail::park_until(several, self, cancel, no_deadline, detail::wait_reason::once, this);
    {
      const spin_guard guard{lock_};
      if (self.linked()) queue_.remove(self);
    }
    if (end == detail::wait_end::canceled) return fail(cancel->reason());
  }
  return outcome();
}

void once::run(function_ref<void()> body) {
  try {
    body();
  } catch (...) {
    thrown_ = std::current_exception();
    finish(threw);
    throw;
  }
  finish(returned);
}

void once::finish(stage how) noexcept {
  detail::race_release(this);
  detail::wake_list woken;
  {
    const spin_guard guard{lock_};
    // order: release, pairs with the acquire in finished_well() and outcome().
    stage_.store(how, memory_order_release);
    while (queued_waiter* const waiting = queue_.claim_first()) woken.add(*waiting);
  }
  woken.fire();
}

result<> once::outcome() const {
  // order: acquire, pairs with the release in finish().
  const auto now = stage_.load(memory_order_acquire);
  EXEUNT_ASSERT(now == returned || now == threw);
  detail::race_acquire(this);
  if (now == threw) {
    // Of a forced unwinding there is none.
    if (*thrown_ == nullptr) throw panic_error{"once: its function was unwound by force"};
    std::rethrow_exception(*thrown_);
  }
  return {};
}

}  // namespace exeunt
