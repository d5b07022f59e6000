// SPDX-License-Identifier: Apache-2.0
// The only thread-local state of the project, behind accessors that no optimizer sees through.

#pragma once

#include <cstdint>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/random.hpp>

namespace exeunt::sched {

class worker;
struct fiber;

/// A plain thread's side of a park: 0 while it waits, 1 when woken; a futex.
struct thread_block {
  detail::atomic<std::uint32_t> woken{0};
};

struct thread_state {
  worker* of_worker = nullptr;  ///< null on threads that are not workers
  thread_block block;
  detail::random_source random{0};
  bool seeded = false;
};

/// The calling thread's state. Ask again after whatever may park: a fiber may wake on another
/// thread, and the compiler may not keep the old answer.
[[gnu::noinline]] thread_state& this_thread() noexcept;

/// The worker that runs here, or null.
[[gnu::noinline]] worker* this_worker() noexcept;

/// From now on a forked child is a plain thread without a runtime; see forked_without_exec().
void watch_forks();

/// True in a child of a process that had a runtime. Its worker threads are not there, and so
/// nothing but exec, and exit, is allowed.
bool forked_without_exec() noexcept;

/// The running fiber, or null on a plain thread and in a worker's own loop.
[[gnu::noinline]] fiber* this_fiber_block() noexcept;

}  // namespace exeunt::sched
