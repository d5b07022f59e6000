// SPDX-License-Identifier: Apache-2.0
// What the scheduler asks of the kernel: which descriptors are ready, and a nap until then.
//
// The poller knows no fibers. It returns the tokens it was given, which the scheduler turns into
// wake-ups or into the start of a fiber. It is a parameter of the runtime: simulations replace it.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/result.hpp>

namespace exeunt::poll {

/// One descriptor's readiness, edge-triggered: reported once a change.
struct event {
  std::uint64_t token = 0;
  bool readable = false;  ///< data, end of stream or an error
  bool writable = false;  ///< room, or an error
  bool ended = false;     ///< the peer writes no more: a read never says "not now" again
};

class poller {
 public:
  virtual ~poller() = default;

  /// Descriptors from here on are no descriptors of the system, but a simulation's.
  static constexpr int first_own = 1 << 30;
  /// As close(2), of one of those.
  virtual void close_own(int fd) noexcept { static_cast<void>(fd); }

  /// Watches `fd` in both directions until remove() or close(2).
  /// Threads: any, also while another thread is in wait().
  [[nodiscard]] virtual result<> add(int fd, std::uint64_t token) noexcept = 0;
  virtual void remove(int fd) noexcept = 0;

  /// Collects up to `room` events.
  /// Blocks:  the thread until an event, a wake() or `until`; clock::time_point::min() does not
  /// block. Returns: how many events; 0 after a wake() or at `until`. Threads: one at a time may
  /// block; others may call it with clock::time_point::min().
  [[nodiscard]] virtual std::size_t wait(event* events, std::size_t room,
                                         clock::time_point until) noexcept = 0;

  /// Makes the blocking wait() return; sticks until one does. Threads: any; async-signal-safe.
  virtual void wake() noexcept = 0;
};

/// The Linux one.
/// Throws: std::system_error if the system refuses a descriptor.
[[nodiscard]] std::unique_ptr<poller> make_epoll_poller();

}  // namespace exeunt::poll
