// SPDX-License-Identifier: Apache-2.0
// Connections: byte streams over TCP and unix sockets, and how to dial one.

#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/net/address.hpp>
#include <exeunt/net/buffer.hpp>

namespace exeunt::detail {
class conn_core;
struct net_access;
}  // namespace exeunt::detail

namespace exeunt::net {

/// The owner of one end of a connection. Small packets leave at once (TCP_NODELAY is on), dead
/// peers are probed for (keep-alive of 15 s), and no write ever raises SIGPIPE.
///
/// Every call that can block has a form that takes a context first. Errors that are no ends of
/// waiting name the operation and the peer: "read tcp 10.0.0.7:51234: connection reset by peer".
///
/// Threads:  one fiber or thread may read while another one writes; further readers and writers
///           take turns. close(), shut_down(), and the deadlines may be called at any time by
///           anybody; moving and destroying need that nobody else uses the handle.
/// Ordering: none between the two ends.
class EXEUNT_API conn {
 public:
  /// No connection: every call fails with errc::closed.
  conn() noexcept;
  conn(conn&& other) noexcept;
  /// close(), then takes over.
  conn& operator=(conn&& other) noexcept;
  /// close(); takes back a when_readable() that has not started.
  ~conn();

  /// Takes over a connected stream socket of the system, which is closed on failure.
  ///
  /// Returns: what the system refuses: no descriptor, no room in the poller, no memory.
  /// Blocks:  never.
  /// Throws:  std::bad_alloc.
  [[nodiscard]] static result<conn> adopt(int fd);

  /// Whether there is a connection, open or closed.
  explicit operator bool() const noexcept { return static_cast<bool>(core_); }

  /// Reads what is there, at least one byte.
  ///
  /// Returns: the number of bytes; 0 when the peer has ended its writing, or for an empty buffer.
  ///          errc::closed after close(), errc::deadline_exceeded at the read deadline or that of
  ///          `ctx`, errc::canceled when `ctx` ends.
  /// Blocks:  until there is a byte, the peer's end, or one of these.
  /// Cost:    one recv(2). After one that brought less than asked the next call waits first,
  ///          instead of asking for nothing.
  [[nodiscard]] result<std::size_t> read(const context& ctx, buffer into);
  [[nodiscard]] result<std::size_t> read(buffer into);

  /// Writes all of `from`.
  ///
  /// Returns: success when the system has taken all. On failure it is not known how much of it
  ///          the peer has; the connection is of no more use for writing. Errors as read().
  /// Blocks:  while the peer takes nothing and the system's buffer is full.
  [[nodiscard]] result<> write(const context& ctx, const_buffer from);
  [[nodiscard]] result<> write(const_buffer from);

  /// As write(), for several buffers in order with as few system calls as possible: they leave
  /// together. Nobody else's bytes come between them.
  [[nodiscard]] result<> write(const context& ctx, std::span<const const_buffer> from);
  [[nodiscard]] result<> write(std::span<const const_buffer> from);

  /// Writes what the system takes now, at least one byte.
  ///
  /// Returns: the number of bytes written; 0 for an empty buffer. Errors as read().
  /// Blocks:  while the system's buffer is full.
  [[nodiscard]] result<std::size_t> write_some(const context& ctx, const_buffer from);

  /// As read(), but never waits.
  ///
  /// Returns: nothing if there is neither a byte nor the peer's end yet, or somebody else reads.
  [[nodiscard]] result<std::optional<std::size_t>> try_read(buffer into);
  /// Writes what the system takes at once, perhaps nothing. Never waits.
  ///
  /// Returns: the number of bytes written; 0 also while somebody else writes. errc::closed after
  ///          close(), or why writing has failed.
  [[nodiscard]] result<std::size_t> try_write(std::span<const const_buffer> from);

  /// Starts `f` in a fiber of its own as soon as a read would not wait: at once if there may be
  /// something already, else when something comes, when the peer ends, or at close(). One-shot.
  ///
  /// Between the two the connection has neither fiber nor stack nor buffer: this is how to keep
  /// 100 000 idle ones. `f` must not assume that there is a byte: read() may still wait.
  ///
  /// Asserts: no other start is pending, and nobody reads.
  /// Cost:    nothing from the system. `f` is stored inside up to 40 bytes.
  void when_readable(unique_function<void()> f);
  /// Returns: true if a pending start was taken back: `f` has not run and will not.
  bool cancel_when_readable() noexcept;

  /// Says to the peer that nothing more will come; reading goes on.
  ///
  /// Returns: errc::closed after close(); the system's error, such as that of a connection that
  ///          was reset.
  /// Blocks:  never. What was written before is still sent.
  /// Threads: any; writes that go on elsewhere fail.
  result<> shutdown_write();

  /// Ends the connection for both sides. Waiting calls of others return errc::closed; the
  /// descriptor is given back when the last of them has left. Later calls do nothing.
  void close() noexcept;
  /// As close(), and the peer gets a reset (TCP): what was not yet sent is thrown away.
  void abort() noexcept;
  /// Ends all waits, now and later, with errc::closed, without telling the peer.
  void shut_down() noexcept;

  /// Reads, or writes, that are not done at `when` fail with errc::deadline_exceeded, now waiting
  /// or later. A new one replaces the old one; no_deadline lifts it.
  void set_read_deadline(clock::time_point when) noexcept;
  void set_write_deadline(clock::time_point when) noexcept;
  void set_deadline(clock::time_point when) noexcept {
    set_read_deadline(when);
    set_write_deadline(when);
  }

  /// Whether small packets leave at once, which is so from the start. Nothing for unix sockets.
  ///
  /// Returns: errc::closed after close(); what the system refuses.
  /// Blocks:  never.
  /// Threads: any.
  result<> set_nodelay(bool on);

  /// Cost: one getsockname(2).
  [[nodiscard]] address local_address() const;
  /// As it was when connected: none for the clients of unix sockets, which have no name.
  [[nodiscard]] const address& remote_address() const noexcept;

  /// The descriptor, or -1. For socket options; reading, writing and closing break the conn.
  [[nodiscard]] int native_handle() const noexcept;

 private:
  friend struct detail::net_access;
  explicit conn(detail::ref_ptr<detail::conn_core> core) noexcept;

  detail::ref_ptr<detail::conn_core> core_;
};

/// Connects. `network` is "tcp", "tcp4", "tcp6" or "unix"; `where` is "host:port", or a path.
/// Addresses of a name are tried in the order of resolve(); each gets its share of the time
/// that `ctx` leaves, at least 2 s.
///
/// Returns: "dial tcp 10.0.0.7:80: connection refused": the first failure. errc::canceled or
///          errc::deadline_exceeded when `ctx` ends.
/// Blocks:  until connected, refused, or given up by the system (minutes) or by `ctx`.
[[nodiscard]] EXEUNT_API result<conn> dial(const context& ctx, std::string_view network,
                                           std::string_view where);
[[nodiscard]] EXEUNT_API result<conn> dial(std::string_view network, std::string_view where);
/// To one resolved address.
[[nodiscard]] EXEUNT_API result<conn> dial(const context& ctx, const address& where);

}  // namespace exeunt::net
