// SPDX-License-Identifier: Apache-2.0
// Slabs of control blocks.
//
// Invariants, whenever lock_ is free:
//   I1  Each block is in exactly one place: the free list, a worker's cache, or in use.
//   I2  A block in a free list has the state `free`.
// Locks: lock_ is a leaf.
// Tests: tests/sched/run_queue_test.cpp.

#include "sched/fiber.hpp"

#include <memory>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/race.hpp>

#include "sched/held_locks.hpp"

namespace exeunt::sched {

#if !EXEUNT_ASAN && !EXEUNT_TSAN
static_assert(sizeof(fiber) <= 256, "a parked fiber costs this and one page");
#endif

fiber_slabs::~fiber_slabs() {
  const detail::race_ignore own;
  for (fiber* const slab : slabs_) {
    for (std::size_t i = 0; i < slab_fibers; ++i) {
      if (slab[i].has_extras) drop_held(slab[i].held);  // Of the abandoned.
    }
    delete[] slab;
  }
}

void fiber_slabs::grow() {
  const detail::race_ignore own;
  slabs_.reserve(slabs_.size() + 1);
  fiber* const slab = new fiber[slab_fibers];
  slabs_.push_back(slab);
  for (std::size_t i = slab_fibers; i-- > 0;) {
    slab[i].next = free_;
    free_ = &slab[i];
  }
}

fiber* fiber_slabs::get() {
  const detail::spin_guard guard{lock_};
  if (free_ == nullptr) grow();
  fiber* const block = free_;
  free_ = block->next;
  block->next = nullptr;
  return block;
}

fiber* fiber_slabs::get_list(std::size_t count) {
  const detail::spin_guard guard{lock_};
  if (free_ == nullptr) grow();
  fiber* const first = free_;
  fiber* last = first;
  while (--count > 0 && last->next != nullptr) last = last->next;
  free_ = last->next;
  last->next = nullptr;
  return first;
}

void fiber_slabs::put(fiber& block) noexcept { put_list(&block, &block); }

void fiber_slabs::put_list(fiber* first, fiber* last) noexcept {
  const detail::spin_guard guard{lock_};
  last->next = free_;
  free_ = first;
}

}  // namespace exeunt::sched
