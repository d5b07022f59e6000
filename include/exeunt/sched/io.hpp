// SPDX-License-Identifier: Apache-2.0
// detail: descriptors that fibers wait on.

#pragma once

#include <cstdint>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/sched/wait.hpp>

namespace exeunt::detail {

class cancel_node;
struct io_slot;

enum class io_direction : std::uint8_t { read, write };

/// A non-blocking descriptor registered with the runtime's poller, edge-triggered, once for its
/// life. Owns the descriptor.
///
/// Use: try the system call; on EAGAIN wait(), then try again. A wait may end without reason.
/// Threads: one waiter a direction at a time; shut_down() from anywhere.
class EXEUNT_API io_descriptor {
 public:
  io_descriptor() noexcept = default;
  /// Takes over `fd`, makes it non-blocking and registers it. On failure `fd` is closed.
  [[nodiscard]] static result<io_descriptor> adopt(int fd) noexcept;
  /// As adopt(), but on failure `fd` stays open and the caller's.
  [[nodiscard]] static result<io_descriptor> try_adopt(int fd) noexcept;
  io_descriptor(io_descriptor&& other) noexcept;
  io_descriptor& operator=(io_descriptor&& other) noexcept;
  /// close().
  ~io_descriptor();

  [[nodiscard]] int fd() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

  /// Parks until the direction may be ready. `cancel` may be null. Once the peer writes no more,
  /// waits to read do not park.
  ///
  /// Returns: errc::canceled or errc::deadline_exceeded when `cancel` ended (its error);
  ///          errc::deadline_exceeded when `deadline` passed; errc::closed after shut_down(),
  ///          or when the runtime that adopted it has stopped.
  /// Asserts: no other waiter in this direction.
  [[nodiscard]] result<> wait(io_direction direction, wait_reason why, cancel_node* cancel,
                              clock::time_point deadline = no_deadline) noexcept;

  /// Starts `fiber_body(argument)` in a fiber of its own at the next readiness to read, or at
  /// once if there has been one since the last wait or start: an idle connection needs neither a
  /// stack nor a waiter. One-shot.
  /// Asserts: nobody waits to read.
  void start_when_readable(void (*fiber_body)(void*), void* argument) noexcept;
  /// Returns: true if a pending start was taken back and will not happen.
  [[nodiscard]] bool cancel_start() noexcept;

  /// Ends the present wait in `direction`, else the next one, without a reason: for whoever has
  /// changed what is waited for, such as a deadline. Threads: any.
  void wake(io_direction direction) noexcept;

  /// Ends all waits, now and later, with errc::closed. The descriptor stays open.
  void shut_down() noexcept;
  /// shut_down(), then close(2). Asserts: called by nobody but the owner.
  void close() noexcept;
  /// Gives the descriptor up, deregistered and still open.
  [[nodiscard]] int release() noexcept;

 private:
  int fd_ = -1;
  io_slot* slot_ = nullptr;
};

}  // namespace exeunt::detail
