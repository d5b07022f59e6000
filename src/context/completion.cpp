// SPDX-License-Identifier: Apache-2.0
// An event that happens once.
//
// Invariants, whenever lock_ is free:
//   I1  done_ turns true once, and then waiters_ is empty for good.
// Locks: lock_ is a source's. wait() holds no other at the same time.
// Wake-ups: complete() fires one by one, after unlocking; it keeps the object by its own reference.
// Tests: tests/context/blocking_test.cpp, tests/group/spawn_test.cpp.

#include <exeunt/context/completion.hpp>

#include <string>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/log.hpp>
#include <exeunt/sched/cancel.hpp>
#include <exeunt/sched/go.hpp>

namespace exeunt::detail {

completion::~completion() = default;

void completion::complete() noexcept {
  race_release(this);
  {
    const spin_guard guard{lock_};
    EXEUNT_ASSERT(!done_, "completed twice");
    done_ = true;
  }
  for (;;) {
    wakeup due;
    {
      const spin_guard guard{lock_};
      if (claim_first(waiters_, due) == nullptr) return;
    }
    due.fire();
  }
}

bool completion::wait(wait_reason why, cancel_node* until, cancel_node* home) noexcept {
  if (home != nullptr && shares_runtime(*home)) home = nullptr;
  if (until == nullptr && home == nullptr) {
    waiter self;
    if (spin_guard guard{lock_}; !done_) {
      waiters_.push_back(self);
      park(guard.release(), why, this);  // Woken by: complete().
    }
    race_acquire(this);
    return true;
  }

  ticket several;
  waiter self{several};
  {
    spin_guard guard{lock_};
    if (done_) {
      guard.unlock();
      race_acquire(this);
      return true;
    }
    waiters_.push_back(self);
  }
  waiter ended{several};
  waiter stopped{several};
  const bool has_ended = until != nullptr && !until->add_waiter(ended);
  const bool has_stopped = home != nullptr && !home->add_waiter(stopped);
  // Woken by: complete(), a cancel of `until`, the end of the runtime.
  if (!has_ended && !has_stopped) park(several, why, this);
  if (until != nullptr && !has_ended) until->remove_waiter(ended);
  if (home != nullptr && !has_stopped) home->remove_waiter(stopped);
  bool done = false;
  {
    const spin_guard guard{lock_};
    if (self.linked()) waiters_.remove(self);
    done = done_;
  }
  if (done) race_acquire(this);
  return done;
}

bool completion::done() noexcept {
  {
    const spin_guard guard{lock_};
    if (!done_) return false;
  }
  race_acquire(this);
  return true;
}

void report_unread(const error& failure, const char* whose) noexcept {
  if (failure.exception() != nullptr) return report_panic(failure);
  try {
    log_line(std::string{whose} + " failed, and nobody read it: " + failure.message());
  } catch (...) {
    log_line("a failure that nobody read, and no memory to say which");
  }
}

}  // namespace exeunt::detail
