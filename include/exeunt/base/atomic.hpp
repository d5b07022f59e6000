// SPDX-License-Identifier: Apache-2.0
// The only door to <atomic> for the runtime's own code, so that a model-checking build can swap it.

#pragma once

#include <atomic>
#include <type_traits>

#ifdef EXEUNT_CORE_MODEL  // Names src/base/model_atomic.hpp, in that build.
#include EXEUNT_CORE_MODEL
#endif

namespace exeunt::detail {

#ifdef EXEUNT_CORE_MODEL
template <typename T>
using atomic = model::atomic<T>;
using model::fiber_section;
using model::scheduler_section;
using model::step_at_atomic;
#else
template <typename T>
using atomic = std::atomic<T>;

/// What belongs to the scheduler and not to the fiber that calls it: core_model lets no other fiber
/// run in it.
struct [[nodiscard]] scheduler_section {
  scheduler_section() noexcept {}
  ~scheduler_section() {}
  scheduler_section(const scheduler_section&) = delete;
  scheduler_section& operator=(const scheduler_section&) = delete;
};
/// What it runs for a fiber.
using fiber_section = scheduler_section;
/// Before an access to what is shared, which core_model may let another fiber make first.
inline void step_at_atomic() noexcept {}
#endif

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
  step_at_atomic();
  __atomic_store_n(&word, value, __ATOMIC_RELAXED);
}
template <typename T>
[[gnu::always_inline]] inline T load_word_acquire(const T& word) noexcept {
  static_assert(sizeof(T) == sizeof(void*));
  step_at_atomic();
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
