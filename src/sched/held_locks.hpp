// SPDX-License-Identifier: Apache-2.0
// Which locks a fiber or a plain thread holds, for the detector of lock orders
// (exeunt/sync/lock_order.hpp), which alone fills these lists.

#pragma once

#include <cstdint>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/function.hpp>
#include <exeunt/base/spin_lock.hpp>

namespace exeunt::detail {
class order_mark;  // exeunt/sync/lock_order.hpp
}  // namespace exeunt::detail

namespace exeunt::sched {

/// Return addresses, innermost first.
struct call_trace {
  static constexpr int max = 12;
  int depth = 0;
  void* pcs[max] = {};
};

/// Walks the caller's stack by frame pointers from `frame`, which is __builtin_frame_address(0) of
/// a function of this library. Functions built without frame pointers are missing, or may end it;
/// the first address is right in any case.
void walk_stack(const void* frame, call_trace& to) noexcept;

/// What a list says of one lock.
struct held_lock {
  detail::order_mark* mark = nullptr;  ///< the lock's, which tells it from others
  const void* lock = nullptr;          ///< its address
  std::uint16_t rank = 0;
  std::uint8_t kind = 0;  ///< the detector's
  bool shared = false;
  call_trace taken_at{};
};

/// The locks of one fiber or thread, in the order in which it took them. There is a list for each
/// that holds some, and none for others. A list is never given back to the system.
struct held_locks {
  static constexpr std::uint32_t max = 32;

  detail::spin_lock lock;
  std::uint32_t generation = 0;
  detail::atomic<std::uint32_t> count{0};  ///< changed under `lock`
  held_locks* next_free = nullptr;
  held_lock entries[max];
};

/// Notes that the caller holds it. Beyond held_locks::max, or without memory, nothing is noted.
void add_held(const held_lock& one) noexcept;
/// The caller lets go of it, or somebody else's hold of it if the caller has none.
/// Cost: if the caller has none, a look at as many lists as there have been at one time.
void remove_held(const detail::order_mark* mark, bool shared) noexcept;
/// Nobody holds it any more: it is gone.
void remove_all_held(const detail::order_mark* mark) noexcept;
/// Calls `look` with the caller's lock number `index`, the first one being 0, under the list's
/// lock: until it returns nobody lets go of what it looks at. Returns: false if there are fewer.
bool look_at_held(std::uint32_t index, function_ref<void(const held_lock&)> look) noexcept;
/// Nobody holds anything, as far as the lists know.
void forget_all_held() noexcept;
/// Whoever had this list has ended.
void drop_held(held_locks*& list) noexcept;

}  // namespace exeunt::sched
