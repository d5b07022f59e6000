// SPDX-License-Identifier: Apache-2.0
// Operators new and delete that tell the simulation, if the calling thread runs one.
// Tests: tests/sim/bytes_test.cpp.

#include <exeunt/sim/bytes.hpp>

#include <malloc.h>
#include <cstdlib>

#include <exeunt/base/atomic.hpp>
#include <exeunt/sched/wait.hpp>

#include "sim/world.hpp"

namespace exeunt::sim {

namespace {
detail::atomic<bool> somebody_counts{false};
}

void count_bytes(std::ptrdiff_t change) noexcept {
  // order: relaxed, both; who asks has allocated something before, and a simulation begins by
  // starting a thread.
  if (!somebody_counts.load(detail::memory_order_relaxed)) [[unlikely]]
    somebody_counts.store(true, detail::memory_order_relaxed);
  if (!detail::any_simulation()) return;
  if (world* const here = world::of_this_thread()) here->count_bytes(change);
}

bool bytes_are_counted() {
#ifdef EXEUNT_HAS_TSAN
  return true;  // As far as they can be.
#else
  ::operator delete(::operator new(1));
  return somebody_counts.load(detail::memory_order_relaxed);
#endif
}

}  // namespace exeunt::sim

namespace exeunt::detail {

namespace {

// The same for a block's whole life, whatever was asked for.
std::ptrdiff_t bytes_of(void* memory) noexcept {
  return static_cast<std::ptrdiff_t>(::malloc_usable_size(memory));
}

}  // namespace

void* allocate_counted(std::size_t size, std::size_t alignment) {
  for (;;) {
    void* memory = nullptr;
    if (alignment <= plain_alignment) {
      memory = std::malloc(size == 0 ? 1 : size);
    } else if (::posix_memalign(&memory, alignment, size == 0 ? 1 : size) != 0) {
      memory = nullptr;
    }
    if (memory != nullptr) {
      sim::count_bytes(bytes_of(memory));
      return memory;
    }
    const std::new_handler make_room = std::get_new_handler();
    if (make_room == nullptr) throw std::bad_alloc{};
    make_room();
  }
}

void* try_allocate_counted(std::size_t size, std::size_t alignment) noexcept {
  try {
    return allocate_counted(size, alignment);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void free_counted(void* memory) noexcept {
  if (memory == nullptr) return;
  sim::count_bytes(-bytes_of(memory));
  std::free(memory);
}

}  // namespace exeunt::detail
