// SPDX-License-Identifier: Apache-2.0
// The part of a spawned fiber's state that does not depend on what it returns.
//
// Invariants:
//   I1  node_ is null, or the node of ctx_; both are set before the fiber starts.
//   I2  When the fiber has ended, its own context has.
// Locks: none here; see completion.cpp and cancel.cpp.
// Tests: tests/group/spawn_test.cpp.

#include <exeunt/group/spawn.hpp>

namespace exeunt::detail {

spawned_base::~spawned_base() = default;

void spawned_base::adopt_context(const context& parent) {
  node_ = cancel_node::make(node_of(parent));
  ctx_ = make_context(parent, node_, "spawn");
}

void spawned_base::cancel() noexcept {
  if (node_) node_->cancel(errc::canceled, errc::canceled);
}

void spawned_base::end() noexcept {
  cancel();
  complete();
}

void spawned_base::report(const error& failure) noexcept {
  if (!failure.only(errc::canceled)) detail::report_unread(failure, "a spawned fiber");
}

void throw_no_fiber() { throw panic_error{"fiber: join() without a fiber"}; }

}  // namespace exeunt::detail
