// SPDX-License-Identifier: Apache-2.0
// What base/atomic.hpp is in core_model, the build of the core in which each atomic operation is a
// step: a simulation may let another fiber run before it. Operations are sequentially consistent
// there, whatever order they name, and a weak compare-exchange fails only where a strong one does:
// what is explored is who comes first, not what a weak memory may show. A failure without reason
// would have no bound, since each is tried again. sched/model_steps.cpp has the other half.
// Tests: tests/sim/model/atomic_members_test.cpp.

#pragma once

#include <atomic>

namespace exeunt::detail::model {

/// Set by sched, which knows what a fiber is; null until a simulation begins.
struct hooks {
  void (*step)() noexcept = nullptr;
  bool (*is_fiber)() noexcept = nullptr;  ///< whether the caller is one of a simulation
  /// Of who has found `lock` held by a fiber. Returns: false if the caller is none, and has to look
  /// again and again; else when the lock has been let go.
  bool (*wait_for)(const void* lock) noexcept = nullptr;
  void (*let_go)(const void* lock) noexcept = nullptr;
};
inline constinit hooks installed;

/// Whether this thread is in the scheduler's part of the runtime.
inline constinit thread_local bool in_scheduler = false;

/// While one lives, no atomic operation of this thread is a step. A switch to another fiber takes
/// place inside of one; each fiber has its own end of it.
class [[nodiscard]] scheduler_section {
 public:
  scheduler_section() noexcept : outer_{in_scheduler} { in_scheduler = true; }
  ~scheduler_section() { in_scheduler = outer_; }
  scheduler_section(const scheduler_section&) = delete;
  scheduler_section& operator=(const scheduler_section&) = delete;

 private:
  bool outer_;
};

/// The opposite: what the scheduler runs for a fiber.
class [[nodiscard]] fiber_section {
 public:
  fiber_section() noexcept { in_scheduler = false; }
  ~fiber_section() { in_scheduler = true; }
  fiber_section(const fiber_section&) = delete;
  fiber_section& operator=(const fiber_section&) = delete;
};

inline void step_at_atomic() noexcept {
  if (!in_scheduler && installed.step != nullptr) installed.step();
}

/// Who holds a lock. Fibers park for another fiber only: a thread beside the simulation, say one of
/// the default runtime, holds locks, too, but must not touch what the simulation keeps.
inline constexpr unsigned char held_by_thread = 1;
inline constexpr unsigned char held_by_fiber = 2;
inline unsigned char holder() noexcept {
  return installed.is_fiber != nullptr && installed.is_fiber() ? held_by_fiber : held_by_thread;
}

/// As std::atomic<T>, of which it has what the core uses; each member is a step. There are no
/// operators and no conversion, so that no access escapes.
template <typename T>
class atomic : std::atomic<T> {
  using base = std::atomic<T>;

 public:
  using base::base;

  T load(std::memory_order = std::memory_order_seq_cst) const noexcept {
    step_at_atomic();
    return base::load();
  }
  void store(T value, std::memory_order = std::memory_order_seq_cst) noexcept {
    step_at_atomic();
    base::store(value);
  }
  T exchange(T value, std::memory_order = std::memory_order_seq_cst) noexcept {
    step_at_atomic();
    return base::exchange(value);
  }
  bool compare_exchange_strong(T& expected, T desired,
                               std::memory_order = std::memory_order_seq_cst,
                               std::memory_order = std::memory_order_seq_cst) noexcept {
    step_at_atomic();
    return base::compare_exchange_strong(expected, desired);
  }
  bool compare_exchange_weak(T& expected, T desired, std::memory_order = std::memory_order_seq_cst,
                             std::memory_order = std::memory_order_seq_cst) noexcept {
    return compare_exchange_strong(expected, desired);
  }
  T fetch_add(auto count, std::memory_order = std::memory_order_seq_cst) noexcept {
    step_at_atomic();
    return base::fetch_add(count);
  }
  T fetch_sub(auto count, std::memory_order = std::memory_order_seq_cst) noexcept {
    step_at_atomic();
    return base::fetch_sub(count);
  }
  T fetch_or(T bits, std::memory_order = std::memory_order_seq_cst) noexcept {
    step_at_atomic();
    return base::fetch_or(bits);
  }
  T fetch_and(T bits, std::memory_order = std::memory_order_seq_cst) noexcept {
    step_at_atomic();
    return base::fetch_and(bits);
  }
};

}  // namespace exeunt::detail::model
