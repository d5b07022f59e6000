// SPDX-License-Identifier: Apache-2.0
// The system calls of this room, or what a simulation has in their place. Stateless.
// Tests: tests/net/conn_test.cpp, listener_test.cpp, signals_stress_test.cpp.

#include "net/socket.hpp"

#include <exeunt/base/race.hpp>

#include <linux/filter.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>
#include <array>
#include <cerrno>

#include "net/socket_calls.hpp"
#include "sched/current.hpp"
#include "sched/runtime_core.hpp"
#include "sched/worker.hpp"

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

socket_calls* simulated_calls() noexcept {
  const sched::worker* const here = sched::this_worker();
  return here == nullptr ? nullptr : here->home().seam().sockets;
}

socket_calls* calls_for(int fd) noexcept {
  return fd < poll::poller::first_own ? nullptr : simulated_calls();
}

[[gnu::noinline]] std::ptrdiff_t receive_now(int fd, buffer into) noexcept {
  if (socket_calls* const sim = calls_for(fd)) [[unlikely]]
    return sim->receive(fd, into);
  return retried([&]() -> std::ptrdiff_t { return ::recv(fd, into.data(), into.size(), 0); });
}

[[gnu::noinline]] std::ptrdiff_t send_now(int fd, std::span<const const_buffer> from,
                                          std::size_t offset) noexcept {
  if (socket_calls* const sim = calls_for(fd)) [[unlikely]]
    return sim->send(fd, from, offset);
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
  if (socket_calls* const sim = calls_for(fd)) [[unlikely]]
    return sim->accept(fd, from);
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
  if (socket_calls* const sim = calls_for(fd)) [[unlikely]]
    return sim->connect(fd, to);
  sockaddr_storage peer{};
  const auto size = static_cast<socklen_t>(to.to_native(&peer));
  // An interrupted connect goes on by itself, so it is not called again.
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&peer), size) == 0) return 0;
  const int number = errno;
  return number == EINTR ? -EINPROGRESS : -number;
}

[[gnu::noinline]] int connect_outcome(int fd) noexcept {
  if (socket_calls* const sim = calls_for(fd)) [[unlikely]]
    return sim->connect_outcome(fd);
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
  if (socket_calls* const sim = simulated_calls()) [[unlikely]]
    return sim->open(of);
  const int domain = of == family::ipv4 ? AF_INET : of == family::ipv6 ? AF_INET6 : AF_UNIX;
  const int fd = ::socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  return fd >= 0 ? fd : -errno;
}

[[gnu::noinline]] int set_option(int fd, int level, int name, int value) noexcept {
  if (fd >= poll::poller::first_own) [[unlikely]]
    return 0;
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
  if (socket_calls* const sim = calls_for(fd)) [[unlikely]]
    return sim->local_address(fd);
  sockaddr_storage own{};
  socklen_t size = sizeof own;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) != 0) return {};
  return address::from_native(&own, size);
}

address peer_address_of(int fd) {
  if (socket_calls* const sim = calls_for(fd)) [[unlikely]]
    return sim->peer_address(fd);
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0) return {};
  return address::from_native(&peer, size);
}

void close_now(int fd) noexcept {
  if (fd < poll::poller::first_own) [[likely]] {
    ::close(fd);
  } else if (socket_calls* const sim = simulated_calls()) {
    sim->close(fd);
  }
}

[[gnu::noinline]] int listen_at(int fd, const address& where, int backlog) noexcept {
  if (socket_calls* const sim = calls_for(fd)) [[unlikely]]
    return sim->listen(fd, where, backlog);
  sockaddr_storage native{};
  const auto size = static_cast<socklen_t>(where.to_native(&native));
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&native), size) != 0) return -errno;
  return ::listen(fd, backlog) == 0 ? 0 : -errno;
}

[[gnu::noinline]] int shutdown_write(int fd) noexcept {
  if (socket_calls* const sim = calls_for(fd)) [[unlikely]]
    return sim->shutdown_write(fd);
  return ::shutdown(fd, SHUT_WR) == 0 ? 0 : -errno;
}

void discard_on_close(int fd) noexcept {
  if (socket_calls* const sim = calls_for(fd)) [[unlikely]]
    return sim->discard_on_close(fd);
  // A close with a linger time of zero sends a reset.
  const linger discard{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &discard, sizeof discard);
}

[[gnu::noinline]] int is_listening(int fd) noexcept {
  if (socket_calls* const sim = calls_for(fd)) [[unlikely]]
    return sim->is_listening(fd) ? 1 : 0;
  int listening = 0;
  socklen_t size = sizeof listening;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0) return -errno;
  return listening;
}

bool has_client(int fd) noexcept {
  if (socket_calls* const sim = calls_for(fd)) [[unlikely]]
    return sim->waiting(fd) > 0;
  pollfd asked{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&asked, 1, 0) > 0;
}

std::size_t clients_waiting(int fd) noexcept {
  if (socket_calls* const sim = calls_for(fd)) [[unlikely]]
    return sim->waiting(fd);
  // Of a listening socket tcpi_unacked is the length of its queue.
  tcp_info told{};
  socklen_t size = sizeof told;
  return ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &told, &size) == 0 ? told.tcpi_unacked : 0;
}

[[gnu::noinline]] int drop_new_clients(int fd) noexcept {
  if (socket_calls* const sim = calls_for(fd)) [[unlikely]] {
    sim->stop_incoming(fd);
    return 0;
  }
  // To the filter of a TCP socket the packet begins with the TCP header, whose byte 13 holds the
  // flags. A segment with SYN and without ACK asks for a new connection: drop it. All else passes.
  constexpr std::uint32_t flags_offset = 13;
  constexpr std::uint32_t syn = 0x02;
  constexpr std::uint32_t syn_and_ack = 0x12;
  std::array<sock_filter, 5> steps{{
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, flags_offset),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, syn_and_ack),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, syn, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0),
      BPF_STMT(BPF_RET | BPF_K, 0xffffffffU),
  }};
  const sock_fprog program{.len = static_cast<unsigned short>(steps.size()),
                           .filter = steps.data()};
  return ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0 ? 0 : -errno;
}

peer_state look_at_peer(int fd) noexcept {
  if (fd < 0) return {.left = true};  // Closed by ourselves; poll(2) would pass it over.
  if (socket_calls* const sim = calls_for(fd)) [[unlikely]] {
    const socket_calls::state now = sim->look(fd);
    return {.left = now.ended, .sent = now.readable};
  }
  pollfd asked{.fd = fd, .events = POLLIN | POLLRDHUP, .revents = 0};
  if (::poll(&asked, 1, 0) <= 0) return {};
  return {.left = (asked.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0,
          .sent = (asked.revents & POLLIN) != 0};
}

bool has_all(int fd) noexcept {
  if (socket_calls* const sim = calls_for(fd)) [[unlikely]]
    return sim->all_arrived(fd);
  int domain = 0;
  socklen_t size = sizeof domain;
  if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 || domain == AF_UNIX)
    return true;
  int unacknowledged = 0;
  return ::ioctl(fd, SIOCOUTQ, &unacknowledged) == 0 && unacknowledged == 0;
}

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
