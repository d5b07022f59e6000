// SPDX-License-Identifier: Apache-2.0
// The parts of a runtime that a simulation replaces: time, readiness, chance, and who runs next.

#pragma once

#include <cstddef>
#include <cstdint>

#include <exeunt/base/clock.hpp>

namespace exeunt::poll {
class poller;
}

namespace exeunt::net {
class socket_calls;
}

namespace exeunt::sched {
struct fiber;
class runtime_core;
}  // namespace exeunt::sched

namespace exeunt::detail {

/// Chooses the next fiber among those that are ready on a worker, and learns what comes of it. All
/// calls are made by workers, between two fibers' turns unless another thing is said.
class fiber_chooser {
 public:
  virtual ~fiber_chooser() = default;
  /// Returns: an index below `ready_count`, which is at least 1. They are in the order in which
  ///          they would run otherwise: who was woken last, then who has waited longest.
  virtual std::size_t choose(std::size_t ready_count) noexcept = 0;
  /// By the running fiber, at a call of the library; see step(). Returns: whether it gives way to
  /// one of `others`, which are ready.
  virtual bool preempts(std::size_t others, const char* call, const void* on) noexcept {
    static_cast<void>(others);
    static_cast<void>(call);
    static_cast<void>(on);
    return false;
  }
  /// Asked before each choice. Returns: whether no fiber is to run any more but whom nobody_ready()
  /// wakes then, one and no other.
  virtual bool breaks_off() noexcept { return false; }
  /// Nobody is ready, or those who are do not count any more, and the worker is in its loop.
  /// Returns: whether it has made somebody so.
  virtual bool nobody_ready(sched::runtime_core& home) noexcept {
    static_cast<void>(home);
    return false;
  }
  /// By the starter, who may be a fiber.
  virtual void started(sched::fiber& fresh) noexcept { static_cast<void>(fresh); }
  /// Which simulation this is, never 0; one number is never two's.
  [[nodiscard]] virtual std::uint32_t number() const noexcept { return 0; }
  /// By the running fiber or a timer's call-back: it is about to use what was made outside of the
  /// simulation. A fiber need not come back from this.
  virtual void uses_foreign(const char* call) noexcept { static_cast<void>(call); }
  /// The choice fell on `next`.
  virtual void runs(sched::fiber& next) noexcept { static_cast<void>(next); }
  /// By a thread that makes a fiber ready and is none of the runtime's workers. Does not return if
  /// that must not be.
  virtual void woken_from_outside() noexcept {}
  /// By the running fiber, which needs a number below `bound`; `random` is one.
  virtual std::uint32_t choose_below(std::uint32_t bound, std::uint32_t random) noexcept {
    static_cast<void>(bound);
    return random;
  }
};

/// Null members mean the production part. What is pointed at must outlive the runtime.
struct seam {
  clock_source* clock = nullptr;
  poll::poller* poller = nullptr;
  fiber_chooser* chooser = nullptr;
  net::socket_calls* sockets = nullptr;  ///< in place of the system's
  std::uint64_t seed = 0;                ///< of the workers' random sources; 0: from the kernel
  bool migrate_always = false;           ///< each wake-up moves the fiber to the next worker
  bool migrate_never = false;            ///< not even in a build that does that everywhere
  bool blocking_in_line = false;         ///< blocking() calls its function itself
  /// Asked before a thread of blocking() is started: an errno to fail with, or 0.
  int (*refuse_thread)() noexcept = nullptr;
};

}  // namespace exeunt::detail
