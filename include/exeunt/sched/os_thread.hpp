// SPDX-License-Identifier: Apache-2.0
// Keeping a fiber on its thread, for what the operating system or a library keeps by thread.

#pragma once

#include <exeunt/base/export.hpp>

namespace exeunt {

/// While one lives, the running fiber stays on its thread, and no other fiber runs there: for
/// thread-locals of a library, namespaces (unshare(2)), credentials and thread priorities. As Go's
/// runtime.LockOSThread; scopes of one fiber count.
///
/// The thread does not count for procs meanwhile: the others have as many workers as ever. When
/// the last scope ends, the fiber may move again, from its next scheduling point on. What was
/// changed about the thread (its namespaces, its priority) is to be undone by then.
///
/// Outside fibers it does nothing: a plain thread stays what it is.
///
/// Threads: to be destroyed by the fiber that made it.
/// Cost:    a lock. A fiber with a thread of its own is woken by the kernel, not by a switch: some
///          20 µs for each wait.
class EXEUNT_API lock_os_thread {
 public:
  lock_os_thread() noexcept;
  ~lock_os_thread();
  lock_os_thread(const lock_os_thread&) = delete;
  lock_os_thread& operator=(const lock_os_thread&) = delete;
};

}  // namespace exeunt
