// SPDX-License-Identifier: Apache-2.0
// Who uses a descriptor: one reader, one writer, any number of others, until it is closed and the
// last has left. It keeps a closed number from being used while the system gives it to another.

#pragma once

#include <array>
#include <cstdint>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/clock.hpp>
#include <exeunt/base/intrusive_list.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/cancel.hpp>
#include <exeunt/sched/io.hpp>
#include <exeunt/sched/wait.hpp>

namespace exeunt::net {

using detail::cancel_node;
using detail::io_direction;

/// Threads: all members, any thread. Lock and unlock need not be called by the same one.
class fd_lock {
 public:
  fd_lock() noexcept = default;
  fd_lock(const fd_lock&) = delete;
  fd_lock& operator=(const fd_lock&) = delete;

  /// Becomes the one user of a direction. `deadline` is read again whenever the wait is ended by
  /// poke().
  ///
  /// Returns: errc::closed once close() was called; else what ended the wait for one's turn.
  /// Blocks:  while another one uses the direction.
  [[nodiscard]] result<> lock(io_direction direction, cancel_node* cancel,
                              const detail::atomic<clock::rep>& deadline) noexcept;
  /// Returns: true if the descriptor was closed and this was its last user, who then frees it.
  /// Asserts: the direction is locked.
  [[nodiscard]] bool unlock(io_direction direction) noexcept;

  /// Becomes one of any number of users. Returns: false once close() was called.
  [[nodiscard]] bool enter() noexcept;
  /// Returns: as unlock(). Asserts: there is a user to leave.
  [[nodiscard]] bool leave() noexcept;

  /// From now on nobody gets in; those who wait for their turn get errc::closed. On true the
  /// caller is a user, has to end the waits of the others, and to leave().
  ///
  /// Returns: false if it was closed before.
  [[nodiscard]] bool close() noexcept;
  /// Whether it was. What is closed stays so.
  [[nodiscard]] bool is_closed() const noexcept {
    // order: relaxed; a look. close() decides.
    return (state_.load(detail::memory_order_relaxed) & closed_bit) != 0;
  }

  /// Lets those who wait for their turn look at their deadlines again.
  void poke() noexcept;

 private:
  // Bit 0: closed. Bits 1, 2: a reader, a writer is in. Bits 3, 4: somebody waits to read, to
  // write; changed under queues_lock_. From bit 5: the number of users, those in directions too.
  static constexpr std::uint64_t closed_bit = 1;
  static constexpr std::uint64_t user = std::uint64_t{1} << 5U;
  static constexpr std::uint64_t held_bit(io_direction d) noexcept {
    return std::uint64_t{2} << static_cast<unsigned>(d);
  }
  static constexpr std::uint64_t waiting_bit(io_direction d) noexcept {
    return std::uint64_t{8} << static_cast<unsigned>(d);
  }

  enum class attempt : std::uint8_t { got, taken, closed };
  attempt try_lock(io_direction direction) noexcept;
  result<> wait_for_turn(io_direction direction, cancel_node* cancel,
                         clock::time_point deadline) noexcept;
  void wake_first(io_direction direction) noexcept;
  void wake_all(io_direction direction) noexcept;

  detail::atomic<std::uint64_t> state_{0};
  detail::spin_lock queues_lock_;
  std::array<detail::intrusive_list<detail::waiter>, 2> queues_;  // By io_direction.
};

}  // namespace exeunt::net
