// SPDX-License-Identifier: Apache-2.0
// A lock of some tens of instructions whose order ThreadSanitizer is told of.

#pragma once

#include <exeunt/base/race.hpp>
#include <exeunt/base/spin_lock.hpp>

namespace exeunt::detail {

/// Holds a spin_lock that guards plain data of an instrumented room.
class [[nodiscard]] ordered_guard {
 public:
  explicit ordered_guard(spin_lock& lock) noexcept : lock_{&lock} {
    lock.lock();
    race_acquire(&lock);
  }
  ~ordered_guard() { unlock(); }
  ordered_guard(const ordered_guard&) = delete;
  ordered_guard& operator=(const ordered_guard&) = delete;

  void unlock() noexcept {
    if (lock_ == nullptr) return;
    race_release(lock_);
    lock_->unlock();
    lock_ = nullptr;
  }
  /// Gives the duty to unlock to a park.
  spin_lock& release() noexcept {
    spin_lock& lock = *lock_;
    race_release(lock_);
    lock_ = nullptr;
    return lock;
  }

 private:
  spin_lock* lock_;
};

}  // namespace exeunt::detail
