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
#include "arch/switch.hpp"

namespace exeunt::sched {

class runtime_core;
struct fiber_locals;
struct held_locks;

/// Legal moves: free -> ready -> {parked, free}; parked -> ready. One that runs is ready, and on
/// its stack.
enum class fiber_state : std::uint8_t { free, ready, parked };

/// Who may enter a fiber's stack.
enum class fiber_seat : std::uint8_t {
  free,   ///< whoever takes the fiber out of a queue
  taken,  ///< nobody: a thread is on it, though the fiber may be queued already
  none,   ///< it has no stack yet
};

struct alignas(64) fiber {
  // The first line: what a switch and the queues touch.
  arch::switch_context context;  ///< where it goes on
  fiber* next = nullptr;         ///< in a shared queue or in a free list
  arch::eh_state eh;
  detail::atomic<fiber_seat> on_stack{fiber_seat::none};
  detail::atomic<fiber_state> state{fiber_state::free};
  detail::wait_reason waits_for = detail::wait_reason::none;
  bool unguarded : 1 = false;     ///< its stack has no guard: the saved sp is checked
  bool has_extras : 1 = false;    ///< the last line may differ from that of a new block
  std::uint16_t last_worker = 0;  ///< who ran it last; exact under forced migration only
  std::uint16_t bound_to = 0;     ///< by lock_os_thread: the worker's index plus 1; 0: nobody
  runtime_core* home = nullptr;   ///< the runtime it belongs to, for good

  // The second and the third: start, end and reports.
  const void* waits_on = nullptr;
  clock::time_point since{};  ///< when it parked, by its worker's last look at the clock
  arch::stack stack;          ///< bound at the first run
  detail::atomic<std::uint64_t> id{0};
  std::source_location started_at;
  unique_function<void()> body;

  // The last: what few have. Who changes it sets has_extras.
  fiber_locals* locals = nullptr;  ///< see fiber_locals.hpp
  held_locks* held = nullptr;      ///< see held_locks.hpp
  std::uint32_t stack_kib = 0;     ///< asked for; 0 is the default
  std::uint32_t thread_locks = 0;  ///< how many lock_os_thread it holds
  char name[32] = "";
#if EXEUNT_ASAN || EXEUNT_TSAN
  arch::san_context san;
#else
  [[no_unique_address]] arch::san_context san;
#endif

  /// The size of the stack that was asked for.
  std::uint32_t wanted_kib() const noexcept { return has_extras ? stack_kib : 0; }
  /// What going on with it will read first. One that never ran has no stack; a prefetch of any
  /// address is harmless.
  void prefetch_stack() const noexcept {
    const auto top = reinterpret_cast<std::uintptr_t>(context.sp);
    __builtin_prefetch(reinterpret_cast<const void*>(top), 1);
    __builtin_prefetch(reinterpret_cast<const void*>(top + 64), 1);
  }
};
static_assert(offsetof(fiber, waits_on) == 64, "a switch touches one line of a block");
static_assert(offsetof(fiber, body) == 128 && offsetof(fiber, locals) == 192,
              "most fibers do without the last line");

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
