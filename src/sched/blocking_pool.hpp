// SPDX-License-Identifier: Apache-2.0
// Threads for calls that block: started on demand, bounded, and gone again when idle.

#pragma once

#include <csignal>
#include <cstddef>
#include <cstdint>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/sched/blocking.hpp>

namespace exeunt::sched {

struct blocking_limits {
  unsigned threads_max = 1;      ///< 0 counts as 1
  clock::duration keep_alive{};  ///< how long a thread stays without a job
  /// For tests: called instead of a thread's start if it gives an errno. Null in production.
  int (*refuse_thread)() noexcept = nullptr;
};

/// Threads: all members, any thread.
class blocking_pool {
 public:
  struct counts {
    unsigned threads = 0;  ///< the idle ones included
    unsigned idle = 0;
    std::size_t queued = 0;
    std::uint64_t completed = 0;
  };

  /// Its threads take_mask(mask).
  blocking_pool(const sigset_t& mask, const blocking_limits& limits);
  /// close().
  ~blocking_pool();
  blocking_pool(const blocking_pool&) = delete;
  blocking_pool& operator=(const blocking_pool&) = delete;

  /// Queues `job`; a thread is woken for it, or started if none is idle and the bound allows. If
  /// the system refuses the thread, the job waits for one of those that there are; if there is
  /// none, it is refused, with all that wait.
  void post(detail::blocking_job& job) noexcept;
  /// Takes `job` out of the queue that it was posted to.
  /// Returns: false if it is not there: it runs, has run, or was refused.
  [[nodiscard]] static bool withdraw(detail::blocking_job& job) noexcept;

  /// Blocks: until each job that was posted is through, or until `limit`.
  void wait_until_quiet(clock::time_point limit) noexcept;
  /// Refuses what is queued, and what will be posted, with errc::shutting_down. Jobs that run are
  /// left to their threads, which then end. Idempotent.
  void close() noexcept;

  [[nodiscard]] counts stats() const noexcept;

  struct shared;

 private:
  detail::ref_ptr<shared> shared_;
};

}  // namespace exeunt::sched
