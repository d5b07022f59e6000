// SPDX-License-Identifier: Apache-2.0
// A worker's own ready fibers: one that runs next, those that have run before, and those that have
// not. The owner works at it without locked instructions; others take from it seldom, and pay for
// both.
//
// Order. Fibers run in the order in which they became ready. Only if many are started faster than
// they run do those that have not run yet wait apart, and the latest of them go first, in blocks:
// a tree of fibers is then walked in depth, with few stacks, as a stack walks it. Their oldest
// have a share of the turns (admit_oldest()), and thieves take them first.
//
// The lock is biased. The owner marks that it is inside, and looks whether somebody claims; a thief
// claims, makes sure by a heavy fence (fence.hpp) that the owner's mark and look are seen in order,
// and waits until the owner is outside. run_queue.cpp has the proof.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <exeunt/base/atomic.hpp>

#include "sched/fence.hpp"
#include "sched/fiber.hpp"

namespace exeunt::sched {

/// A double-ended queue of fibers that grows. Threads: one at a time; size() from any, a hint.
class fiber_ring {
 public:
  fiber_ring() noexcept = default;
  ~fiber_ring();
  fiber_ring(const fiber_ring&) = delete;
  fiber_ring& operator=(const fiber_ring&) = delete;

  /// False if there is no memory to grow.
  bool push(fiber& last) noexcept {
    const std::uint32_t tail = tail_.load(detail::memory_order_relaxed);
    if (tail - head_.load(detail::memory_order_relaxed) > mask_) [[unlikely]] {
      if (!grow()) return false;
    }
    slots_[tail & mask_] = &last;
    tail_.store(tail + 1, detail::memory_order_relaxed);
    return true;
  }
  /// The first; null if there is none.
  fiber* pop() noexcept {
    const std::uint32_t head = head_.load(detail::memory_order_relaxed);
    const std::uint32_t left = tail_.load(detail::memory_order_relaxed) - head;
    if (left == 0) return nullptr;
    fiber* const first = slots_[head & mask_];
    head_.store(head + 1, detail::memory_order_relaxed);
    if (left > 4) prefetch_after(head);
    return first;
  }
  /// As pop(), and `last` to the end. Nothing is done if there is nobody.
  fiber* rotate(fiber& last) noexcept {
    const std::uint32_t head = head_.load(detail::memory_order_relaxed);
    const std::uint32_t tail = tail_.load(detail::memory_order_relaxed);
    if (tail == head) return nullptr;
    fiber* const first = slots_[head & mask_];
    slots_[tail & mask_] = &last;  // Of a full ring it is the first one's place.
    head_.store(head + 1, detail::memory_order_relaxed);
    tail_.store(tail + 1, detail::memory_order_relaxed);
    if (tail - head > 4) prefetch_after(head);
    return first;
  }
  /// Copies the first `count`, of at least as many, to `out` and takes them out.
  void pop_first(fiber** out, std::uint32_t count) noexcept;
  /// Takes out the one that `before` others are in front of. Cost: O(before).
  fiber& take(std::uint32_t before) noexcept;
  /// In front of all others. False as push().
  bool push_front(fiber& first) noexcept;
  /// The same with the last ones; in order.
  void pop_last(fiber** out, std::uint32_t count) noexcept;
  [[nodiscard]] std::uint32_t size() const noexcept {
    // order: relaxed; a hint. Who must not miss what was pushed fences (idle.cpp).
    const std::uint32_t head = head_.load(detail::memory_order_relaxed);
    const auto left = static_cast<std::int32_t>(tail_.load(detail::memory_order_relaxed) - head);
    return left > 0 ? static_cast<std::uint32_t>(left) : 0;
  }
  /// Gives back what a crowd has made it grow to, if it is empty.
  void shrink() noexcept;

 private:
  static constexpr std::uint32_t small = 256;

  // Stacks two turns ahead, by blocks that were fetched two turns before.
  void prefetch_after(std::uint32_t head) const noexcept {
    slots_[(head + 2) & mask_]->prefetch_stack();
    __builtin_prefetch(slots_[(head + 4) & mask_], 1);
  }
  bool grow() noexcept;
  void move_to(fiber** slots, std::uint32_t capacity) noexcept;

  detail::atomic<std::uint32_t> head_{0};
  detail::atomic<std::uint32_t> tail_{0};
  std::array<fiber*, small> small_;
  fiber** slots_ = small_.data();
  std::uint32_t mask_ = small - 1;
};

class run_queue {
 public:
  /// What one theft takes at most.
  static constexpr std::uint32_t theft_max = 128;
  /// As many are ready before those that have not run wait apart; and come back at a time.
  static constexpr std::uint32_t crowd = 64;

  run_queue() noexcept;
  run_queue(const run_queue&) = delete;
  run_queue& operator=(const run_queue&) = delete;

  /// The owner's time inside. Short: nothing is called that may wait.
  class [[nodiscard]] section {
   public:
    explicit section(run_queue& queue) noexcept : queue_{queue} { queue.enter(); }
    ~section() { queue_.leave(); }
    section(const section&) = delete;
    section& operator=(const section&) = delete;

   private:
    run_queue& queue_;
  };

  // In a section of the owner.

  /// To the end. False if there is no memory for it.
  bool push(fiber& ready) noexcept { return ready_.push(ready); }
  /// One that has not run yet.
  bool push_fresh(fiber& fresh) noexcept {
    return (ready_.size() < crowd ? ready_ : fresh_).push(fresh);
  }
  /// Whose turn it is among all but the next one; null if there is nobody.
  fiber* pop() noexcept {
    if (fiber* const first = ready_.pop()) [[likely]]
      return first;
    return fresh_.size() == 0 ? nullptr : pop_crowd();
  }
  /// The first of those in order, and `last` to the end. Null, and nothing done, if there is none.
  fiber* rotate(fiber& last) noexcept { return ready_.rotate(last); }
  /// To be called now and then. Has the oldest of those that wait apart queue up with the others:
  /// several if none of them has had a turn for some calls; else one, seldom, as each begins
  /// another branch of the tree.
  void admit_oldest() noexcept {
    constexpr unsigned unserved_after = 4;
    constexpr unsigned unserved_share = 8;
    constexpr unsigned calls_per_served = 16;
    if (fresh_.size() == 0) return;
    unsigned share = ++calls_ % calls_per_served == 0 ? 1 : 0;
    if (++unserved_ > unserved_after) share = unserved_share;
    for (; share > 0 && fresh_.size() > 0; --share) {
      fiber* const oldest = fresh_.pop();
      if (ready_.push(*oldest)) continue;
      static_cast<void>(fresh_.push(*oldest));  // No memory there; here is room.
      return;
    }
  }
  /// For who chooses among all: the one that runs next is the first in the line, and those that
  /// wait apart the last. Whom there is no memory for stays where it is.
  /// Returns: how many are in the line.
  std::uint32_t line_up() noexcept;
  /// Takes out of the line the one that `before` others are in front of.
  fiber& take_from_line(std::uint32_t before) noexcept { return ready_.take(before); }
  /// Makes `ready` the one that runs next, or nobody. Returns: who it was.
  fiber* exchange_next(fiber* ready) noexcept {
    fiber* const old = next_.load(detail::memory_order_relaxed);
    next_.store(ready, detail::memory_order_relaxed);  // order: the section's end publishes.
    return old;
  }

  /// Any thread but the owner: takes the oldest, half of those there are, or else who runs next.
  /// Not if somebody else is taking, or the owner stays inside (the kernel has put it aside).
  /// Returns: how many are in `taken`, oldest first.
  std::uint32_t steal(std::array<fiber*, theft_max>& taken) noexcept;

  /// Any thread; a snapshot: how many wait here, with the one that runs next.
  [[nodiscard]] std::uint32_t count() const noexcept { return size() + (has_next() ? 1 : 0); }
  /// The same without it.
  [[nodiscard]] std::uint32_t size() const noexcept { return ready_.size() + fresh_.size(); }
  [[nodiscard]] bool has_next() const noexcept {
    return next_.load(detail::memory_order_relaxed) != nullptr;  // order: a hint.
  }
  /// The owner's, outside of sections.
  void shrink() noexcept;

 private:
  // Bits of claimed_.
  static constexpr std::uint32_t thief = 1;
  static constexpr std::uint32_t fenced = 2;  // For good: the owner needs a full fence.

  void enter() noexcept {
    // order: relaxed; the fence keeps it before the look.
    busy_.store(1, detail::memory_order_relaxed);
    asm volatile("" : : : "memory");  // The light fence; where that is not enough, `fenced` is set.
    // order: acquire, pairs with the release of a claim's end.
    if (claimed_.load(detail::memory_order_acquire) != 0) [[unlikely]]
      enter_slowly();
  }
  void leave() noexcept {
    // order: release, pairs with the acquire of the thief's wait.
    busy_.store(0, detail::memory_order_release);
  }
  void enter_slowly() noexcept;
  fiber* pop_crowd() noexcept;

  alignas(64) detail::atomic<std::uint32_t> busy_{0};  // The owner is inside.
  detail::atomic<std::uint32_t> claimed_;              // A thief is, or waits to be; and fenced.
  detail::atomic<fiber*> next_{nullptr};
  unsigned calls_ = 0;     // Of admit_oldest();
  unsigned unserved_ = 0;  // those since pop_crowd().
  fiber_ring ready_;
  fiber_ring fresh_;
};

}  // namespace exeunt::sched
