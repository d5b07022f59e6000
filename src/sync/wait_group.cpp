// SPDX-License-Identifier: Apache-2.0
// The wait group: a count in one word, and those that wait for its zero.
//
// Invariants, whenever lock_ is free:
//   I1  waiting_bit is set exactly when queue_ is not empty, and then the count is above zero.
//   I2  failed_bit is set exactly when failure_ has a value, and both never change again.
//   I3  The count is never negative.
//   I4  After the change to zero an add() touches the group no more, unless queue_ had somebody in
//       it under lock_; he cannot leave wait() without lock_ or a wake-up. So whoever sees the zero
//       may destroy the group.
// Locks: lock_ is a leaf among locks of sources; tickets are claimed under it.
// Wake-ups: the add() that makes the count zero claims all waiters in the same critical section as
//   the zero, so that a group used again holds none of the earlier ones; it wakes them after.
// Tests: tests/sync/wait_group_test.cpp, sync_race_test.cpp, sync_litmus_test.cpp.

#include <exeunt/sync/wait_group.hpp>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/boundary.hpp>
#include <exeunt/sched/fiber_local.hpp>

#include "sync/park_until.hpp"

#ifdef EXEUNT_HAS_TSAN
extern "C" {
void __tsan_read1(void* address);
void __tsan_write1(void* address);
}
#endif

namespace exeunt {

using detail::memory_order_acq_rel;
using detail::memory_order_acquire;
using detail::memory_order_relaxed;
using detail::memory_order_release;
using detail::queued_waiter;
using detail::spin_guard;

// To ThreadSanitizer an add() from zero reads, and the first wait() for it writes: if nothing
// orders the two, that is a mistake of the program (the wait might have come first), and shown as a
// race. What they read and write is a place of its own for each time that a count leaves zero,
// since a group may be used again at once, whatever those do whom the zero has released.
#ifdef EXEUNT_HAS_TSAN
namespace {
constexpr unsigned places = 1U << 20U;
char wait_group_add_and_wait[places][8];
detail::atomic<unsigned> places_taken{0};
}  // namespace
#endif
void wait_group::show_first_add() noexcept {
#ifdef EXEUNT_HAS_TSAN
  // order: relaxed here and below; where the numbers matter, something else orders them.
  const unsigned mine = places_taken.fetch_add(1, memory_order_relaxed) % places;
  place_.store(mine, memory_order_relaxed);
  __tsan_read1(wait_group_add_and_wait[mine]);
#endif
}
void wait_group::show_first_wait() noexcept {
#ifdef EXEUNT_HAS_TSAN
  // Two that wait for the same count are in nobody's way: only one of them writes.
  const unsigned mine = place_.exchange(no_place, memory_order_relaxed);
  if (mine != no_place) __tsan_write1(wait_group_add_and_wait[mine]);
#endif
}

wait_group::~wait_group() {
  // order: relaxed; whoever destroys it must have been told that nobody uses it.
  EXEUNT_ASSERT((state_.load(memory_order_relaxed) & waiting_bit) == 0,
                "a wait_group was destroyed while somebody waits for it");
}

std::int64_t wait_group::count() const noexcept {
  // order: relaxed; a snapshot orders nothing.
  return static_cast<std::int64_t>(state_.load(memory_order_relaxed) >> count_shift);
}

void wait_group::add(std::int64_t n) {
  detail::step("wait group add", this);
  const std::uint64_t delta = static_cast<std::uint64_t>(n) << count_shift;
  if (n < 0) detail::race_release(this);
  std::uint64_t state = state_.load(memory_order_relaxed);  // order: the exchange decides.
  for (;;) {
    const auto before = static_cast<std::int64_t>(state >> count_shift);
    if (n < 0 && before + n < 0) throw panic_error{"negative wait_group counter"};
    if (before + n == 0 && (state & waiting_bit) != 0) {
      if (reach_zero(delta)) return;
      state = state_.load(memory_order_relaxed);  // order: as above.
      continue;
    }
    if (before == 0 && n > 0) show_first_add();
    // order: acq_rel; release hands what was done to the wait() that sees the zero, acquire
    // collects it from the members that were done before.
    if (state_.compare_exchange_weak(state, state + delta, memory_order_acq_rel,
                                     memory_order_relaxed)) {
      return;
    }
  }
}

// Takes the last step and wakes everybody. False: something has changed meanwhile; look again.
bool wait_group::reach_zero(std::uint64_t delta) noexcept {
  detail::wake_list woken;
  {
    const spin_guard guard{lock_};
    std::uint64_t state = state_.load(memory_order_relaxed);  // order: the exchange decides.
    if ((state & waiting_bit) == 0 || ((state + delta) >> count_shift) != 0) return false;
    // order: acq_rel, as in add().
    if (!state_.compare_exchange_strong(state, (state + delta) & ~waiting_bit, memory_order_acq_rel,
                                        memory_order_relaxed)) {
      return false;
    }
    while (queued_waiter* const waiting = queue_.claim_first()) woken.add(*waiting);
  }
  woken.fire();
  return true;
}

// Under lock_: links `self`, or returns false if the count is zero.
bool wait_group::enqueue(queued_waiter& self) noexcept {
  std::uint64_t state = state_.load(memory_order_acquire);  // order: see wait().
  while ((state >> count_shift) != 0) {
    // order: relaxed; a member that sees the bit takes lock_.
    if (state_.compare_exchange_weak(state, state | waiting_bit, memory_order_relaxed,
                                     memory_order_acquire)) {
      show_first_wait();
      queue_.push_back(self);
      return true;
    }
  }
  return false;
}

void wait_group::wait() {
  detail::step("wait group wait", this);
  // order: acquire, pairs with the release in add().
  if ((state_.load(memory_order_acquire) >> count_shift) != 0) {
    queued_waiter self;
    spin_guard guard{lock_};
    if (enqueue(self)) {
      detail::park(guard.release(), detail::wait_reason::wait_group, this);  // Woken by: add().
    }
  }
  detail::race_acquire(this);
  // order: acquire; the bit is set before its member is done, and never cleared.
  if ((state_.load(memory_order_acquire) & failed_bit) != 0) failure_->rethrow();
}

result<> wait_group::wait(const context& ctx) {
  detail::step("wait group wait", this);
  // order: acquire, as in wait().
  if ((state_.load(memory_order_acquire) >> count_shift) != 0) {
    detail::cancel_node* const cancel = detail::node_of(ctx);
    detail::ticket several;
    queued_waiter self{several};
    bool must_wait = false;
    {
      const spin_guard guard{lock_};
      must_wait = enqueue(self);
    }
    if (must_wait) {
      const detail::wait_end end = detail::park_until(several, self, cancel, no_deadline,
                                                      detail::wait_reason::wait_group, this);
      {
        const spin_guard guard{lock_};
        if (self.linked()) {
          queue_.remove(self);
          // order: relaxed; the bit is changed under lock_ only.
          if (queue_.empty()) state_.fetch_and(~waiting_bit, memory_order_relaxed);
        }
      }
      if (end == detail::wait_end::canceled) return fail(cancel->reason());
    }
  }
  detail::race_acquire(this);
  // order: acquire, as in wait().
  if ((state_.load(memory_order_acquire) & failed_bit) != 0) return fail(*failure_);
  return {};
}

void wait_group::start(const fiber_options& options, unique_function<void()> body) {
  const detail::race_frame frame{__builtin_return_address(0)};
  add(1);
  try {
    detail::start_fiber(options, [this, body = std::move(body)]() mutable { run_member(body); });
  } catch (...) {
    done();
    throw;
  }
}

void wait_group::run_member(unique_function<void()>& body) noexcept {
  // Forced unwinding would pass call_caught() and end the process here: a member that vanished
  // without a word would leave its group waiting for good.
  if (const std::optional<error> failure = detail::call_caught([&] { body(); })) {
    detail::report_panic(*failure);
    const spin_guard guard{lock_};
    if (!failure_.has_value()) {
      failure_ = failure;
      // order: release; publishes failure_.
      state_.fetch_or(failed_bit, memory_order_release);
    }
  }
  body = nullptr;
  detail::end_fiber_locals();
  done();
}

}  // namespace exeunt
