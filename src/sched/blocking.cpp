// SPDX-License-Identifier: Apache-2.0
// blocking(): a job for the side pool, and a caller that parks until it is done.

#include <exeunt/sched/blocking.hpp>

#include <optional>

#include <exeunt/base/race.hpp>
#include <exeunt/sched/wait.hpp>

#include "sched/current.hpp"
#include "sched/runtime_core.hpp"
#include "sched/worker.hpp"

namespace exeunt::detail {

namespace {

// On the caller's stack.
class waited_job final : public blocking_job {
 public:
  explicit waited_job(function_ref<void()> body) noexcept : body_{body} {}

  void run() noexcept override {
    body_();
    race_release(&done_);
  }
  void finish() noexcept override {
    wakeup due;
    // The caller may be gone as soon as the claim is made; `due` holds what is still needed.
    if (done_.claim(&done_, due)) due.fire();
  }
  void refuse(const error& why) noexcept override {
    refused_ = why;
    finish();
  }

  void wait() {
    park(done_, wait_reason::blocking, nullptr);  // Woken by: finish().
    race_acquire(&done_);
    if (refused_) refused_->rethrow();
  }

 private:
  const function_ref<void()> body_;
  ticket done_;
  std::optional<error> refused_;
};

// A simulation has no other threads.
bool is_called_in_line() noexcept {
  const sched::worker* const here = sched::this_worker();
  return here != nullptr && here->home().seam().blocking_in_line;
}

}  // namespace

void run_blocking(function_ref<void()> body) {
  if (sched::this_fiber_block() == nullptr || is_called_in_line()) {
    body();
    return;
  }
  waited_job job{body};
  post_blocking(job);
  job.wait();
}

void post_blocking(blocking_job& job) {
  if (!is_called_in_line()) return sched::runtime_core::current().blocking().post(job);
  job.run();
  job.finish();
}

bool withdraw_blocking(blocking_job& job) noexcept { return sched::blocking_pool::withdraw(job); }

}  // namespace exeunt::detail
