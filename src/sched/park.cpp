// SPDX-License-Identifier: Apache-2.0
// Parking: how a fiber or a thread waits, and why its wake-up is not lost.
//
// One source. The caller links its waiter under the source's lock and parks with that lock. A
// waker must hold the lock to find the waiter, and the caller unlocks only when all that is left
// to do is to leave: a fiber may be queued from then on, and whoever is to run it waits until it
// is off its stack (I4 in worker.cpp); a thread resets its block before it unlocks. So a wake-up
// always meets a caller that can be woken, exactly once, since the waker has unlinked the waiter.
//
// Several sources. The ticket's word goes open -> parked -> claimed, or open -> claimed. A claim
// that finds `open` does not wake: the caller's own move to `parked` fails then, and it goes on by
// itself. A claim that finds `parked` wakes. Each is one compare-and-swap on the same word, so
// exactly one of the two happens. A caller that holds the locks of all its sources moves it before
// it unlocks them, by a plain store, since nobody can claim it yet; from there it is as with one
// source.
//
// A plain thread with a deadline sleeps until then and claims its own ticket, which no wake-up
// follows; if the claim fails, somebody else's wake-up is on its way, and is waited for.
//
// A plain thread's block may be gone when the waker's futex call arrives: the thread saw the word
// and ended. The kernel takes only the address, so nothing is touched but a possible sleeper on
// re-used memory, and every sleeper looks at its word again.
//
// Wake-ups: this file only ever waits for callers of wake(); each park() elsewhere names them.
// Tests: tests/sched/park_test.cpp, sched_stress_test.cpp; models/park.pml.

#include <exeunt/sched/wait.hpp>

#include <sched.h>
#include <thread>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/random.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/timer_node.hpp>

#include "sched/current.hpp"
#include "sched/fiber.hpp"
#include "sched/futex.hpp"
#include "sched/runtime_core.hpp"
#include "sched/switching.hpp"
#include "sched/worker.hpp"

namespace exeunt::detail {

using sched::fiber;
using sched::fiber_state;
using sched::thread_block;
using sched::worker;

struct caller_access {
  static caller of(fiber* block) noexcept {
    return caller{reinterpret_cast<std::uintptr_t>(block)};
  }
  static caller of(thread_block* block) noexcept {
    return caller{reinterpret_cast<std::uintptr_t>(block) | 1U};
  }
};

caller caller::current() noexcept {
  if (fiber* const running = sched::this_fiber_block()) return caller_access::of(running);
  return caller_access::of(&sched::this_thread().block);
}

void caller::wake() const noexcept {
  if ((word_ & 1U) == 0) {
    fiber& parked = *reinterpret_cast<fiber*>(word_);
    parked.home->make_ready(parked);
    return;
  }
  if (is_simulated()) [[unlikely]]
    fatal(
        "a fiber of a simulation woke a thread outside of it; what a simulation uses must be made "
        "and used inside only");
  auto& block = *reinterpret_cast<thread_block*>(word_ & ~std::uintptr_t{1});
  block.woken.store(1, memory_order_release);  // order: pairs with the acquire in sleep_thread().
  sched::futex_wake(block.woken, 1);
}

namespace {

void refuse_after_fork() noexcept {
  if (sched::forked_without_exec()) sched::refuse_in_child("waits");
}

void sleep_thread(thread_block& block) noexcept {
  refuse_after_fork();
  while (block.woken.load(memory_order_acquire) == 0) sched::futex_wait(block.woken, 0);
}

// With the ticket committed, and a timeout_waiter on this thread.
void sleep_thread_until(thread_block& block, ticket& several) noexcept {
  refuse_after_fork();
  while (block.woken.load(memory_order_acquire) == 0) {  // order: as in sleep_thread().
    const clock::duration left = block.deadline - clock::now();
    if (left > clock::duration::zero()) {
      sched::futex_wait_for(block.woken, 0, left);
      continue;
    }
    wakeup ours;
    if (several.claim(block.timeout, ours)) return;
    break;
  }
  sleep_thread(block);
}

// From the moment that others may wake the fiber until it has parked, core_model lets nobody else
// run: it would wait for its turn in one queue and be woken into another.
void mark_parked(worker& here, wait_reason why, const void* on) noexcept {
  fiber& self = *here.running();
  self.waits_for = why;
  self.waits_on = on;
  self.since = here.last_look();
  self.state.store(fiber_state::parked, memory_order_relaxed);  // order: dumps only.
}

}  // namespace

EXEUNT_NO_ASAN void park(spin_lock& held, wait_reason why, const void* on) noexcept {
  worker* const here = sched::this_worker();
  if (here == nullptr || here->running() == nullptr) {
    EXEUNT_ASSERT(here == nullptr, "a call-back of the scheduler tried to wait");
    thread_block& block = sched::this_thread().block;
    block.woken.store(0, memory_order_relaxed);  // order: published by the unlock.
    held.unlock();
    sleep_thread(block);
    return;
  }
  step_at_atomic();
  const scheduler_section parking;
  mark_parked(*here, why, on);
  held.unlock();
  worker::park(here);
}

EXEUNT_NO_ASAN void park(spin_lock& held, waiter& self, wait_reason why, const void* on) noexcept {
  worker* const here = sched::this_worker();
  if (here == nullptr || here->running() == nullptr) {
    self.whom = caller_access::of(&sched::this_thread().block);
    return park(held, why, on);
  }
  self.whom = caller_access::of(here->running());
  step_at_atomic();
  const scheduler_section parking;
  mark_parked(*here, why, on);
  held.unlock();
  worker::park(here);
}

EXEUNT_NO_ASAN void park(ticket& several, wait_reason why, const void* on) noexcept {
  worker* const here = sched::this_worker();
  if (here == nullptr || here->running() == nullptr) {
    EXEUNT_ASSERT(here == nullptr, "a call-back of the scheduler tried to wait");
    thread_block& block = sched::this_thread().block;
    block.woken.store(0, memory_order_relaxed);  // order: published by commit_park().
    if (!several.commit_park()) return;
    if (block.timeout == nullptr) {
      sleep_thread(block);
    } else {
      sleep_thread_until(block, several);
    }
    return;
  }
  if (several.winner() != nullptr) return;
  step_at_atomic();
  const scheduler_section parking;
  mark_parked(*here, why, on);
  if (!several.commit_park()) {
    here->running()->state.store(fiber_state::ready, memory_order_relaxed);  // order: dumps only.
    return;
  }
  worker::park(here);
}

EXEUNT_NO_ASAN void park(ticket& several, wait_reason why, const void* on,
                         void (*unlock)(void*) noexcept, void* argument) noexcept {
  worker* const here = sched::this_worker();
  if (here == nullptr || here->running() == nullptr) {
    EXEUNT_ASSERT(here == nullptr, "a call-back of the scheduler tried to wait");
    thread_block& block = sched::this_thread().block;
    EXEUNT_ASSERT(block.timeout == nullptr, "a deadline is a source that has no lock to hold");
    block.woken.store(0, memory_order_relaxed);  // order: published by the unlocks.
    several.commit_unseen(caller_access::of(&block));
    unlock(argument);
    sleep_thread(block);
    return;
  }
  step_at_atomic();
  const scheduler_section parking;
  mark_parked(*here, why, on);
  several.commit_unseen(caller_access::of(here->running()));
  unlock(argument);
  worker::park(here);
}

void timeout_waiter::begin(clock::time_point when) noexcept {
  if (sched::this_worker() != nullptr) {
    start(when);
    return;
  }
  if (sched::forked_without_exec()) sched::refuse_in_child("waits until a time");
  thread_block& block = sched::this_thread().block;
  EXEUNT_ASSERT(block.timeout == nullptr, "a thread has one deadline at a time");
  block.timeout = this;
  block.deadline = when;
  on_thread_ = true;
}

void timeout_waiter::end_on_thread() noexcept { sched::this_thread().block.timeout = nullptr; }

void park_forever(wait_reason why) noexcept {
  for (;;) {
    spin_lock nobody;
    nobody.lock();
    park(nobody, why, nullptr);  // Woken by: nobody.
  }
}

void end_turn(turn& here) noexcept {
  here.operations = 0;
  worker* const mine = sched::this_worker();
  if (mine != nullptr && mine->running() != nullptr && mine->turn_is_over()) exeunt::yield();
}

std::uint64_t next_source_id() noexcept {
  static atomic<std::uint64_t> last{0};
  return last.fetch_add(1, memory_order_relaxed) + 1;  // order: only uniqueness counts.
}

atomic<unsigned> watchers{0};

bool is_simulated() noexcept {
  if (!any_simulation()) return false;
  const worker* const here = sched::this_worker();
  return here != nullptr && here->home().seam().chooser != nullptr;
}

void step_simulated(const char* call, const void* on) noexcept {
  worker* const here = sched::this_worker();
  if (here == nullptr || here->running() == nullptr) return;
  fiber_chooser* const chooser = here->home().seam().chooser;
  if (chooser != nullptr && chooser->preempts(here->count_ready(), call, on)) exeunt::yield();
}

std::uint32_t simulation_here() noexcept {
  if (!any_simulation()) return 0;
  const worker* const here = sched::this_worker();
  if (here == nullptr || here->home().seam().chooser == nullptr) return 0;
  return here->home().seam().chooser->number();
}

void check_made_here(const char* call, std::uint32_t made_in) noexcept {
  if (simulation_here() == made_in) return;
  if (made_in == 0) {
    sched::this_worker()->home().seam().chooser->uses_foreign(call);
  } else {
    fatal(
        "a channel that was made in a simulation is used outside of it; what a simulation uses "
        "must be made and used inside only");
  }
}

std::uint32_t choose_below(std::uint32_t bound) noexcept {
  if (worker* const here = sched::this_worker()) {
    const std::uint32_t random = here->random().below(bound);
    fiber_chooser* const chooser = here->home().seam().chooser;
    return chooser == nullptr ? random : chooser->choose_below(bound, random);
  }
  sched::thread_state& here = sched::this_thread();
  if (!here.seeded) {
    here.random = random_source{random_seed()};
    here.seeded = true;
  }
  return here.random.below(bound);
}

const char* to_string(wait_reason reason) noexcept {
  switch (reason) {
    case wait_reason::none:
      return "nothing";
    case wait_reason::chan_send:
      return "channel send";
    case wait_reason::chan_recv:
      return "channel receive";
    case wait_reason::chan_nil:
      return "nil channel (for good)";
    case wait_reason::select:
      return "select";
    case wait_reason::select_none:
      return "select without cases (for good)";
    case wait_reason::mutex:
      return "mutex";
    case wait_reason::shared_mutex:
      return "shared mutex";
    case wait_reason::wait_group:
      return "wait group";
    case wait_reason::once:
      return "once";
    case wait_reason::condition:
      return "condition variable";
    case wait_reason::semaphore:
      return "semaphore";
    case wait_reason::singleflight:
      return "singleflight";
    case wait_reason::queue:
      return "queue";
    case wait_reason::rate:
      return "rate limiter";
    case wait_reason::sleep:
      return "sleep";
    case wait_reason::context:
      return "context";
    case wait_reason::join:
      return "join";
    case wait_reason::errgroup:
      return "errgroup";
    case wait_reason::io_read:
      return "network read";
    case wait_reason::io_write:
      return "network write";
    case wait_reason::io_accept:
      return "accept";
    case wait_reason::io_connect:
      return "connect";
    case wait_reason::blocking:
      return "blocking call";
    case wait_reason::drain:
      return "drain";
    case wait_reason::simulation:
      return "the others of a simulation";
  }
  return "unknown";
}

}  // namespace exeunt::detail

namespace exeunt {

using sched::fiber;
using sched::fiber_state;
using sched::worker;

EXEUNT_NO_ASAN void yield() noexcept {
  worker* const here = sched::this_worker();
  if (here == nullptr) {
    if (sched::forked_without_exec()) sched::refuse_in_child("yields");
    std::this_thread::yield();
    return;
  }
  EXEUNT_ASSERT(here->running() != nullptr);
  worker::yield(here);
}

void sleep(clock::duration d) noexcept {
  if (d <= clock::duration::zero()) return yield();
  detail::ticket only;
  detail::timeout_waiter timeout{only, deadline_after(d)};
  detail::park(only, detail::wait_reason::sleep, nullptr);  // Woken by: the timer.
}

}  // namespace exeunt
