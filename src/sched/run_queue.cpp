// SPDX-License-Identifier: Apache-2.0
// The local run queue.
//
// Invariants:
//   I1  tail - head <= capacity, both modulo 2^32.
//   I2  Slots head..tail-1 hold distinct fibers, oldest at head.
//   I3  A fiber leaves by the one successful compare-and-swap of head that passes it.
// Thieves copy slots before they advance head; if the owner has reused a slot meanwhile, head has
// moved and the swap fails, so the copy is thrown away.
// Tests: tests/sched/run_queue_test.cpp, sched_stress_test.cpp (I1-I3 by sums).

#include "sched/run_queue.hpp"

#include "sched/fiber.hpp"

namespace exeunt::sched {

using detail::memory_order_acq_rel;
using detail::memory_order_acquire;
using detail::memory_order_relaxed;
using detail::memory_order_release;

std::uint32_t run_queue::take_half(fiber*& first, fiber*& last) noexcept {
  std::uint32_t head = head_.load(memory_order_acquire);
  const std::uint32_t tail = tail_.load(memory_order_relaxed);
  const std::uint32_t count = (tail - head) / 2;
  if (count == 0) return 0;
  std::array<fiber*, capacity / 2> taken{};
  for (std::uint32_t i = 0; i < count; ++i) {
    taken[i] = ring_[(head + i) % capacity].load(memory_order_relaxed);
  }
  if (!head_.compare_exchange_strong(head, head + count, memory_order_acq_rel,
                                     memory_order_acquire)) {
    return 0;
  }
  for (std::uint32_t i = 0; i + 1 < count; ++i) taken[i]->next = taken[i + 1];
  first = taken[0];
  last = taken[count - 1];
  last->next = nullptr;
  return count;
}

fiber* run_queue::steal_into(run_queue& mine) noexcept {
  std::uint32_t head = head_.load(memory_order_acquire);
  for (;;) {
    const std::uint32_t tail = tail_.load(memory_order_acquire);  // order: sees the slots.
    std::uint32_t count = tail - head;
    if (static_cast<std::int32_t>(count) <= 0) return nullptr;
    count -= count / 2;
    if (count > capacity / 2) {  // head and tail were read at different times
      head = head_.load(memory_order_acquire);
      continue;
    }
    const std::uint32_t own_tail = mine.tail_.load(memory_order_relaxed);
    for (std::uint32_t i = 0; i < count; ++i) {
      mine.ring_[(own_tail + i) % capacity].store(
          ring_[(head + i) % capacity].load(memory_order_relaxed), memory_order_relaxed);
    }
    if (head_.compare_exchange_strong(head, head + count, memory_order_acq_rel,
                                      memory_order_acquire)) {
      fiber* const run_now =
          mine.ring_[(own_tail + count - 1) % capacity].load(memory_order_relaxed);
      if (count > 1) mine.tail_.store(own_tail + count - 1, memory_order_release);
      return run_now;
    }
  }
}

}  // namespace exeunt::sched
