// SPDX-License-Identifier: Apache-2.0
// Where a connection ends: an IP address with a port, or the path of a unix socket.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <exeunt/base/export.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/context/context.hpp>

namespace exeunt::net {

enum class family : std::uint8_t {
  none,  ///< no address: an unnamed unix socket, or a default-made value
  ipv4,
  ipv6,
  unix_path,
};

/// The two parts of "host:port", without the brackets of an IPv6 host.
struct host_port {
  std::string_view host;  ///< empty: every address of this host
  std::string_view port;  ///< a number or a service's name; empty means 0
};

/// Takes "host:port", ":port", "[v6]:port" apart. A host with a colon needs brackets.
///
/// Returns: errc::malformed, saying what is wrong. The views point into `text`.
[[nodiscard]] EXEUNT_API result<host_port> split_host_port(std::string_view text);

/// The inverse; a host with a colon gets its brackets.
[[nodiscard]] EXEUNT_API std::string join_host_port(std::string_view host, std::string_view port);

/// Whether `text` names a unix socket: "unix:PATH", or a text that begins with '/', or with '@'
/// for Linux's abstract names.
[[nodiscard]] EXEUNT_API bool is_unix(std::string_view text) noexcept;

/// A resolved address: a plain value.
class EXEUNT_API address {
 public:
  address() noexcept = default;

  /// Parses "127.0.0.1:80", "[::1]:80", "[fe80::1%eth0]:80" and what is_unix() accepts. No names
  /// of hosts or services, and no empty host: see resolve().
  ///
  /// Returns: errc::malformed for anything else.
  [[nodiscard]] static result<address> parse(std::string_view text);

  /// From a socket address of the system (`sockaddr`, of `size` bytes); `none` if it is neither
  /// of IP nor of unix.
  [[nodiscard]] static address from_native(const void* socket_address, std::size_t size);
  /// Writes the system's form into `room`, which takes at least 128 bytes, aligned as a sockaddr.
  /// Returns: its size in bytes; 0 for `none`.
  [[nodiscard]] std::size_t to_native(void* room) const noexcept;

  [[nodiscard]] net::family family() const noexcept { return family_; }
  [[nodiscard]] bool is_ip() const noexcept {
    return family_ == family::ipv4 || family_ == family::ipv6;
  }
  /// 0 for a unix socket.
  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  /// The unix socket's path; empty for IP. An abstract name begins with '@'.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// The IP address alone, without port and brackets; empty for a unix socket.
  [[nodiscard]] std::string host() const;

  /// "127.0.0.1:80", "[::1]:80", "/run/app.sock", or "" for none. An IPv4 address that came by an
  /// IPv6 socket is shown, and compares, as IPv4.
  [[nodiscard]] std::string to_string() const;

  friend bool operator==(const address&, const address&) = default;

 private:
  net::family family_ = family::none;
  std::uint16_t port_ = 0;
  std::uint32_t scope_ = 0;               // The interface's number, for link-local IPv6.
  std::array<std::uint8_t, 16> bytes_{};  // In network order; the first four for IPv4.
  std::string path_;
};

/// Looks `text` up for dialling: names of hosts and services as the system resolves them. An empty
/// host is this host. Literal addresses ask nobody.
///
/// `network` is "tcp", "tcp4", "tcp6" or "unix".
///
/// Returns: at least one address, in the order to try them; "lookup nowhere: …" otherwise.
/// Blocks:  while the system resolves, on a thread of the side pool. Fibers and plain threads.
/// Cancels: when `ctx` ends; the look-up itself then ends unobserved.
[[nodiscard]] EXEUNT_API result<std::vector<address>> resolve(const context& ctx,
                                                              std::string_view network,
                                                              std::string_view text);

}  // namespace exeunt::net
