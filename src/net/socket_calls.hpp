// SPDX-License-Identifier: Apache-2.0
// What a simulation has in place of the system's sockets.

#pragma once

#include <cstddef>
#include <span>

#include <exeunt/net/address.hpp>
#include <exeunt/net/buffer.hpp>

#include "poll/poller.hpp"

namespace exeunt::net {

/// As the system calls of their names, on descriptors from poll::poller::first_own on. Outcomes are
/// as theirs; failures are negated errno values. Readiness comes by the runtime's poller, by edges
/// as epoll has them: a read or a write that did less than asked is followed by an edge when there
/// is more to be done.
class socket_calls {
 public:
  virtual ~socket_calls() = default;

  [[nodiscard]] virtual int open(family of) = 0;
  [[nodiscard]] virtual int listen(int fd, const address& where, int backlog) = 0;
  [[nodiscard]] virtual int accept(int fd, address& from) = 0;
  [[nodiscard]] virtual int connect(int fd, const address& to) = 0;
  [[nodiscard]] virtual int connect_outcome(int fd) = 0;
  [[nodiscard]] virtual std::ptrdiff_t receive(int fd, buffer into) = 0;
  [[nodiscard]] virtual std::ptrdiff_t send(int fd, std::span<const const_buffer> from,
                                            std::size_t offset) = 0;
  [[nodiscard]] virtual int shutdown_write(int fd) = 0;
  /// A close() sends a reset then.
  virtual void discard_on_close(int fd) = 0;
  virtual void close(int fd) = 0;

  [[nodiscard]] virtual address local_address(int fd) = 0;
  [[nodiscard]] virtual address peer_address(int fd) = 0;
  [[nodiscard]] virtual bool is_listening(int fd) = 0;
  /// Of a listener: clients that accept() has not taken.
  [[nodiscard]] virtual std::size_t waiting(int fd) = 0;
  /// From now on nobody new gets an answer.
  virtual void stop_incoming(int fd) = 0;
  /// Whether there is something to read, an end or a reset included; and whether it is an end.
  struct state {
    bool readable = false;
    bool ended = false;
  };
  [[nodiscard]] virtual state look(int fd) = 0;
  /// Whether the peer's side has all that was sent.
  [[nodiscard]] virtual bool all_arrived(int fd) = 0;
};

/// The calling fiber's simulation's, if `fd` is one of its descriptors; else null.
[[nodiscard]] socket_calls* calls_for(int fd) noexcept;
/// The calling fiber's simulation's; else null.
[[nodiscard]] socket_calls* simulated_calls() noexcept;

}  // namespace exeunt::net
