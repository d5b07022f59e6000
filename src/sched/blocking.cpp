// SPDX-License-Identifier: Apache-2.0
// blocking(): a job for the side pool, and a caller that parks until it is done.

#include <exeunt/sched/blocking.hpp>

#include <exeunt/base/race.hpp>
#include <exeunt/sched/wait.hpp>

#include "sched/current.hpp"
#include "sched/runtime_core.hpp"

namespace exeunt::detail {

void run_blocking(function_ref<void()> body) {
  if (sched::this_fiber_block() == nullptr) {
    body();
    return;
  }
  ticket done;
  race_release(&done);
  sched::runtime_core::current().blocking().post([body, &done] {
    race_acquire(&done);
    body();
    race_release(&done);
    wakeup due;
    // The caller may be gone as soon as the claim is made; `due` holds what is still needed.
    if (done.claim(&done, due)) due.fire();
  });
  park(done, wait_reason::blocking, nullptr);  // Woken by: the job's end.
  race_acquire(&done);
}

void post_blocking(unique_function<void()> job) {
  sched::runtime_core::current().blocking().post(std::move(job));
}

}  // namespace exeunt::detail
