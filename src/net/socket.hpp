// SPDX-License-Identifier: Apache-2.0
// System calls on sockets as values: the outcome, or the negated errno value.
//
// None is inlined: a fiber may go on by another thread, and compilers take the address of errno
// for a constant within one function.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <exeunt/base/result.hpp>
#include <exeunt/net/address.hpp>
#include <exeunt/net/buffer.hpp>

namespace exeunt::net {

/// At most this many buffers go into one system call; the rest goes into the next.
inline constexpr std::size_t buffers_per_call = 64;

[[nodiscard]] std::ptrdiff_t receive_now(int fd, buffer into) noexcept;
/// Skips the first `offset` bytes of `from`, and takes at most buffers_per_call of them.
[[nodiscard]] std::ptrdiff_t send_now(int fd, std::span<const const_buffer> from,
                                      std::size_t offset) noexcept;
/// Returns: the new descriptor, non-blocking and closed on exec, with the peer in `from`.
[[nodiscard]] int accept_one(int fd, address& from);
/// Returns: 0, or -EINPROGRESS while it goes on.
[[nodiscard]] int connect_now(int fd, const address& to) noexcept;
/// The outcome of a connect that went on: 0 or the negated errno value.
[[nodiscard]] int connect_outcome(int fd) noexcept;
/// A stream socket for addresses of this family.
[[nodiscard]] int open_stream(family of) noexcept;
/// Sets an int. Returns: 0 or the negated errno value.
int set_option(int fd, int level, int name, int value) noexcept;
/// Small packets at once, and probes for dead peers. Accepted sockets inherit both from a
/// listener's.
void set_tcp_defaults(int fd) noexcept;
[[nodiscard]] address local_address_of(int fd);
[[nodiscard]] address peer_address_of(int fd);
void close_now(int fd) noexcept;
/// Makes `fd` a listening socket bound to `where`. Returns: 0 or the negated errno value.
[[nodiscard]] int listen_at(int fd, const address& where, int backlog) noexcept;
/// 0 or the negated errno value.
[[nodiscard]] int shutdown_write(int fd) noexcept;
/// A close sends a reset then.
void discard_on_close(int fd) noexcept;
/// 1 if so, 0 if not, or the negated errno value.
[[nodiscard]] int is_listening(int fd) noexcept;
/// Whether a client waits in the queue of the listening socket.
[[nodiscard]] bool has_client(int fd) noexcept;
/// How many do, of a TCP socket.
[[nodiscard]] std::size_t clients_waiting(int fd) noexcept;
/// No new client of a listening TCP socket gets an answer. 0 or the negated errno value.
[[nodiscard]] int drop_new_clients(int fd) noexcept;

/// What can be told of the peer without reading.
struct peer_state {
  bool left = false;  ///< it writes no more
  bool sent = false;  ///< there is something to read, an end included
};
[[nodiscard]] peer_state look_at_peer(int fd) noexcept;
/// Whether the peer's system has confirmed all that was written.
[[nodiscard]] bool has_all(int fd) noexcept;

/// "tcp" or "unix".
[[nodiscard]] constexpr std::string_view network_of(family of) noexcept {
  return of == family::ipv4 || of == family::ipv6 ? "tcp" : "unix";
}

/// "read tcp 10.0.0.7:80: connection reset by peer".
[[nodiscard]] error describe(std::string_view doing, const address& whom, int number);

}  // namespace exeunt::net
