// SPDX-License-Identifier: Apache-2.0
// A worker's own queue of ready fibers: the owner works at it without locks, others may steal.
//
// The design is that of Go's runtime (proc.go, runqput and runqgrab): a ring of 256 with a head
// that the owner and thieves advance by compare-and-swap and a tail that only the owner moves.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <exeunt/base/atomic.hpp>

namespace exeunt::sched {

struct fiber;

class run_queue {
 public:
  static constexpr std::uint32_t capacity = 256;

  /// Owner only. Returns: false if full.
  bool push(fiber& ready) noexcept;
  /// Owner only: the oldest, or null.
  fiber* pop() noexcept;
  /// Owner only: takes the older half out, as a linked list, to make room.
  /// Returns: how many; 0 if a thief was quicker.
  std::uint32_t take_half(fiber*& first, fiber*& last) noexcept;

  /// Any thread: moves the older half of `this` to the end of `mine`, which is empty and the
  /// caller's own, and returns one more to be run at once; null if there was nothing.
  fiber* steal_into(run_queue& mine) noexcept;

  /// Any thread; a snapshot.
  [[nodiscard]] std::uint32_t size() const noexcept {
    const std::uint32_t head = head_.load(detail::memory_order_acquire);  // order: snapshot.
    return tail_.load(detail::memory_order_acquire) - head;
  }
  [[nodiscard]] bool empty() const noexcept { return static_cast<std::int32_t>(size()) <= 0; }

 private:
  alignas(64) detail::atomic<std::uint32_t> head_{0};
  alignas(64) detail::atomic<std::uint32_t> tail_{0};
  std::array<detail::atomic<fiber*>, capacity> ring_{};
};

}  // namespace exeunt::sched
