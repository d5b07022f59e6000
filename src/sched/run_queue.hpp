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
  /// The same where nobody steals: without a locked instruction.
  fiber* pop_alone() noexcept;
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
  /// Owner only: for so many more there is room at least.
  [[nodiscard]] std::uint32_t room() const noexcept { return capacity - size(); }
  [[nodiscard]] bool empty() const noexcept { return static_cast<std::int32_t>(size()) <= 0; }

 private:
  alignas(64) detail::atomic<std::uint32_t> head_{0};
  alignas(64) detail::atomic<std::uint32_t> tail_{0};
  std::array<detail::atomic<fiber*>, capacity> ring_{};
};

inline bool run_queue::push(fiber& ready) noexcept {
  const std::uint32_t head =
      head_.load(detail::memory_order_acquire);  // order: slots before it are free.
  const std::uint32_t tail =
      tail_.load(detail::memory_order_relaxed);  // order: only the owner writes it.
  if (tail - head >= capacity) return false;
  ring_[tail % capacity].store(&ready, detail::memory_order_relaxed);
  tail_.store(tail + 1, detail::memory_order_release);  // order: publishes the slot to thieves.
  return true;
}

inline fiber* run_queue::pop() noexcept {
  std::uint32_t head = head_.load(detail::memory_order_acquire);
  for (;;) {
    const std::uint32_t tail = tail_.load(detail::memory_order_relaxed);
    if (tail == head) return nullptr;
    fiber* const first = ring_[head % capacity].load(detail::memory_order_relaxed);
    // order: release, so that whoever sees the new head sees our read done (I3).
    if (head_.compare_exchange_weak(head, head + 1, detail::memory_order_acq_rel,
                                    detail::memory_order_acquire)) {
      return first;
    }
  }
}

inline fiber* run_queue::pop_alone() noexcept {
  // order: relaxed, all; only the owner is there.
  const std::uint32_t head = head_.load(detail::memory_order_relaxed);
  if (tail_.load(detail::memory_order_relaxed) == head) return nullptr;
  fiber* const first = ring_[head % capacity].load(detail::memory_order_relaxed);
  head_.store(head + 1, detail::memory_order_relaxed);
  return first;
}

}  // namespace exeunt::sched
