// SPDX-License-Identifier: Apache-2.0
// The only thread-local state of the project, behind accessors that no optimizer sees through.

#pragma once

#include <cstddef>
#include <cstdint>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/base/random.hpp>
#include <exeunt/base/thread_word.hpp>
#include <exeunt/sched/wait.hpp>

namespace exeunt::detail {
struct snapshot_slot;  // sync/atomic_value.hpp
}  // namespace exeunt::detail

namespace exeunt::sched {

class worker;
struct fiber;
struct fiber_locals;
struct held_locks;

/// A plain thread's side of a park: 0 while it waits, 1 when woken; a futex.
struct thread_block {
  detail::atomic<std::uint32_t> woken{0};
  const void* timeout =
      nullptr;  ///< claims the ticket at `deadline`; null: none. The thread's own.
  clock::time_point deadline{};
};

struct thread_state {
  thread_block block;
  detail::random_source random{0};
  bool seeded = false;
  detail::turn own_turn;                  ///< of a thread that is no worker
  bool hides_broken_pipes = false;        ///< blocks SIGPIPE, which its forked children must not
  bool in_hook = false;                   ///< a switch hook is being called
  bool in_detector = false;               ///< of lock orders: what it calls is not watched
  fiber_locals* locals = nullptr;         ///< the thread's own, while it runs no fiber
  held_locks* held = nullptr;             ///< the same; see held_locks.hpp
  const std::byte* stack_base = nullptr;  ///< the thread's own; null until somebody asks
  const std::byte* stack_end = nullptr;
};

/// The calling thread's state. Ask again after whatever may park: a fiber may wake on another
/// thread, and the compiler may not keep the old answer.
[[gnu::noinline]] thread_state& this_thread() noexcept;

// Beside the state, for they are read with every operation.
extern "C" {
EXEUNT_API extern constinit thread_local worker* exeunt_this_worker;
EXEUNT_API extern constinit thread_local detail::snapshot_slot* exeunt_this_slot;
}

/// The worker that runs here, or null. Ask again after whatever may park.
EXEUNT_NO_TSAN [[gnu::always_inline]] inline worker* this_worker() noexcept {
  return EXEUNT_READ_THREAD_WORD(exeunt_this_worker);
}
/// The calling thread's turn; as detail::this_turn(), in line.
EXEUNT_NO_TSAN [[gnu::always_inline]] inline detail::turn& this_turn() noexcept {
  detail::turn* const here = detail::workers_turn();
  return here != nullptr ? *here : detail::this_turn();
}
/// Lets `slot` be what the calling thread loads atomic values by. If it is not null, `end(slot)` is
/// called when the thread ends, in turn with the destructors of its thread_locals.
/// Throws: std::bad_alloc; then it has what it had.
void keep_slot(detail::snapshot_slot* slot, void (*end)(void* slot) noexcept);
/// Makes the calling thread `here`'s, which has `turn`; or with two nulls a plain one again.
void become(worker* here, detail::turn* turn) noexcept;

/// From now on a forked child is a plain thread without a runtime; see forked_without_exec().
void watch_forks();

extern detail::atomic<bool> forked;  ///< see forked_without_exec()

/// True in a child of a process that had a runtime. Its worker threads are not there, so calls that
/// need one end in refuse_in_child(). The objects it inherited may be destroyed by exit(): that
/// touches neither the kernel's objects, which the parent still uses, nor a lock, which a thread
/// that is not there may hold. Whoever waited is not there either, and needs no wake-up.
/// Cost: one load of a word that is written once.
inline bool forked_without_exec() noexcept {
  return forked.load(detail::memory_order_relaxed);  // order: relaxed; the child has one thread.
}

/// Ends a forked child that asked for what only a runtime can give: "a forked child <asks>; …".
[[noreturn, gnu::cold]] void refuse_in_child(const char* asks) noexcept;

/// The running fiber, or null on a plain thread and in a worker's own loop.
[[gnu::noinline]] fiber* this_fiber_block() noexcept;

/// Where the running fiber has its locals, or the plain thread.
[[gnu::noinline]] fiber_locals*& locals_of_caller() noexcept;
/// Where it has the list of the locks that it holds; see held_locks.hpp.
[[gnu::noinline]] held_locks*& held_of_caller() noexcept;

}  // namespace exeunt::sched
