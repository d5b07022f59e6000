// SPDX-License-Identifier: Apache-2.0
// A worker's turn, which outlives it: others may look at it by the word of a lock that the worker
// has owned.

#pragma once

#include <exeunt/sched/wait.hpp>

namespace exeunt::sched {

/// Threads: made and destroyed by any.
class turn_lease {
 public:
  /// Throws: std::bad_alloc.
  turn_lease();
  ~turn_lease();
  turn_lease(const turn_lease&) = delete;
  turn_lease& operator=(const turn_lease&) = delete;

  detail::turn* get() const noexcept { return turn_; }
  detail::turn* operator->() const noexcept { return turn_; }

 private:
  detail::turn* turn_;
};

}  // namespace exeunt::sched
