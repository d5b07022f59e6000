// SPDX-License-Identifier: Apache-2.0
// Counts what operator new gives out inside a simulation, for explore_options::check_bytes.
//
//   #include <exeunt/sim/bytes.hpp>
//   EXEUNT_SIM_COUNT_BYTES  // In one source file of the test program, outside of namespaces.
//
// It is the test program that replaces its operators new and delete, never this library. A program
// that has operators of its own calls count_bytes() from them instead. In a build with
// ThreadSanitizer, whose operators cannot be replaced, nothing is counted, and nothing found.

#pragma once

#include <cstddef>
#include <new>

#include <exeunt/base/export.hpp>
#include <exeunt/base/race.hpp>

namespace exeunt::sim {

/// So many bytes were allocated, or, less than zero, freed, by the calling thread. By an operator
/// new or delete: outside of simulations it costs two loads and two branches.
/// Threads: any, at any time of the process's life.
EXEUNT_API void count_bytes(std::ptrdiff_t change) noexcept;

}  // namespace exeunt::sim

namespace exeunt::detail {

/// As the standard's operator new, by malloc(); `alignment` is a power of two.
/// Throws: std::bad_alloc.
[[nodiscard]] EXEUNT_API void* allocate_counted(std::size_t size, std::size_t alignment);
/// The same; null instead of an exception.
[[nodiscard]] EXEUNT_API void* try_allocate_counted(std::size_t size,
                                                    std::size_t alignment) noexcept;
EXEUNT_API void free_counted(void* memory) noexcept;

inline constexpr std::size_t plain_alignment = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

}  // namespace exeunt::detail

// What the macro makes twice: of an operator and of its form for arrays.
#define EXEUNT_SIM_COUNTED_OPERATORS(array)                                                     \
  void* operator new array(std::size_t size) {                                                  \
    return ::exeunt::detail::allocate_counted(size, ::exeunt::detail::plain_alignment);         \
  }                                                                                             \
  void* operator new array(std::size_t size, const std::nothrow_t&) noexcept {                  \
    return ::exeunt::detail::try_allocate_counted(size, ::exeunt::detail::plain_alignment);     \
  }                                                                                             \
  void* operator new array(std::size_t size, std::align_val_t alignment) {                      \
    return ::exeunt::detail::allocate_counted(size, static_cast<std::size_t>(alignment));       \
  }                                                                                             \
  void* operator new array(std::size_t size, std::align_val_t alignment,                        \
                           const std::nothrow_t&) noexcept {                                    \
    return ::exeunt::detail::try_allocate_counted(size, static_cast<std::size_t>(alignment));   \
  }                                                                                             \
  void operator delete array(void* memory) noexcept { ::exeunt::detail::free_counted(memory); } \
  void operator delete array(void* memory, std::size_t) noexcept {                              \
    ::exeunt::detail::free_counted(memory);                                                     \
  }                                                                                             \
  void operator delete array(void* memory, std::align_val_t) noexcept {                         \
    ::exeunt::detail::free_counted(memory);                                                     \
  }                                                                                             \
  void operator delete array(void* memory, std::size_t, std::align_val_t) noexcept {            \
    ::exeunt::detail::free_counted(memory);                                                     \
  }                                                                                             \
  void operator delete array(void* memory, const std::nothrow_t&) noexcept {                    \
    ::exeunt::detail::free_counted(memory);                                                     \
  }                                                                                             \
  void operator delete array(void* memory, std::align_val_t, const std::nothrow_t&) noexcept {  \
    ::exeunt::detail::free_counted(memory);                                                     \
  }

/// Replaces the program's global operators new and delete by ones that count.
#ifdef EXEUNT_HAS_TSAN
#define EXEUNT_SIM_COUNT_BYTES
#else
#define EXEUNT_SIM_COUNT_BYTES   \
  EXEUNT_SIM_COUNTED_OPERATORS() \
  EXEUNT_SIM_COUNTED_OPERATORS([])
#endif
