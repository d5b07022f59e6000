// SPDX-License-Identifier: Apache-2.0
// The weighted semaphore: a count and a queue under one lock.
//
// Invariants, whenever lock_ is free:
//   I1  free_ <= size_.
//   I2  The first of queue_ that nobody else has ended wants more than free_.
// Locks: lock_ is a leaf among locks of sources; tickets are claimed under it.
// Wake-ups: serve() claims from the head as long as there is enough, and takes the units for them;
//   they are woken after lock_ is released. Whoever leaves without its units serves again, because
//   it may have stood in the way of smaller ones.
// Tests: tests/sync/semaphore_test.cpp.

#include <exeunt/sync/semaphore.hpp>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/error.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/context/context.hpp>

#include "sync/park_until.hpp"

namespace exeunt {

using detail::queued_waiter;
using detail::spin_guard;
using detail::wait_end;

bool semaphore::try_acquire(std::uint64_t n) noexcept {
  detail::step("semaphore acquire", this);
  {
    const spin_guard guard{lock_};
    if (n > free_ || !queue_.empty()) return false;
    free_ -= n;
  }
  detail::race_acquire(this);
  return true;
}

void semaphore::acquire(std::uint64_t n) {
  if (n > size_) throw panic_error{"acquire of more than the semaphore's size"};
  static_cast<void>(acquire_slowly(nullptr, no_deadline, n));
}

result<> semaphore::acquire(const context& ctx, std::uint64_t n) noexcept {
  return detail::acquire_until(
      ctx, [&](detail::cancel_node* cancel) { return acquire_slowly(cancel, no_deadline, n); });
}

bool semaphore::try_acquire_for(clock::duration d, std::uint64_t n) noexcept {
  if (d <= clock::duration::zero()) return try_acquire(n);
  return acquire_slowly(nullptr, deadline_after(d), n) == wait_end::claimed;
}

wait_end semaphore::acquire_slowly(detail::cancel_node* cancel, clock::time_point deadline,
                                   std::uint64_t n) noexcept {
  if (try_acquire(n)) {
    detail::checkpoint();
    return wait_end::claimed;
  }
  detail::ticket several;
  queued_waiter self{several};
  self.weight = n;
  {
    const spin_guard guard{lock_};
    if (n <= free_ && queue_.empty()) {
      free_ -= n;
      detail::race_acquire(this);
      return wait_end::claimed;
    }
    // Too much for ever is not queued: it would be in everybody's way.
    if (n <= size_) queue_.push_back(self);
  }
  const wait_end end =  // Woken by: serve(), the context, the timer.
      detail::park_until(several, self, cancel, deadline, detail::wait_reason::semaphore, this);
  detail::wake_list woken;
  {
    const spin_guard guard{lock_};
    if (self.linked()) {
      queue_.remove(self);
      serve(woken);
    }
  }
  woken.fire();
  if (end == wait_end::claimed) detail::race_acquire(this);
  return end;
}

void semaphore::release(std::uint64_t n) {
  detail::step("semaphore release", this);
  detail::race_release(this);
  detail::wake_list woken;
  {
    const spin_guard guard{lock_};
    if (n > size_ - free_) throw panic_error{"release of more than was acquired"};
    free_ += n;
    serve(woken);
  }
  woken.fire();
}

// Under lock_.
void semaphore::serve(detail::wake_list& woken) noexcept {
  while (queued_waiter* const first = queue_.front()) {
    if (first->weight > free_) {
      // One that was ended elsewhere will leave, and serve again; until then it is in the way.
      return;
    }
    queue_.remove(*first);
    if (!first->claim(first->due)) continue;
    free_ -= first->weight;
    woken.add(*first);
  }
}

}  // namespace exeunt
