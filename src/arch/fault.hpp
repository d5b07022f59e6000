// SPDX-License-Identifier: Apache-2.0
//
// Stack overflow told apart from other faults: a handler for SIGSEGV and SIGBUS that names the
// fiber whose guard was hit, and then lets the process die as it would have.
#pragma once

#include <cstddef>

namespace exeunt::arch {

/// Says whose guard zone `fault_address` lies in: writes a name to `buf` (at most n bytes with the
/// terminating zero) and returns true, or returns false if it is nobody's.
/// Threads: called from a signal handler on any thread: no locks, no allocation.
using describe_fault = bool (*)(void* fault_address, char* buf, std::size_t n);

/// Installs the handler, or only replaces `describe` if it is installed; each call wants one
/// uninstall_fault_handler(). On a fault that `describe`
/// claims, "exeunt: stack overflow in <buf>" and a hint go to stderr. Every fault then goes on to
/// the handler that was there before, or to the default action.
/// Threads: a thread whose overflow is to be told needs ensure_alt_stack().
void install_fault_handler(describe_fault describe);
/// Takes one install back. With the last one the previous handlers are put back, unless somebody
/// has replaced ours meanwhile.
void uninstall_fault_handler();

/// Gives the calling thread an alternate signal stack, unless it has one.
void ensure_alt_stack();
/// Takes the calling thread's alternate signal stack away again if ensure_alt_stack() made it; to
/// be called before the thread ends.
void release_alt_stack();

}  // namespace exeunt::arch
