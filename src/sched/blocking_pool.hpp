// SPDX-License-Identifier: Apache-2.0
// Threads for calls that block: started on demand, bounded, and gone again when idle.

#pragma once

#include <csignal>

#include <exeunt/base/function.hpp>
#include <exeunt/base/ref_counted.hpp>

namespace exeunt::sched {

/// Threads: all members, any thread.
class blocking_pool {
 public:
  static constexpr unsigned threads_max = 512;

  /// Its threads take_mask(mask).
  explicit blocking_pool(const sigset_t& mask);
  /// Jobs that run are left to their threads; queued ones still run, on detached threads.
  ~blocking_pool();
  blocking_pool(const blocking_pool&) = delete;
  blocking_pool& operator=(const blocking_pool&) = delete;

  /// Queues `job`; a thread is started if none is free and the bound allows.
  void post(unique_function<void()> job);

 private:
  struct shared;
  detail::ref_ptr<shared> shared_;
};

}  // namespace exeunt::sched
