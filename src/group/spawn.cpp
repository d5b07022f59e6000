// SPDX-License-Identifier: Apache-2.0
// The part of a spawned fiber's state that does not depend on what it returns.
//
// Invariants:
//   I1  node_ is null, or the node of ctx_; both are set before the fiber starts.
//   I2  When the fiber has ended, its own context has.
//   I3  A join from outside the fiber's runtime ends at the latest when that has stopped.
// Locks: none here; see completion.cpp and cancel.cpp.
// Tests: tests/group/spawn_test.cpp (I1, I2), left_behind_test.cpp (I3), group_litmus_test.cpp.

#include <exeunt/group/spawn.hpp>

#include <exeunt/base/log.hpp>
#include <exeunt/sched/fiber_local.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/wait.hpp>

namespace exeunt::detail {

spawned_base::~spawned_base() = default;

void spawned_base::adopt_context(const context& parent) {
  node_ = cancel_node::make(node_of(parent));
  ctx_ = make_context(parent, node_, "spawn");
}

void spawned_base::adopt_runtime() { home_ = &end_of_runtime(); }

bool spawned_base::join(cancel_node* until) noexcept {
  step("join", this);
  return wait(wait_reason::join, until, home_);
}

void spawned_base::report_left() noexcept {
  log_line("exeunt: a spawned fiber is not waited for, as its runtime has stopped without it");
}

void spawned_base::cancel() noexcept {
  if (node_) node_->cancel(errc::canceled, errc::canceled);
}

void spawned_base::end() noexcept {
  end_fiber_locals();
  step("the end of a spawned fiber", this);
  cancel();
  complete();
}

void spawned_base::report(const error& failure) noexcept {
  if (!failure.only(errc::canceled)) detail::report_unread(failure, "a spawned fiber");
}

error left_behind() { return {errc::shutting_down, "the runtime has stopped without the fiber"}; }

void throw_no_fiber() { throw panic_error{"fiber: join() without a fiber"}; }

}  // namespace exeunt::detail
