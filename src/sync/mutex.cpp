// SPDX-License-Identifier: Apache-2.0
// The mutex's slow paths: spinning, queueing, the two modes.
//
// *Barging* is to take a free lock without regard to the queue. *Woken* is a waiter that unlock()
// took from the queue to compete for the lock, or a spinner that announced itself as if it were.
//
// Invariants, whenever queue_lock_ is free:
//   I1  waiting_bit is set exactly when queue_ is not empty.
//   I2  starving_bit is set only with locked_bit and waiting_bit.
//   I3  Not locked and waiting => woken_bit is set: somebody who is awake will take the lock, and
//       wake the next when it unlocks, or will queue again, which it can only do while the lock is
//       held. So no wake-up is lost.
//   I4  woken_bit has an owner that is awake and clears it when it gets the lock or queues. Two may
//       believe to own it (a spinner and a waiter); then it is cleared early, which costs a
//       needless wake-up and nothing else.
//   I5  While queue_ is not empty, somebody is inside lock() and cannot leave without queue_lock_
//       or a wake-up: a mutex may be destroyed by whoever unlocked it last, since no unlock()
//       touches it after clearing locked_bit other than under queue_lock_ with a waiter in the
//       queue.
// Locks: queue_lock_ is a leaf among locks of sources; tickets are claimed under it. No timer and
//   no context is touched under it.
// Turns: unlock() is no scheduling point, since its callers may hold what belongs to their thread.
//   acquire() is one, before it takes the lock.
// Wake-ups: unlock() wakes the first waiter after releasing queue_lock_. A waiter claimed in normal
//   mode competes, and queues at the front if it loses; one that was granted owns the lock.
// Tests: tests/sync/mutex_test.cpp, sync_stress_test.cpp, values_litmus_test.cpp;
//   tests/sim/covered_bypass_test.cpp counts who is overtaken.

#include <exeunt/sync/mutex.hpp>

#include <chrono>
#include <thread>

#include <exeunt/base/assert.hpp>
#include <exeunt/context/context.hpp>

#include "sched/current.hpp"
#include "sched/runtime_core.hpp"
#include "sync/lock_watch.hpp"
#include "sync/park_until.hpp"

namespace exeunt {

using detail::memory_order_acquire;
using detail::memory_order_relaxed;
using detail::memory_order_release;
using detail::order_watch;
using detail::queued_waiter;
using detail::spin_guard;
using detail::wait_end;

namespace {

// Go's figure. Long against a hand-over, short against what a caller notices.
constexpr clock::duration starving_after = std::chrono::milliseconds{1};

// A round of 30 pauses is about a microsecond, as long as a short critical section whose cache
// lines have to travel; four rounds is where Go stops.
constexpr int pauses_per_round = 30;
constexpr int rounds_max = 4;
constexpr int calls_until_retry = 32;

// Operations of a turn. So 16 sections end it, of 60 us if the waiter is to get his turn within the
// millisecond; with short ones bench/rivals/mutex shows no difference to 128.
constexpr std::uint32_t overtaking_costs = 7;

// Whether a lock's holder may well run while the caller does. Not with one CPU; nor with one
// worker, if the caller is on it: then the holder waits for it, unless it has a thread for itself.
bool holder_may_run() noexcept {
  static const bool several_cpus = std::thread::hardware_concurrency() > 1;
  if (!several_cpus) return false;
  const sched::worker* const here = sched::this_worker();
  return here == nullptr || here->home().procs() > 1;
}

detail::lock_name name_of(const mutex* lock) noexcept { return {lock, detail::lock_form::mutex}; }

}  // namespace

void mutex::lock_watched() noexcept {
  const order_watch watch{"mutex lock", order_, name_of(this)};
  watch.may_wait();
  if (!take()) lock_slowly();
  watch.took();
}

bool mutex::try_lock() noexcept {
  const order_watch watch{"mutex lock", order_, name_of(this)};
  std::uint32_t state = state_.load(memory_order_relaxed);  // order: the exchange decides.
  while ((state & (locked_bit | starving_bit)) == 0) {
    // order: acquire, pairs with the release in unlock().
    if (state_.compare_exchange_weak(state, state | locked_bit, memory_order_acquire,
                                     memory_order_relaxed)) {
      detail::race_acquire(this);
      watch.took();
      return true;
    }
  }
  return false;
}

void mutex::lock_slowly() noexcept { static_cast<void>(acquire(nullptr, no_deadline)); }

result<> mutex::lock(const context& ctx) noexcept {
  const order_watch watch{"mutex lock", order_, name_of(this)};
  const result<> locked = detail::acquire_until(ctx, [&](detail::cancel_node* cancel) {
    watch.may_wait();
    return acquire(cancel, no_deadline);
  });
  if (locked) watch.took();
  return locked;
}

bool mutex::try_lock_for(clock::duration d) noexcept {
  const order_watch watch{nullptr, order_, name_of(this)};
  if (d > clock::duration::zero()) watch.may_wait();
  return try_lock() || (d > clock::duration::zero() && try_lock_until(deadline_after(d)));
}

bool mutex::try_lock_until(clock::time_point deadline) noexcept {
  const order_watch watch{nullptr, order_, name_of(this)};
  watch.may_wait(deadline);
  if (try_lock()) return true;
  if (deadline <= clock::now()) return false;
  return watch.took_if(acquire(nullptr, deadline) == wait_end::claimed);
}

wait_end mutex::acquire(detail::cancel_node* cancel, clock::time_point deadline) noexcept {
  // Whoever was woken must get to run, though we might lock and unlock for ever: while he is awake
  // woken_bit is set, and each lock() comes here. Before the lock is ours, so that he finds it
  // free. He may have been waiting for long, and our turn, which is counted in operations, may be
  // one of long sections: so this counts as several.
  // order: relaxed; advice.
  detail::turn& here = detail::this_turn();
  if ((state_.load(memory_order_relaxed) & woken_bit) != 0) here.operations += overtaking_costs;
  detail::checkpoint(here);
  const bool may_end = cancel != nullptr || deadline != no_deadline;
  bool woken = false;  // woken_bit is ours.
  clock::time_point since{};

  for (bool queued_before = false;; queued_before = true) {
    if (barge(woken) || spin(woken)) return wait_end::claimed;
    if (!queued_before) since = clock::now();

    if (!may_end) {
      queued_waiter self;
      self.since = since;
      spin_guard guard{queue_lock_};
      if (!enqueue(self, woken, queued_before)) return wait_end::claimed;
      detail::park(guard.release(), detail::wait_reason::mutex, this);  // Woken by: unlock().
      if (self.granted) break;
    } else {
      detail::ticket several;
      queued_waiter self{several};
      self.since = since;
      {
        const spin_guard guard{queue_lock_};
        if (!enqueue(self, woken, queued_before)) return wait_end::claimed;
      }
      const wait_end end =
          detail::park_until(several, self, cancel, deadline, detail::wait_reason::mutex, this);
      {
        const spin_guard guard{queue_lock_};
        leave(self);
      }
      if (end != wait_end::claimed) return end;
      if (self.granted) break;
    }
    woken = true;
  }
  detail::race_acquire(this);
  return wait_end::claimed;
}

// Takes the lock if it is free, giving up woken_bit if that is the caller's.
bool mutex::barge(bool woken) noexcept {
  std::uint32_t state = state_.load(memory_order_relaxed);  // order: the exchange decides.
  while ((state & locked_bit) == 0) {
    const std::uint32_t next = (woken ? state & ~woken_bit : state) | locked_bit;
    // order: acquire, pairs with the release in unlock().
    if (state_.compare_exchange_weak(state, next, memory_order_acquire, memory_order_relaxed)) {
      detail::race_acquire(this);
      return true;
    }
  }
  return false;
}

// Watches the lock for a few microseconds, if that has been worth while here of late: it is not if
// the holder is a fiber that waits for our worker.
bool mutex::spin(bool& woken) noexcept {
  if (!holder_may_run() || detail::is_simulated()) return false;
  // order: relaxed here and below; the credit is advice, and a lost update does no harm.
  const int credit = spin_credit_.load(memory_order_relaxed);
  if (credit <= 0) {
    spin_credit_.store(static_cast<std::int8_t>(credit + 1), memory_order_relaxed);
    return false;
  }
  for (int round = 0; round < credit; ++round) {
    std::uint32_t state = state_.load(memory_order_relaxed);  // order: barge() decides.
    if ((state & starving_bit) != 0) return false;            // Watching would be in vain.
    if (!woken && (state & (woken_bit | waiting_bit)) == waiting_bit && (state & locked_bit) != 0) {
      // Tells unlock() that waking another would be one too many.
      // order: relaxed; the bit publishes nothing.
      woken = state_.compare_exchange_strong(state, state | woken_bit, memory_order_relaxed,
                                             memory_order_relaxed);
    }
    for (int i = 0; i < pauses_per_round; ++i) detail::cpu_relax();
    if (barge(woken)) {
      if (credit < rounds_max) {
        spin_credit_.store(static_cast<std::int8_t>(credit + 1), memory_order_relaxed);
      }
      return true;
    }
  }
  spin_credit_.store(static_cast<std::int8_t>(credit > 1 ? credit - 1 : -calls_until_retry),
                     memory_order_relaxed);
  return false;
}

// Under queue_lock_: links `self`, or takes the lock, which has become free, and returns false.
bool mutex::enqueue(queued_waiter& self, bool& woken, bool queued_before) noexcept {
  const bool starves = queued_before && clock::now() - self.since > starving_after;
  const std::uint32_t owned = woken ? woken_bit : 0;
  std::uint32_t state = state_.load(memory_order_relaxed);  // order: the exchanges decide.
  for (;;) {
    const bool free = (state & locked_bit) == 0;
    const std::uint32_t next =
        (state & ~owned) | (free ? locked_bit : waiting_bit | (starves ? starving_bit : 0U));
    // order: acquire, pairs with unlock(), in case the lock is taken. An unlock() that sees
    // waiting_bit then takes queue_lock_, so the queue itself needs no order from here.
    if (!state_.compare_exchange_weak(state, next, memory_order_acquire, memory_order_relaxed)) {
      continue;
    }
    woken = false;
    if (free) {
      detail::race_acquire(this);
      return false;
    }
    if (queued_before) {
      queue_.push_front(self);  // It was first when it was woken.
    } else {
      queue_.push_back(self);
    }
    return true;
  }
}

// Under queue_lock_: after a wait that could be ended from elsewhere.
void mutex::leave(queued_waiter& self) noexcept {
  if (self.linked()) queue_.remove(self);
  // order: relaxed; both bits are changed under queue_lock_ only.
  if (queue_.empty()) state_.fetch_and(~(waiting_bit | starving_bit), memory_order_relaxed);
}

void mutex::unlock_slowly() noexcept {
  std::uint32_t state = state_.load(memory_order_relaxed);  // order: the exchanges decide.
  for (;;) {
    if ((state & locked_bit) == 0) detail::fatal("unlock of unlocked mutex");

    if ((state & waiting_bit) == 0 || (state & (woken_bit | starving_bit)) == woken_bit) {
      // Nobody waits, or one is awake already and will see that the lock is free.
      // order: release, pairs with the acquire of whoever locks next.
      if (state_.compare_exchange_weak(state, state & ~locked_bit, memory_order_release,
                                       memory_order_relaxed)) {
        return;
      }
      continue;
    }

    spin_guard guard{queue_lock_};
    state = state_.load(memory_order_relaxed);  // order: waiting and starving are stable now.
    if ((state & waiting_bit) == 0 || (state & (woken_bit | starving_bit)) == woken_bit) continue;

    queued_waiter* const first = queue_.claim_first();
    const std::uint32_t none_left = queue_.empty() ? waiting_bit | starving_bit : 0U;
    if (first == nullptr) {
      // All have given up, and wait for queue_lock_ to leave. The lock is still ours.
      state = state_.fetch_and(~none_left, memory_order_relaxed) & ~none_left;
      continue;
    }
    if ((state & starving_bit) != 0) {
      // The lock stays locked and changes its holder.
      first->granted = true;
      const bool starved = clock::now() - first->since > starving_after;
      const std::uint32_t over = none_left | (starved ? 0U : starving_bit);
      // order: release; what the lock guards is handed over by the claim and queue_lock_, too.
      if (over != 0) state_.fetch_and(~over, memory_order_release);
    } else {
      while (!state_.compare_exchange_weak(state, ((state & ~locked_bit) | woken_bit) & ~none_left,
                                           memory_order_release, memory_order_relaxed)) {
        // order: release, as above. Only a spinner's woken_bit can have come in between.
      }
    }
    const detail::wakeup due = first->due;
    guard.unlock();
    due.fire();
    return;
  }
}

}  // namespace exeunt
