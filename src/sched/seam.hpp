// SPDX-License-Identifier: Apache-2.0
// The parts of a runtime that a simulation replaces: time, readiness, chance, and who runs next.

#pragma once

#include <cstddef>
#include <cstdint>

#include <exeunt/base/clock.hpp>

namespace exeunt::poll {
class poller;
}

namespace exeunt::detail {

/// Chooses the next fiber among those that are ready on a worker.
class fiber_chooser {
 public:
  virtual ~fiber_chooser() = default;
  /// Returns: an index below `ready_count`, which is at least 1.
  virtual std::size_t choose(std::size_t ready_count) noexcept = 0;
};

/// Null members mean the production part. What is pointed at must outlive the runtime.
struct seam {
  clock_source* clock = nullptr;
  poll::poller* poller = nullptr;
  fiber_chooser* chooser = nullptr;
  std::uint64_t seed = 0;       ///< of the workers' random sources; 0: from the kernel
  bool migrate_always = false;  ///< each wake-up moves the fiber to the next worker
  /// Asked before a thread of blocking() is started: an errno to fail with, or 0.
  int (*refuse_thread)() noexcept = nullptr;
};

}  // namespace exeunt::detail
