// SPDX-License-Identifier: Apache-2.0
// The smallest primitive on top of the waiting mechanism, for tests of the rooms below `sync`.

#pragma once

#include <exeunt/sched/wait.hpp>

namespace exeunt::test {

/// Edge: a post() happens before the wait() that it lets through. Not instrumented, like the
/// runtime's own primitives.
class semaphore {
 public:
  EXEUNT_NO_TSAN void post() {
    detail::wakeup due;
    detail::spin_guard guard{lock_};
    detail::race_release(this);
    if (detail::claim_first(waiters_, due) == nullptr) ++count_;
    guard.unlock();
    due.fire();
  }

  EXEUNT_NO_TSAN void wait() {
    {
      detail::spin_guard guard{lock_};
      if (count_ > 0) {
        --count_;
      } else {
        detail::waiter self;
        waiters_.push_back(self);
        // Woken by: post().
        detail::park(guard.release(), detail::wait_reason::semaphore, this);
      }
    }
    detail::race_acquire(this);
  }

 private:
  detail::spin_lock lock_;
  detail::intrusive_list<detail::waiter> waiters_;
  int count_ = 0;
};

}  // namespace exeunt::test
