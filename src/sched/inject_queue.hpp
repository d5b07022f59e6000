// SPDX-License-Identifier: Apache-2.0
// Ready fibers that no worker owns yet: from other threads, and what overflows a local queue.

#pragma once

#include <cstddef>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/spin_lock.hpp>

#include "sched/fiber.hpp"

namespace exeunt::sched {

/// First in, first out; unbounded, since it links the fibers themselves.
/// Threads: all members, any thread.
class inject_queue {
 public:
  void push(fiber& ready) noexcept {
    ready.next = nullptr;
    push_list(&ready, &ready, 1);
  }

  void push_list(fiber* first, fiber* last, std::size_t count) noexcept {
    const detail::spin_guard guard{lock_};
    (last_ == nullptr ? first_ : last_->next) = first;
    last_ = last;
    // order: relaxed; whoever must not miss it fences (idle.cpp).
    size_.store(size_.load(detail::memory_order_relaxed) + count, detail::memory_order_relaxed);
  }

  /// Takes up to `count` fibers as a list; null if there is none.
  fiber* pop_list(std::size_t count) noexcept {
    if (empty()) return nullptr;
    const detail::spin_guard guard{lock_};
    if (first_ == nullptr) return nullptr;
    fiber* const first = first_;
    fiber* last = first;
    std::size_t taken = 1;
    while (taken < count && last->next != nullptr) {
      last = last->next;
      ++taken;
    }
    first_ = last->next;
    if (first_ == nullptr) last_ = nullptr;
    last->next = nullptr;
    size_.store(size_.load(detail::memory_order_relaxed) - taken, detail::memory_order_relaxed);
    return first;
  }

  [[nodiscard]] std::size_t size() const noexcept {
    return size_.load(detail::memory_order_relaxed);  // order: a hint; see push_list().
  }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }

 private:
  detail::spin_lock lock_;
  fiber* first_ = nullptr;
  fiber* last_ = nullptr;
  detail::atomic<std::size_t> size_{0};
};

}  // namespace exeunt::sched
