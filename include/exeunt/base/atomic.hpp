// SPDX-License-Identifier: Apache-2.0
// The only door to <atomic> for the runtime's own code, so that a model-checking build can swap it.

#pragma once

#include <atomic>

namespace exeunt::detail {

template <typename T>
using atomic = std::atomic<T>;

using std::memory_order_acq_rel;
using std::memory_order_acquire;
using std::memory_order_relaxed;
using std::memory_order_release;
using std::memory_order_seq_cst;

inline void atomic_fence() noexcept { std::atomic_thread_fence(std::memory_order_seq_cst); }

/// Tells the CPU that this is a spin loop.
inline void cpu_relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace exeunt::detail
