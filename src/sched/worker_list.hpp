// SPDX-License-Identifier: Apache-2.0
// The workers of a runtime: they become more, never fewer, while others look through them.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <exeunt/base/atomic.hpp>

#include "sched/worker.hpp"

namespace exeunt::sched {

/// Threads: one adds at a time; all else from any thread.
class worker_list {
 public:
  /// Address space for so many is taken at once; memory as they come.
  static constexpr std::uint32_t capacity = 4096;

  worker_list() : slots_{std::make_unique<detail::atomic<worker*>[]>(capacity)} {}
  ~worker_list() {
    for (worker& w : *this) delete &w;
  }
  worker_list(const worker_list&) = delete;
  worker_list& operator=(const worker_list&) = delete;

  /// Asserts: there is room.
  void add(std::unique_ptr<worker> fresh) noexcept {
    const std::uint32_t count = count_.load(detail::memory_order_relaxed);
    slots_[count].store(fresh.release(), detail::memory_order_relaxed);
    count_.store(count + 1, detail::memory_order_release);  // order: publishes the slot.
  }
  [[nodiscard]] std::uint32_t size() const noexcept {
    return count_.load(detail::memory_order_acquire);  // order: see add().
  }
  worker& operator[](std::size_t index) const noexcept {
    return *slots_[index].load(detail::memory_order_relaxed);
  }

  class iterator {
   public:
    explicit iterator(const detail::atomic<worker*>* at) noexcept : at_{at} {}
    worker& operator*() const noexcept { return *at_->load(detail::memory_order_relaxed); }
    iterator& operator++() noexcept {
      ++at_;
      return *this;
    }
    friend bool operator==(iterator, iterator) noexcept = default;

   private:
    const detail::atomic<worker*>* at_;
  };
  [[nodiscard]] iterator begin() const noexcept { return iterator{slots_.get()}; }
  [[nodiscard]] iterator end() const noexcept { return iterator{slots_.get() + size()}; }

 private:
  std::unique_ptr<detail::atomic<worker*>[]> slots_;
  detail::atomic<std::uint32_t> count_{0};
};

}  // namespace exeunt::sched
