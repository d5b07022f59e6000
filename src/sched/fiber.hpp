// SPDX-License-Identifier: Apache-2.0
// The control block of a fiber, its states, and the slabs that are the registry of all fibers.

#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <vector>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/clock.hpp>
#include <exeunt/base/function.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/wait.hpp>

#include "arch/eh_state.hpp"
#include "arch/sanitizer.hpp"
#include "arch/stack.hpp"

namespace exeunt::sched {

class runtime_core;

/// Legal moves: free -> ready -> running -> {parked, ready, free}; parked -> ready.
enum class fiber_state : std::uint8_t { free, ready, running, parked };

struct alignas(64) fiber {
  // The first lines: what a switch and the queues touch.
  void* sp = nullptr;            ///< saved stack pointer; null until the first run
  fiber* next = nullptr;         ///< in a queue or in a free list
  runtime_core* home = nullptr;  ///< the runtime it belongs to, for good
  detail::atomic<fiber_state> state{fiber_state::free};
  detail::wait_reason waits_for = detail::wait_reason::none;
  std::uint16_t last_worker = 0;  ///< who ran it last
  std::uint32_t stack_kib = 0;    ///< asked for; 0 is the default
  const void* waits_on = nullptr;
  clock::time_point since{};  ///< when it parked, by its worker's last look at the clock
  arch::eh_state eh;
  arch::stack stack;  ///< bound at the first run

  // The rest: start, end and reports.
  detail::atomic<std::uint64_t> id{0};
  std::source_location started_at;
  unique_function<void()> body;
  char name[32] = "";
#if EXEUNT_ASAN || EXEUNT_TSAN
  arch::san_context san;
#else
  [[no_unique_address]] arch::san_context san;
#endif
};

/// Control blocks in slabs that live as long as their runtime: a block is never given back to the
/// system, so that a dump may look at any of them at any time.
///
/// Threads: all members, any thread.
class fiber_slabs {
 public:
  fiber_slabs() = default;
  ~fiber_slabs();
  fiber_slabs(const fiber_slabs&) = delete;
  fiber_slabs& operator=(const fiber_slabs&) = delete;

  /// Takes a free block. Throws: std::bad_alloc.
  fiber* get();
  void put(fiber& block) noexcept;
  /// Moves up to `count` free blocks to a list. Returns the first one.
  fiber* get_list(std::size_t count);
  void put_list(fiber* first, fiber* last) noexcept;

  /// Calls `visit(fiber&)` for every block that is not free, oldest slab first, without a lock on
  /// the fibers: what it reads may change while it reads.
  template <typename Visit>
  void for_each(const Visit& visit) const {
    const detail::spin_guard guard{lock_};
    for (fiber* const slab : slabs_) {
      for (std::size_t i = 0; i < slab_fibers; ++i) {
        // order: acquire, pairs with the release that makes a block ready.
        if (slab[i].state.load(detail::memory_order_acquire) != fiber_state::free) visit(slab[i]);
      }
    }
  }

 private:
  static constexpr std::size_t slab_fibers = 64;

  void grow();

  mutable detail::spin_lock lock_;
  std::vector<fiber*> slabs_;
  fiber* free_ = nullptr;
};

}  // namespace exeunt::sched
