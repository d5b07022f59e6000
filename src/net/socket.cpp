// SPDX-License-Identifier: Apache-2.0
// The system calls of this room. Stateless.
// Tests: tests/net/conn_test.cpp, listener_test.cpp.

#include "net/socket.hpp"

#include <exeunt/base/race.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>

namespace exeunt::net {

namespace {

// Signals are delivered by a thread that does not wait here, yet an application's own handlers
// may interrupt any call.
// Not instrumented: errno belongs to the thread, and ThreadSanitizer knows only fibers.
template <typename Call>
EXEUNT_NO_TSAN auto retried(const Call& call) noexcept -> decltype(call()) {
  while (true) {
    const auto outcome = call();
    if (outcome >= 0) return outcome;
    const int number = errno;
    if (number != EINTR) return -number;
  }
}

}  // namespace

[[gnu::noinline]] std::ptrdiff_t receive_now(int fd, buffer into) noexcept {
  return retried([&]() -> std::ptrdiff_t { return ::recv(fd, into.data(), into.size(), 0); });
}

[[gnu::noinline]] std::ptrdiff_t send_now(int fd, std::span<const const_buffer> from,
                                          std::size_t offset) noexcept {
  iovec parts[buffers_per_call];
  std::size_t count = 0;
  for (const const_buffer& part : from) {
    if (offset >= part.size()) {
      offset -= part.size();
      continue;
    }
    const const_buffer rest = part.after(offset);
    offset = 0;
    parts[count++] = {.iov_base = const_cast<void*>(rest.data()), .iov_len = rest.size()};
    if (count == buffers_per_call) break;
  }
  if (count == 0) return 0;
  if (count == 1) {
    return retried([&]() -> std::ptrdiff_t {
      return ::send(fd, parts[0].iov_base, parts[0].iov_len, MSG_NOSIGNAL);
    });
  }
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = count;
  return retried([&]() -> std::ptrdiff_t { return ::sendmsg(fd, &message, MSG_NOSIGNAL); });
}

[[gnu::noinline]] int accept_one(int fd, address& from) {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  const int accepted = retried([&] {
    size = sizeof peer;
    return ::accept4(fd, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
  });
  if (accepted >= 0) from = address::from_native(&peer, size);
  return accepted;
}

[[gnu::noinline]] int connect_now(int fd, const address& to) noexcept {
  sockaddr_storage peer{};
  const auto size = static_cast<socklen_t>(to.to_native(&peer));
  // An interrupted connect goes on by itself, so it is not called again.
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&peer), size) == 0) return 0;
  const int number = errno;
  return number == EINTR ? -EINPROGRESS : -number;
}

[[gnu::noinline]] int connect_outcome(int fd) noexcept {
  int number = 0;
  socklen_t size = sizeof number;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &size) != 0) return -errno;
  if (number != 0) return -number;
  // Wake-ups without reason happen: only a connection has a peer.
  sockaddr_storage peer{};
  socklen_t peer_size = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_size) == 0) return 0;
  return errno == ENOTCONN ? -EINPROGRESS : -errno;
}

[[gnu::noinline]] int open_stream(family of) noexcept {
  const int domain = of == family::ipv4 ? AF_INET : of == family::ipv6 ? AF_INET6 : AF_UNIX;
  const int fd = ::socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  return fd >= 0 ? fd : -errno;
}

[[gnu::noinline]] int set_option(int fd, int level, int name, int value) noexcept {
  return ::setsockopt(fd, level, name, &value, sizeof value) == 0 ? 0 : -errno;
}

void set_tcp_defaults(int fd) noexcept {
  // A peer that vanished without a word is found after 15 s + 9 * 15 s, as Go's defaults have it.
  constexpr int probe_seconds = 15;
  constexpr int probes_max = 9;
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, probe_seconds);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, probe_seconds);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, probes_max);
}

address local_address_of(int fd) {
  sockaddr_storage own{};
  socklen_t size = sizeof own;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) != 0) return {};
  return address::from_native(&own, size);
}

address peer_address_of(int fd) {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0) return {};
  return address::from_native(&peer, size);
}

void close_now(int fd) noexcept { ::close(fd); }

error describe(std::string_view doing, const address& whom, int number) {
  std::string text{doing};
  text += ' ';
  text += network_of(whom.family());
  if (whom.family() != family::none) {
    text += ' ';
    text += whom.to_string();
  }
  return error::from_errno(number).wrap(text);
}

}  // namespace exeunt::net
