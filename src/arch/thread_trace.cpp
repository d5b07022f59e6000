// SPDX-License-Identifier: Apache-2.0
// One question at a time, in static memory: a thread that answers after nobody waits any more must
// find its question still there.
//
// States: `wanted` is the thread that is asked, 0 when nobody is. It alone writes the answer, and
// publishes it by `answered`.
// Tests: tests/arch/thread_trace_test.cpp.

#include "arch/thread_trace.hpp"

#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <ctime>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/spin_lock.hpp>

namespace exeunt::arch {
namespace {

using detail::memory_order_acquire;
using detail::memory_order_relaxed;
using detail::memory_order_release;

constexpr int depth_max = 48;

detail::spin_lock one_at_a_time;
detail::atomic<int> wanted{0};
detail::atomic<bool> answered{false};
int depth = 0;
std::uintptr_t addresses[depth_max];

std::uintptr_t interrupted_at(void* context) noexcept {
  const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  return static_cast<std::uintptr_t>(machine.gregs[REG_RIP]);
#else
  return static_cast<std::uintptr_t>(machine.pc);
#endif
}

struct recording {
  std::uintptr_t from;  // What is further in is this handler's.
  bool began = false;
};

_Unwind_Reason_Code record_frame(_Unwind_Context* context, void* arg) {
  auto& r = *static_cast<recording*>(arg);
  const std::uintptr_t pc = _Unwind_GetIP(context);
  r.began = r.began || pc == r.from;
  if (!r.began) return _URC_NO_REASON;
  if (pc == 0 || depth == depth_max) return _URC_END_OF_STACK;
  // The others are return addresses, which whoever shows them takes for the end of their calls.
  addresses[depth] = depth == 0 ? pc + 1 : pc;
  ++depth;
  return _URC_NO_REASON;
}

// The unwinder finds its tables without a lock, by _dl_find_object(), from glibc 2.35.
void answer(int /*signal*/, siginfo_t* /*info*/, void* context) {
  const int errno_before = errno;
  const int me = static_cast<int>(::syscall(SYS_gettid));
  if (wanted.load(memory_order_acquire) == me && !answered.load(memory_order_relaxed)) {
    depth = 0;
    recording r{interrupted_at(context)};
    _Unwind_Backtrace(record_frame, &r);
    answered.store(true, memory_order_release);  // order: publishes the addresses.
  }
  errno = errno_before;
}

}  // namespace

int trace_thread(int id, void** pcs, int max, std::chrono::milliseconds limit) noexcept {
  const detail::spin_guard guard{one_at_a_time};
  struct sigaction ours{};
  ours.sa_sigaction = answer;
  ours.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  struct sigaction before{};
  if (::sigaction(SIGURG, &ours, &before) != 0) return 0;
  answered.store(false, memory_order_relaxed);
  wanted.store(id, memory_order_release);  // order: after the reset.
  int found = 0;
  if (::syscall(SYS_tgkill, ::getpid(), id, SIGURG) == 0) {
    const timespec pause{0, 100'000};
    for (auto left = limit * 10; left.count() > 0; --left) {
      if (answered.load(memory_order_acquire)) break;
      ::nanosleep(&pause, nullptr);
    }
  }
  wanted.store(0, memory_order_relaxed);
  if (answered.load(memory_order_acquire)) {
    found = std::min(depth, max);
    for (int i = 0; i < found; ++i) pcs[i] = reinterpret_cast<void*>(addresses[i]);
  }
  ::sigaction(SIGURG, &before, nullptr);
  return found;
}

}  // namespace exeunt::arch
