// SPDX-License-Identifier: Apache-2.0
// In core_model, what base/model_atomic.hpp asks of the scheduler; else nothing.
//
// A fiber that finds a spin lock held cannot wait for it as threads do: its holder, who has been
// preempted, is another fiber of the same thread. It parks until the lock is let go. The scheduler
// itself takes no lock that a fiber may hold: nobody is preempted in a scheduler_section, and
// timers fire when nobody is ready, so that all locks are free (see look_around() in worker.cpp). A
// lock that a thread beside the simulation holds is waited for as threads do.
// Tests: tests/sim/model/atomic_steps_test.cpp.

#include "sched/model_steps.hpp"

#ifdef EXEUNT_CORE_MODEL

#include <new>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/atomic.hpp>
#include <exeunt/base/intrusive_list.hpp>

#include "sched/current.hpp"
#include "sched/fiber.hpp"
#include "sched/runtime_core.hpp"
#include "sched/switching.hpp"
#include "sched/worker.hpp"

namespace exeunt::sched {

namespace {

struct lock_waiter : detail::list_hook<> {
  const void* lock = nullptr;
  fiber* whom = nullptr;
};

detail::intrusive_list<lock_waiter> lock_waiters;  // Of the one thread that simulates.

worker* simulated_worker() noexcept {
  worker* const here = this_worker();
  const bool is_fiber = here != nullptr && here->running() != nullptr;
  return is_fiber && here->home().seam().chooser != nullptr ? here : nullptr;
}

void step() noexcept {
  const detail::scheduler_section own;
  worker* const here = simulated_worker();
  if (here == nullptr) return;
  detail::fiber_chooser& chooser = *here->home().seam().chooser;
  if (chooser.preempts(here->count_ready(), "an atomic operation", nullptr)) worker::yield(here);
}

bool is_fiber() noexcept { return simulated_worker() != nullptr; }

bool wait_for(const void* lock) noexcept {
  worker* const here = simulated_worker();
  if (here == nullptr) return false;
  EXEUNT_ASSERT(!detail::model::in_scheduler, "the scheduler needs a lock that a fiber holds");
  const detail::scheduler_section own;
  lock_waiter self;
  self.lock = lock;
  self.whom = here->running();
  lock_waiters.push_back(self);
  self.whom->waits_for = detail::wait_reason::simulation;
  self.whom->waits_on = lock;
  worker::park(here);  // Woken by: let_go().
  return true;
}

void let_go(const void* lock) noexcept {
  if (lock_waiters.empty()) return;
  const detail::scheduler_section own;
  detail::intrusive_list<lock_waiter> others;
  while (lock_waiter* const one = lock_waiters.pop_front()) {
    if (one->lock == lock) {
      one->whom->home->make_ready_last(*one->whom);
    } else {
      others.push_back(*one);
    }
  }
  while (lock_waiter* const one = others.pop_front()) lock_waiters.push_back(*one);
}

}  // namespace

void install_model_steps() noexcept {
  // Those of a simulation that was broken off are on stacks that may be gone.
  ::new (&lock_waiters) detail::intrusive_list<lock_waiter>;
  detail::model::installed = {
      .step = step, .is_fiber = is_fiber, .wait_for = wait_for, .let_go = let_go};
}

}  // namespace exeunt::sched

#endif
