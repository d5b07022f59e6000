// SPDX-License-Identifier: Apache-2.0
// detail: an entry of the runtime's timers.

#pragma once

#include <cstddef>
#include <cstdint>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/sched/wait.hpp>

namespace exeunt::detail {

class timer_queue;

/// One deadline and what to do at it. Lives wherever its owner likes; does not move while started.
///
/// Threads: start, stop and reset of one node are the owner's to order among themselves; they may
///          run concurrently with its firing.
class timer_node {
 public:
  /// Called on a worker under the timers' lock: must not park, and may take only locks of sources
  /// (never call start or stop on any node). `now` is when the timer was found due. Wake-ups may
  /// be fired in it.
  /// Returns: when to fire next, for a ticker; no_deadline to be done.
  using fire_fn = clock::time_point (*)(timer_node& self, clock::time_point now) noexcept;

  explicit timer_node(fire_fn fire) noexcept : fire_{fire} {}
  timer_node(const timer_node&) = delete;
  timer_node& operator=(const timer_node&) = delete;
  /// Asserts: not started.
  EXEUNT_API ~timer_node();

  /// Starts, or moves, to fire at `when`.
  /// Returns: true if it was started before (and had not fired since).
  EXEUNT_API bool start(clock::time_point when) noexcept;

  /// Returns: true if it was started and now will not fire. On false it fired before, or was
  ///          never started; in each case fire() is not running when stop() returns.
  /// Cost:    nothing if it was stopped since its last start.
  EXEUNT_API bool stop() noexcept;

 private:
  friend class timer_queue;
  static constexpr std::size_t not_queued = static_cast<std::size_t>(-1);

  fire_fn fire_;
  std::uint64_t order_ = 0;         // Equal deadlines fire in the order of their start.
  std::size_t index_ = not_queued;  // Place in the queue; under the queue's lock.
  timer_queue* queue_ = nullptr;    // The runtime's that started it first.
  bool may_fire_ = false;           // The owner's: it has not been stopped since it was started.
};

/// Ends a shared wait at a deadline: construct, then park the ticket, then it stops by itself.
///
/// A plain thread keeps the time itself, as it sleeps in the kernel anyway: it needs no runtime for
/// that, and none can stop under it. So it has one of these at a time.
class timeout_waiter : timer_node {
 public:
  timeout_waiter(ticket& several, clock::time_point when) noexcept
      : timer_node{&timeout_waiter::on_fire}, several_{&several} {
    if (when != no_deadline) begin(when);
  }
  ~timeout_waiter() {
    if (on_thread_) {
      end_on_thread();
    } else if (!won()) {  // Else on_fire() has let go of it already, with its claim.
      stop();
    }
  }

  /// True if the deadline ended the wait.
  [[nodiscard]] bool won() const noexcept { return several_->winner() == this; }

 private:
  static clock::time_point on_fire(timer_node& self, clock::time_point) noexcept {
    auto& timeout = static_cast<timeout_waiter&>(self);
    wakeup due;
    if (timeout.several_->claim(&timeout, due)) due.fire();
    return no_deadline;
  }

  EXEUNT_API void begin(clock::time_point when) noexcept;
  EXEUNT_API void end_on_thread() noexcept;

  ticket* several_;
  bool on_thread_ = false;
};

}  // namespace exeunt::detail
