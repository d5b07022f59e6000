// SPDX-License-Identifier: Apache-2.0
// The only door to <atomic> for the runtime's own code, so that a model-checking build can swap it.

#pragma once

#include <atomic>
#include <type_traits>

namespace exeunt::detail {

template <typename T>
using atomic = std::atomic<T>;

using std::memory_order_acq_rel;
using std::memory_order_acquire;
using std::memory_order_relaxed;
using std::memory_order_release;
using std::memory_order_seq_cst;

inline void atomic_fence() noexcept { std::atomic_thread_fence(std::memory_order_seq_cst); }

/// A plain word as an atomic one, where only some of its uses need it to be one. By the compiler's
/// own functions: those of std::atomic_ref are calls that ThreadSanitizer would see.
template <typename T>
[[gnu::always_inline]] inline void store_word(T& word, std::type_identity_t<T> value) noexcept {
  static_assert(sizeof(T) == sizeof(void*));
  __atomic_store_n(&word, value, __ATOMIC_RELAXED);
}
template <typename T>
[[gnu::always_inline]] inline T load_word_acquire(const T& word) noexcept {
  static_assert(sizeof(T) == sizeof(void*));
  return __atomic_load_n(&word, __ATOMIC_ACQUIRE);
}

/// Tells the CPU that this is a spin loop.
inline void cpu_relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace exeunt::detail
