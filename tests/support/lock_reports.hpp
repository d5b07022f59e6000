// SPDX-License-Identifier: Apache-2.0
// What the detector of lock orders says while a test runs.

#pragma once

#include <cstddef>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <exeunt/base/log.hpp>
#include <exeunt/sync/lock_order.hpp>

namespace exeunt::test {

/// While one lives, orders are reported, here and not on stderr. One at a time.
class lock_reports {
 public:
  lock_reports() : before_{set_lock_order(lock_order::off)} {
    set_lock_order(lock_order::report);
    take();
    set_log_sink([](std::string_view text) noexcept {
      const std::lock_guard hold{lock};
      said.emplace_back(text);
    });
  }
  ~lock_reports() {
    set_log_sink(nullptr);
    set_lock_order(before_);
  }
  lock_reports(const lock_reports&) = delete;
  lock_reports& operator=(const lock_reports&) = delete;

  /// All since the last call, each a record.
  static std::vector<std::string> take() {
    const std::lock_guard guard{lock};
    return std::exchange(said, {});
  }

 private:
  static inline std::mutex lock;
  static inline std::vector<std::string> said;
  const lock_order before_;
};

/// While one lives, nobody looks: for what inverts orders, or waits for its own lock, on purpose.
class unwatched_locks {
 public:
  unwatched_locks() : before_{set_lock_order(lock_order::off)} {}
  ~unwatched_locks() { set_lock_order(before_); }
  unwatched_locks(const unwatched_locks&) = delete;
  unwatched_locks& operator=(const unwatched_locks&) = delete;

 private:
  const lock_order before_;
};

}  // namespace exeunt::test
