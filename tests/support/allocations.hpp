// SPDX-License-Identifier: Apache-2.0
// Counts what operator new is asked for, of the whole process, by replacing it: for one source file
// of an executable. Sanitizers have operators of their own; there is nothing then, and
// EXEUNT_COUNTS_ALLOCATIONS is not defined.

#pragma once

#if !defined(EXEUNT_TSAN) && !defined(EXEUNT_ASAN)
#define EXEUNT_COUNTS_ALLOCATIONS 1

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace exeunt::test {
inline std::atomic<std::size_t> allocations{0};
}

// NOLINTBEGIN: counting is the purpose. Not inlined, or GCC finds new and free() mismatched.
[[gnu::noinline]] void* operator new(std::size_t size) {
  exeunt::test::allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* const memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc{};
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment) {
  exeunt::test::allocations.fetch_add(1, std::memory_order_relaxed);
  const auto to = static_cast<std::size_t>(alignment);
  if (void* const memory = std::aligned_alloc(to, (size + to - 1) / to * to)) return memory;
  throw std::bad_alloc{};
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}
// NOLINTEND

#endif
