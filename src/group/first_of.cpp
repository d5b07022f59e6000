// SPDX-License-Identifier: Apache-2.0
// The part of a contest that does not depend on what it is for.
//
// Invariants:
//   I1  winner_ is null, or the first that succeeded, and does not change then.
//   I2  winner_ is set before the context ends for it.
//   I3  What is below lock_ in the class is used only by who waits, when all have ended.
// Locks: lock_ is a source's; nothing is called under it.
// Tests: tests/group/first_of_test.cpp.

#include <exeunt/group/first_of.hpp>

#include <utility>

namespace exeunt::detail {

void contest::succeed(const void* who) noexcept {
  {
    const spin_guard guard{lock_};
    if (winner_ != nullptr) return;
    winner_ = who;
  }
  group_.cancel();
}

const void* contest::wait_for_all() {
  // What the tasks return is in their outcomes; this can only say that the runtime has stopped.
  if (result<> ended = group_.wait(); !ended) left_ = std::move(ended).error();
  const spin_guard guard{lock_};
  return winner_;
}

void contest::add_failure(const error& failure) {
  if (winner_ != nullptr) {
    if (failure.exception() != nullptr) report_unread(failure, "a function of first_of");
    return;
  }
  if (const std::optional<error> why = parent_.err(); why && failure.only(why->code())) {
    parent_ended_ = true;
    return;
  }
  failures_ = failures_ ? join(*failures_, failure) : failure;
}

error contest::all_failures() const {
  std::optional<error> all = failures_;
  const auto add = [&all](const error& one) { all = all ? join(*all, one) : one; };
  if (parent_ended_) {
    // Only a cause knows which signal it was.
    const error why = *cause(parent_);
    add(why.signal() ? why : *parent_.err());
  }
  if (left_) add(*left_);
  // Forced unwinding leaves nothing to tell of.
  if (!all) all = error{errc::panic, "first_of: all functions were unwound by force"};
  return *std::move(all);
}

}  // namespace exeunt::detail
