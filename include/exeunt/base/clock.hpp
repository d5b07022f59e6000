// SPDX-License-Identifier: Apache-2.0
// The project's one clock: monotonic in production, virtual under simulation.

#pragma once

#include <chrono>

#include <exeunt/base/export.hpp>

namespace exeunt {

/// A steady clock with nanoseconds. Every deadline and every timer is a point of this clock.
///
/// Meets the standard's Clock requirements. The epoch is unspecified (boot, on Linux).
/// Threads: any. Inside a simulation it shows that simulation's time.
struct clock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<clock>;
  static constexpr bool is_steady = true;

  /// Cost: one clock_gettime, about 20 ns.
  EXEUNT_API static time_point now() noexcept;
};

/// The time since 1970 by the system's calendar, which may jump: for dates in texts only.
EXEUNT_API clock::duration unix_time() noexcept;

/// The deadline of what has none.
inline constexpr clock::time_point no_deadline = clock::time_point::max();

/// `now + d`, without overflow: a duration too long to add is no deadline.
EXEUNT_API clock::time_point deadline_after(clock::duration d) noexcept;
/// The same from another time than now.
constexpr clock::time_point deadline_after(clock::time_point from, clock::duration d) noexcept {
  return d >= no_deadline - from ? no_deadline : from + d;
}

namespace detail {

/// Where time comes from: a parameter of the runtime, replaced by simulations.
class clock_source {
 public:
  virtual ~clock_source() = default;
  virtual clock::time_point now() noexcept = 0;
};

/// The calling thread's clock; null is the monotonic one. Set by the scheduler on its workers.
using find_clock_fn = clock_source* (*)() noexcept;
EXEUNT_API void set_find_clock(find_clock_fn find) noexcept;

}  // namespace detail
}  // namespace exeunt
