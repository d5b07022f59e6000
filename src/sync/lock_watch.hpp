// SPDX-License-Identifier: Apache-2.0
// A call that takes a lock, as the detector of lock orders has to know of it.

#pragma once

#include <exeunt/base/clock.hpp>
#include <exeunt/sched/wait.hpp>
#include <exeunt/sync/lock_order.hpp>

namespace exeunt::detail {

/// Which lock, for reports.
struct lock_name {
  const void* lock;
  lock_form form;
};

/// Lives in the frame of the public call, whose caller's stack reports show. Each use costs a
/// branch while nobody watches.
class [[nodiscard]] order_watch {
 public:
  /// With a step() of this name; without if it is null.
  [[gnu::always_inline]] order_watch(const char* call, order_mark& mark, lock_name name,
                                     bool shared = false) noexcept
      : mark_{mark}, name_{name}, shared_{shared}, frame_{__builtin_frame_address(0)} {
    if (is_watched()) [[unlikely]]
      on_ = begin(call, name.lock);
  }
  order_watch(const order_watch&) = delete;
  order_watch& operator=(const order_watch&) = delete;

  /// The call may wait from here on.
  [[gnu::always_inline]] void may_wait() const noexcept {
    if (on_) [[unlikely]]
      judge(mark_, name_, shared_, frame_);
  }
  /// The same, until `deadline`, which may have passed.
  [[gnu::always_inline]] void may_wait(clock::time_point deadline) const noexcept {
    if (on_ && deadline > clock::now()) [[unlikely]]
      judge(mark_, name_, shared_, frame_);
  }
  /// The lock is the caller's.
  [[gnu::always_inline]] void took() const noexcept {
    if (on_) [[unlikely]]
      note(mark_, name_, shared_, frame_);
  }
  /// took(), if that is so. Returns: `is_taken`.
  [[gnu::always_inline]] bool took_if(bool is_taken) const noexcept {
    if (is_taken) took();
    return is_taken;
  }

 private:
  static bool begin(const char* call, const void* lock) noexcept;
  static void judge(order_mark& mark, lock_name name, bool shared, const void* frame) noexcept;
  static void note(order_mark& mark, lock_name name, bool shared, const void* frame) noexcept;

  order_mark& mark_;
  const lock_name name_;
  const bool shared_;
  const void* const frame_;
  bool on_ = false;
};

}  // namespace exeunt::detail
