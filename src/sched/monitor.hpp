// SPDX-License-Identifier: Apache-2.0
// A thread that watches whether the workers get on, and has the place of those filled that do not.

#pragma once

#include <cstdint>
#include <thread>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/clock.hpp>

namespace exeunt::sched {

class runtime_core;
class worker;
struct worker_sight;

/// Sleeps while all workers do; looks at them every millisecond, or sooner, otherwise.
class monitor {
 public:
  explicit monitor(runtime_core& home) noexcept : home_{home} {}
  ~monitor() { stop(); }
  monitor(const monitor&) = delete;
  monitor& operator=(const monitor&) = delete;

  /// Throws: std::system_error if the system refuses a thread.
  void start();
  /// Ends the thread and waits for it. Idempotent.
  void stop() noexcept;

  /// A worker is busy again. Threads: any. Cost: one load, unless the monitor sleeps.
  void somebody_is_busy() noexcept {
    // order: seq_cst, after the caller's own seq_cst operation on the counts of idle workers; the
    // monitor's thread does the reverse.
    if (asleep_.load(detail::memory_order_seq_cst)) wake();
  }

 private:
  void loop() noexcept;
  void sleep(std::uint32_t called) noexcept;
  clock::time_point tend(clock::time_point now) noexcept;
  // What a look has found: work for somebody idle; who could help, or may need help; all get on.
  enum class found : std::uint8_t { work, idlers, nothing };

  found look(clock::time_point now) noexcept;
  [[nodiscard]] bool is_wary(clock::time_point now) const noexcept;
  static bool is_stuck(const worker& w, worker_sight& last, clock::time_point now) noexcept;
  void wake() noexcept;

  runtime_core& home_;
  clock::time_point stuck_at_{};  // The last time that a worker was given up on.
  detail::atomic<std::uint32_t> called_{0};
  detail::atomic<bool> asleep_{false};
  detail::atomic<bool> over_{false};
  std::thread thread_;
};

}  // namespace exeunt::sched
