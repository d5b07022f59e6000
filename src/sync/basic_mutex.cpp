// SPDX-License-Identifier: Apache-2.0
// The three pure forms of a lock, each by three functions: take it or not, wait for it, let it go.
//
// Invariants, whenever queue_lock is free:
//   I1  waiting_bit is set exactly when the queue is not empty. Spinners queue in simulations only.
//   I2  barging: not locked and waiting => woken_bit is set. Its owner is awake, and takes the lock
//       or finds it held and queues again; he alone clears the bit. So no wake-up is lost.
//   I3  handoff: waiting => locked. So a lock that somebody waits for is never free to be taken.
//   I4  spinning: waiting => locked; each unlock() empties the queue.
//   I5  While the queue is not empty, somebody is inside lock() and cannot leave without
//       queue_lock: no unlock() touches the lock after it has let go of it, other than under
//       queue_lock with a waiter that was in the queue. So whoever unlocked it last may destroy it.
// Locks: queue_lock is a leaf among locks of sources; tickets are claimed under it. No timer and no
//   context is touched under it.
// Turns: unlock() is no scheduling point. A lock() that has to wait is one.
// Wake-ups: unlock() wakes after releasing queue_lock.
// Tests: tests/sync/basic_mutex_test.cpp, locks_race_test.cpp, locks_stress_test.cpp,
//   values_litmus_test.cpp; tests/sim/covered_locks_test.cpp explores small worlds, and
//   tests/sim/covered_bypass_test.cpp counts who is overtaken.

#include <exeunt/sync/basic_mutex.hpp>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>

#include "sync/lock_watch.hpp"
#include "sync/park_until.hpp"

namespace exeunt {

using detail::cancel_node;
using detail::lock_state;
using detail::memory_order_acquire;
using detail::memory_order_relaxed;
using detail::memory_order_release;
using detail::order_watch;
using detail::queued_waiter;
using detail::spin_guard;
using detail::wait_end;

namespace {

constexpr std::uint32_t locked_bit = 1;   // Somebody holds it; unlock() is legal.
constexpr std::uint32_t waiting_bit = 2;  // The queue has somebody; changed under queue_lock.
constexpr std::uint32_t woken_bit = 4;    // barging: a waiter is awake and tries: wake no other.

// Takes the lock if nobody holds it, whoever waits, and clears `owned` then.
bool barge(lock_state& m, std::uint32_t owned) noexcept {
  std::uint32_t seen = m.word.load(memory_order_relaxed);  // order: the exchange decides.
  while ((seen & locked_bit) == 0) {
    // order: acquire, pairs with the release in let_go().
    if (m.word.compare_exchange_weak(seen, (seen & ~owned) | locked_bit, memory_order_acquire,
                                     memory_order_relaxed)) {
      detail::race_acquire(&m);
      return true;
    }
  }
  return false;
}

// Frees a lock that nobody waits for. Returns: false, and the word in `seen`, if that is not so.
bool free_unwanted(lock_state& m, std::uint32_t& seen) noexcept {
  seen = locked_bit;
  // order: release, pairs with the acquire of whoever locks next.
  if (m.word.compare_exchange_strong(seen, 0, memory_order_release, memory_order_relaxed)) {
    return true;
  }
  if ((seen & locked_bit) == 0) detail::fatal("unlock of unlocked mutex");
  return false;
}

// Under queue_lock: takes the lock if it is free, and returns false; else sets waiting_bit, so that
// the caller is to be linked. Clears `owned`.
bool has_to_wait(lock_state& m, std::uint32_t owned) noexcept {
  std::uint32_t seen = m.word.load(memory_order_relaxed);  // order: the exchange decides.
  for (;;) {
    const bool free = (seen & locked_bit) == 0;
    // order: acquire, pairs with let_go(), in case the lock is taken. Who sees waiting_bit takes
    // queue_lock, so the queue needs no order from here.
    if (m.word.compare_exchange_weak(seen, (seen & ~owned) | (free ? locked_bit : waiting_bit),
                                     memory_order_acquire, memory_order_relaxed)) {
      if (free) detail::race_acquire(&m);
      return !free;
    }
  }
}

// Parks a caller that was linked, until he is claimed or something else ends the wait.
wait_end park_queued(lock_state& m, detail::ticket& several, queued_waiter& self,
                     cancel_node* cancel, clock::time_point deadline) noexcept {
  const wait_end end =  // Woken by: let_go(), the context, the timer.
      detail::park_until(several, self, cancel, deadline, detail::wait_reason::mutex, &m);
  const spin_guard guard{m.queue_lock};
  if (self.linked()) m.queue.remove(self);
  // order: relaxed; the bit is changed under queue_lock only.
  if (m.queue.empty()) m.word.fetch_and(~waiting_bit, memory_order_relaxed);
  return end;
}

// --- barging

bool take(barging, lock_state& m) noexcept { return barge(m, 0); }

wait_end acquire(barging, lock_state& m, cancel_node* cancel, clock::time_point deadline) noexcept {
  for (std::uint32_t owned = 0;; owned = woken_bit) {
    if (barge(m, owned)) return wait_end::claimed;
    detail::ticket several;
    queued_waiter self{several};
    {
      const spin_guard guard{m.queue_lock};
      if (!has_to_wait(m, owned)) return wait_end::claimed;
      if (owned == 0) {
        m.queue.push_back(self);
      } else {
        m.queue.push_front(self);  // It was first when it was woken.
      }
    }
    const wait_end end = park_queued(m, several, self, cancel, deadline);
    if (end != wait_end::claimed) return end;
  }
}

void let_go(barging, lock_state& m) noexcept {
  std::uint32_t seen = 0;
  if (free_unwanted(m, seen)) return;
  for (;;) {
    if ((seen & waiting_bit) == 0 || (seen & woken_bit) != 0) {
      // Nobody waits, or one is awake already and will see that the lock is free.
      // order: release, pairs with the acquire of whoever locks next.
      if (m.word.compare_exchange_weak(seen, seen & ~locked_bit, memory_order_release,
                                       memory_order_relaxed)) {
        return;
      }
      continue;
    }
    spin_guard guard{m.queue_lock};
    seen = m.word.load(memory_order_relaxed);  // order: nobody else changes a held lock now.
    if ((seen & waiting_bit) == 0 || (seen & woken_bit) != 0) continue;
    queued_waiter* const first = m.queue.claim_first();
    const std::uint32_t left = m.queue.empty() ? 0 : waiting_bit;
    if (first == nullptr) {
      // All have given up, and wait for queue_lock to leave. The lock is still ours.
      seen = locked_bit;
      m.word.store(seen, memory_order_relaxed);  // order: publishes nothing.
      continue;
    }
    const detail::wakeup due = first->due;
    // order: release, pairs with the acquire of whoever locks next.
    m.word.store(woken_bit | left, memory_order_release);
    guard.unlock();
    due.fire();
    return;
  }
}

// --- handoff

bool take(handoff, lock_state& m) noexcept {
  std::uint32_t expected = 0;
  // order: acquire, pairs with the release in let_go().
  if (!m.word.compare_exchange_strong(expected, locked_bit, memory_order_acquire,
                                      memory_order_relaxed)) {
    return false;
  }
  detail::race_acquire(&m);
  return true;
}

wait_end acquire(handoff, lock_state& m, cancel_node* cancel, clock::time_point deadline) noexcept {
  detail::ticket several;
  queued_waiter self{several};
  {
    const spin_guard guard{m.queue_lock};
    if (!has_to_wait(m, 0)) return wait_end::claimed;
    m.queue.push_back(self);
  }
  const wait_end end = park_queued(m, several, self, cancel, deadline);
  if (end == wait_end::claimed) detail::race_acquire(&m);  // The lock is ours.
  return end;
}

void let_go(handoff, lock_state& m) noexcept {
  std::uint32_t seen = 0;
  while (!free_unwanted(m, seen)) {
    spin_guard guard{m.queue_lock};
    if (m.queue.empty()) continue;  // The last one has given up meanwhile.
    queued_waiter* const first = m.queue.claim_first();
    // order: relaxed; the bit is changed under queue_lock only. What the lock guards is handed over
    // by the claim and by queue_lock, which the new holder takes before he returns.
    if (m.queue.empty()) m.word.fetch_and(~waiting_bit, memory_order_relaxed);
    if (first == nullptr) continue;  // All have given up. The lock is still ours.
    const detail::wakeup due = first->due;
    guard.unlock();
    due.fire();
    return;
  }
}

// --- spinning

// A round of 30 pauses is about a microsecond. After some of them it is likely that the holder is a
// fiber without a worker, perhaps for want of ours.
constexpr int pauses_per_round = 30;
constexpr int rounds_per_turn = 4;

bool take(spinning, lock_state& m) noexcept { return barge(m, 0); }

wait_end acquire(spinning, lock_state& m, cancel_node* cancel,
                 clock::time_point deadline) noexcept {
  if (detail::is_simulated()) {
    for (;;) {
      detail::ticket several;
      queued_waiter self{several};
      {
        const spin_guard guard{m.queue_lock};
        if (!has_to_wait(m, 0)) return wait_end::claimed;
        m.queue.push_back(self);
      }
      const wait_end end = park_queued(m, several, self, cancel, deadline);
      if (end != wait_end::claimed) return end;
    }
  }
  for (;;) {
    for (int round = 0; round < rounds_per_turn; ++round) {
      for (int i = 0; i < pauses_per_round; ++i) detail::cpu_relax();
      if (barge(m, 0)) return wait_end::claimed;
    }
    if (cancel != nullptr && cancel->canceled()) return wait_end::canceled;
    if (deadline != no_deadline && deadline <= clock::now()) return wait_end::timed_out;
    yield();
  }
}

void let_go(spinning, lock_state& m) noexcept {
  std::uint32_t seen = 0;
  while (!free_unwanted(m, seen)) {  // Somebody waits: this is a simulation.
    spin_guard guard{m.queue_lock};
    if (m.queue.empty()) continue;
    detail::wake_list woken;
    while (queued_waiter* const one = m.queue.claim_first()) woken.add(*one);
    // order: release, pairs with the acquire of whoever locks next.
    m.word.store(0, memory_order_release);
    guard.unlock();
    woken.fire();
    return;
  }
}

// --- for all three

detail::lock_name name_of(const basic_mutex<barging>* lock) noexcept {
  return {lock, detail::lock_form::barging};
}
detail::lock_name name_of(const basic_mutex<handoff>* lock) noexcept {
  return {lock, detail::lock_form::handoff};
}
detail::lock_name name_of(const basic_mutex<spinning>* lock) noexcept {
  return {lock, detail::lock_form::spinning};
}

}  // namespace

template <lock_policy Policy>
void basic_mutex<Policy>::lock() noexcept {
  const order_watch watch{"mutex lock", state_.order, name_of(this)};
  watch.may_wait();
  if (!take(Policy{}, state_)) {
    detail::checkpoint();
    static_cast<void>(acquire(Policy{}, state_, nullptr, no_deadline));
  }
  watch.took();
}

template <lock_policy Policy>
result<> basic_mutex<Policy>::lock(const context& ctx) noexcept {
  const order_watch watch{"mutex lock", state_.order, name_of(this)};
  const result<> locked = detail::acquire_until(ctx, [&](cancel_node* cancel) {
    watch.may_wait();
    if (take(Policy{}, state_)) return wait_end::claimed;
    detail::checkpoint();
    return acquire(Policy{}, state_, cancel, no_deadline);
  });
  if (locked) watch.took();
  return locked;
}

template <lock_policy Policy>
bool basic_mutex<Policy>::try_lock() noexcept {
  const order_watch watch{"mutex lock", state_.order, name_of(this)};
  return watch.took_if(take(Policy{}, state_));
}

template <lock_policy Policy>
bool basic_mutex<Policy>::try_lock_for(clock::duration d) noexcept {
  const order_watch watch{nullptr, state_.order, name_of(this)};
  if (d > clock::duration::zero()) watch.may_wait();
  return try_lock() || (d > clock::duration::zero() && try_lock_until(deadline_after(d)));
}

template <lock_policy Policy>
bool basic_mutex<Policy>::try_lock_until(clock::time_point deadline) noexcept {
  const order_watch watch{nullptr, state_.order, name_of(this)};
  watch.may_wait(deadline);
  if (try_lock()) return true;
  if (deadline <= clock::now()) return false;
  detail::checkpoint();
  return watch.took_if(acquire(Policy{}, state_, nullptr, deadline) == wait_end::claimed);
}

template <lock_policy Policy>
void basic_mutex<Policy>::unlock() noexcept {
  if (detail::is_watched()) [[unlikely]]
    detail::watch_unlock("mutex unlock", this, state_.order);
  detail::race_release(&state_);
  let_go(Policy{}, state_);
}

template class basic_mutex<barging>;
template class basic_mutex<handoff>;
template class basic_mutex<spinning>;

}  // namespace exeunt
