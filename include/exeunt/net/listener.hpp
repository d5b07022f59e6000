// SPDX-License-Identifier: Apache-2.0
// Listeners: where connections come in, and how to close that door without losing one.

#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/net/address.hpp>
#include <exeunt/net/conn.hpp>

namespace exeunt::detail {
class listener_core;
}  // namespace exeunt::detail

namespace exeunt::net {

struct listen_options {
  /// Connections that wait to be accepted; the system's net.core.somaxconn is the upper bound.
  int backlog = 4096;
  /// SO_REUSEPORT: several listeners, also of several processes, share the port.
  bool reuse_port = false;
};

/// The owner of a listening socket.
///
/// Threads: accept(), accept_now(), close() and the deadline may be called concurrently; further
///          accepts take turns.
class EXEUNT_API listener {
 public:
  /// No listener: every call fails with errc::closed.
  listener() noexcept;
  listener(listener&& other) noexcept;
  listener& operator=(listener&& other) noexcept;
  /// close().
  ~listener();

  /// Takes over a listening stream socket, such as systemd passes; it is closed on failure.
  ///
  /// Returns: "adopt listener: invalid argument" if it does not listen; what the system refuses.
  /// Blocks:  never.
  /// Throws:  std::bad_alloc.
  [[nodiscard]] static result<listener> adopt(int fd);

  explicit operator bool() const noexcept { return static_cast<bool>(core_); }

  /// The next connection.
  ///
  /// What the system refuses for a while (no descriptors, no memory) is tried again after 5 ms,
  /// doubling up to 1 s as long as no client gets in, and logged at most once in 10 s; a client
  /// that has gone meanwhile is passed over.
  ///
  /// Returns: errc::closed after close(); errc::canceled or errc::deadline_exceeded when `ctx`, or
  ///          the deadline, ends it.
  /// Blocks:  until a client comes.
  [[nodiscard]] result<conn> accept(const context& ctx);
  [[nodiscard]] result<conn> accept();

  /// A connection that the system has accepted for us already; never waits.
  ///
  /// Returns: nothing if there is none. What the system refuses for want of descriptors or memory
  ///          while a client waits, as its error: that client is still there to be accepted later.
  ///          errc::closed after close().
  [[nodiscard]] result<std::optional<conn>> accept_now();

  /// How many clients have been accepted by the system and not yet by us. For a unix socket 1
  /// stands for any number. 0 after close().
  /// Blocks: never.
  [[nodiscard]] std::size_t waiting() const noexcept;

  /// How many handshakes with this listener's port are under way: clients that were answered and
  /// whose last word has not come. Closing the listener resets them. Those that a flood of SYNs
  /// turned into cookies are known to nobody, so they do not count.
  ///
  /// Returns: 0 for a unix socket, which has none, and after close(). A failure if the system does
  ///          not tell.
  /// Blocks:  never.
  /// Cost:    some system calls, and a walk through the system's table of connections.
  [[nodiscard]] result<std::size_t> handshakes() const;

  /// Lets nobody new in, while what has come can still be accepted: the first step of closing
  /// the door. New TCP clients get no answer, so that they try again a second later and find
  /// the successor or a refusal; a handshake that is under way completes. A unix socket's path
  /// is removed. Call accept_now() until it is empty and handshakes() until there are none, then
  /// close().
  ///
  /// Returns: errc::closed after close(); the system's error if it refuses the filter, and then
  ///          new clients go on to come in.
  /// Blocks:  never.
  result<> stop_incoming() noexcept;

  /// Ends all accepts with errc::closed; removes a unix socket's path. Later calls do nothing.
  void close() noexcept;

  /// Accepts that have no client at `when` fail with errc::deadline_exceeded; no_deadline lifts it.
  void set_deadline(clock::time_point when) noexcept;

  /// Where it listens: with the port that the system chose if 0 was asked for.
  [[nodiscard]] const address& local_address() const noexcept;

  /// The descriptor, or -1: to hand it to another process.
  [[nodiscard]] int native_handle() const noexcept;

 private:
  friend struct detail::net_access;
  explicit listener(detail::ref_ptr<detail::listener_core> core) noexcept;

  detail::ref_ptr<detail::listener_core> core_;
};

/// Listens at "host:port", ":port", "[v6]:port", or at the unix socket that is_unix() accepts.
/// Without a host it listens on all addresses, of IPv6 and IPv4 with one socket where the system
/// has both. Port 0 lets the system choose.
///
/// Returns: "listen tcp 127.0.0.1:8081: address already in use" and the like.
/// Blocks:  only to look up a name.
[[nodiscard]] EXEUNT_API result<listener> listen(const context& ctx, std::string_view where,
                                                 const listen_options& options = {});
[[nodiscard]] EXEUNT_API result<listener> listen(std::string_view where,
                                                 const listen_options& options = {});

}  // namespace exeunt::net
