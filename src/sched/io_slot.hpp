// SPDX-License-Identifier: Apache-2.0
// The scheduler's side of a registered descriptor: who waits, and what was seen while nobody did.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/wait.hpp>

namespace exeunt::sched {
class io_registry;
class runtime_core;
}  // namespace exeunt::sched

namespace exeunt::detail {

struct io_slot {
  struct side {
    bool ready = false;  // Became ready while nobody waited.
    bool ended = false;  // Stays ready: of the read side, when the peer writes no more.
    waiter* waiting = nullptr;
  };

  spin_lock lock;
  std::array<side, 2> sides;  // By io_direction.
  bool shut = false;
  void (*start)(void*) = nullptr;  // Starts a fiber at the next readiness to read.
  void* start_argument = nullptr;
  std::uint32_t generation = 0;  // Of the descriptor; events of an earlier one are dropped.
  sched::runtime_core* home = nullptr;
  io_slot* next_free = nullptr;

  /// Under the lock: shuts, and claims who waits; `due` is to be fired after unlocking.
  void end_waits(wakeup (&due)[2]) noexcept;
};

}  // namespace exeunt::detail

namespace exeunt::sched {

/// A runtime's slots. They are never freed before it, as an event may name one at any time.
/// Threads: all members, any thread.
class io_registry {
 public:
  io_registry() = default;
  /// orphan(), and frees what nobody has a descriptor of.
  ~io_registry();
  io_registry(const io_registry&) = delete;
  io_registry& operator=(const io_registry&) = delete;

  /// Throws: std::bad_alloc.
  detail::io_slot* get(runtime_core& home);
  void put(detail::io_slot& slot) noexcept;
  /// The runtime has ended: whoever waits on a descriptor of it, or still owns one, gets
  /// errc::closed: threads and fibers of other runtimes. Of its own, which were abandoned, the
  /// wake-up ends in a queue that nobody takes from.
  void orphan() noexcept;

  /// Slot and generation as one word for the poller: an address, and the low 16 bits of the count.
  static std::uint64_t token_of(const detail::io_slot& slot) noexcept;
  static detail::io_slot* slot_of(std::uint64_t token) noexcept;
  static bool current(std::uint64_t token, const detail::io_slot& slot) noexcept;

 private:
  static constexpr std::size_t slab_slots = 64;

  detail::spin_lock lock_;
  std::vector<detail::io_slot*> slabs_;
  detail::io_slot* free_ = nullptr;
  bool orphaned_ = false;
};

}  // namespace exeunt::sched
