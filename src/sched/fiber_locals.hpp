// SPDX-License-Identifier: Apache-2.0
// What hangs on a fiber or a thread for fiber_local, and on a fiber for switch hooks.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <exeunt/sched/fiber_local.hpp>

namespace exeunt::sched {

struct fiber;

// A key: the place in its low bits. Place 0 is nobody's.
constexpr unsigned place_bits = 16;
constexpr std::uint32_t places_max = (1U << place_bits) - 1;
constexpr std::uint32_t place_of(std::uint64_t key) noexcept {
  return static_cast<std::uint32_t>(key & places_max);
}

/// Allocated at the first use. It is touched by its fiber or thread only, and by switch hooks.
struct fiber_locals {
  static constexpr std::uint32_t few_slots = 4;

  detail::local_value** slots = few;  ///< by the variable's place; more than `few` are allocated
  std::uint32_t count = few_slots;
  bool has_hook_state = false;
  detail::local_value* values = nullptr;  ///< the newest first
  detail::local_value* dying = nullptr;   ///< the rest of those that are being destroyed
  detail::local_value* few[few_slots] = {};

  /// `hook_bytes` of zeroes lie behind it. Throws: std::bad_alloc.
  static fiber_locals* make(std::size_t hook_bytes);
  /// Leaves values that are there to themselves.
  static void free(fiber_locals* old) noexcept;
  [[nodiscard]] detail::local_value* find(std::uint64_t key) const noexcept {
    if (place_of(key) >= count) return nullptr;
    detail::local_value* const found = slots[place_of(key)];
    return found != nullptr && found->key == key ? found : nullptr;
  }
  [[nodiscard]] std::byte* hook_state() noexcept {
    return reinterpret_cast<std::byte*>(this) + header_bytes();
  }

 private:
  static constexpr std::size_t header_bytes() noexcept;
};

constexpr std::size_t fiber_locals::header_bytes() noexcept {
  constexpr std::size_t unit = alignof(std::max_align_t);
  return (sizeof(fiber_locals) + unit - 1) / unit * unit;
}

struct free_locals {
  void operator()(fiber_locals* old) const noexcept { fiber_locals::free(old); }
};
using fiber_locals_ptr = std::unique_ptr<fiber_locals, free_locals>;

/// Ends what the running fiber has of its own: its values are destroyed, which may wait and change
/// threads; then the hooks see it leave for the last time. Only the switch may follow.
void destroy_locals(fiber& self) noexcept;

}  // namespace exeunt::sched
