// SPDX-License-Identifier: Apache-2.0
// Sleeping, with an end that somebody else may set. sleep(d) itself is in sched/go.hpp.

#pragma once

#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/sched/go.hpp>

namespace exeunt {

class context;

/// Suspends the caller for `d`, or until `ctx` ends.
///
/// Returns: the context's error if it ended before; it may have ended already. For d <= 0, which
///          only yields, success if it has not.
/// Threads: fibers and plain threads.
[[nodiscard]] EXEUNT_API result<> sleep(const context& ctx, clock::duration d) noexcept;

/// Suspends the caller until `when`; if that is past, it only yields.
EXEUNT_API void sleep_until(clock::time_point when) noexcept;
/// As sleep_until(when), or until `ctx` ends; returns as sleep(ctx, d).
[[nodiscard]] EXEUNT_API result<> sleep_until(const context& ctx, clock::time_point when) noexcept;

}  // namespace exeunt
