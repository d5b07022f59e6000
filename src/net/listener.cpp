// SPDX-License-Identifier: Apache-2.0
// Listening sockets: binding, accepting, and closing the door without losing a client.
//
// Invariants:
//   I1  A unix socket's path is removed at most once, and only if this process made it.
//   I2  Whatever accept4() refuses for a while is waited out: no loop asks again at once.
//   I3  A client that accept4() gave is never closed for want of something: what the poller refuses
//       is held, and the next accept begins with it.
// accept4() looks for a descriptor before it looks for a client, so its EMFILE says nothing about
// the queue; a poll(2) does.
// Locks: none but the core's, which puts accepts in turn.
// Wake-ups: as conn.cpp.
// Tests: tests/net/listener_test.cpp.

#include <exeunt/net/listener.hpp>

#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

#include <exeunt/base/log.hpp>

#include "net/conn_core.hpp"
#include "net/handshakes.hpp"
#include "net/socket.hpp"

namespace exeunt::detail {

namespace {

using namespace std::chrono_literals;

// As Go's net/http has them.
constexpr clock::duration first_pause = 5ms;
constexpr clock::duration longest_pause = 1s;
// A shortage can come and go with every client.
constexpr clock::duration between_lines = 10s;

// The system is short of something that comes back.
bool is_shortage(int number) noexcept {
  return number == EMFILE || number == ENFILE || number == ENOBUFS || number == ENOMEM ||
         number == ENOSPC;
}

// The client at the head of the queue is gone; accept(2) lists what Linux passes on from it.
bool is_lost_client(int number) noexcept {
  switch (number) {
    case ECONNABORTED:
    case EPROTO:
    case ENOPROTOOPT:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case EPERM:
      return true;
    default:
      return false;
  }
}

// Whether a client waits in the queue of the listening socket.
bool has_client(int fd) noexcept {
  pollfd asked{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&asked, 1, 0) > 0;
}

}  // namespace

listener_core::~listener_core() { drop_held(); }

int listener_core::take_one(net::conn& into) {
  while (true) {
    net::address remote;
    // order: acq_rel; whoever gets the number has the socket alone.
    int fd = held_.exchange(-1, memory_order_acq_rel);
    if (fd >= 0) {
      remote = net::peer_address_of(fd);
    } else {
      fd = net::accept_one(descriptor_.fd(), remote);
    }
    if (fd >= 0) {
      auto made = net_access::try_make(fd, std::move(remote));
      if (made) {
        into = std::move(*made);
        return 0;
      }
      const int refused = made.error().code().value();
      if (is_shortage(refused)) {
        // order: as above. Two accepts may have one to hold each; there is room for one.
        if (const int other = held_.exchange(fd, memory_order_acq_rel); other >= 0) {
          net::close_now(other);
        }
      } else {
        net::close_now(fd);
      }
      return -refused;
    }
    if (is_shortage(-fd) && !has_client(descriptor_.fd())) return -EAGAIN;
    if (!is_lost_client(-fd)) return fd;
  }
}

result<net::conn> listener_core::accept(cancel_node* cancel) {
  const using_it user{*this, io_direction::read, cancel};
  if (!user) return fail(user.error());
  bool waited = false;
  while (true) {
    if (auto why = over(io_direction::read, cancel)) return fail(std::move(*why));
    net::conn made;
    const int outcome = take_one(made);
    if (outcome == 0) {
      pause_ = {};
      if (!waited) checkpoint();
      return made;
    }
    if (outcome == -EAGAIN) {
      auto ready = wait(io_direction::read, wait_reason::io_accept, cancel);
      if (!ready) return fail(ready.error());
      waited = true;
    } else if (is_shortage(-outcome)) {
      if (auto over_it = pause(-outcome, cancel); !over_it) return fail(over_it.error());
    } else {
      return fail(net::describe("accept", local_, -outcome));
    }
  }
}

result<> listener_core::pause(int number, cancel_node* cancel) {
  if (const auto now = clock::now(); now >= may_log_) {
    log_line(net::describe("accept", local_, number).message() + "; trying again");
    may_log_ = now + between_lines;
  }
  pause_ = std::clamp(pause_ * 2, first_pause, longest_pause);
  const clock::time_point until = deadline_after(pause_);
  while (true) {
    // Further clients end a wait, too; they must not turn the pause into a loop (I2).
    if (auto why = over(io_direction::read, cancel)) return fail(std::move(*why));
    const auto waited = wait(io_direction::read, wait_reason::io_accept, cancel, until);
    if (!waited && !waited.error().is(errc::deadline_exceeded)) return waited;
    if (clock::now() >= until) return {};
  }
}

result<std::optional<net::conn>> listener_core::accept_now() {
  const using_it user{*this};
  if (!user) return fail(user.error());
  net::conn made;
  const int outcome = take_one(made);
  if (outcome == 0) return made;
  if (outcome == -EAGAIN) return std::nullopt;
  return fail(net::describe("accept", local_, -outcome));
}

std::size_t listener_core::waiting() noexcept {
  const using_it user{*this};
  if (!user) return 0;
  // order: relaxed; a count.
  const std::size_t held = held_.load(memory_order_relaxed) >= 0 ? 1 : 0;
  if (!local_.is_ip()) return held + (has_client(descriptor_.fd()) ? 1 : 0);
  // Of a listening socket tcpi_unacked is the length of its queue.
  tcp_info told{};
  socklen_t size = sizeof told;
  if (::getsockopt(descriptor_.fd(), IPPROTO_TCP, TCP_INFO, &told, &size) != 0) return held;
  return held + told.tcpi_unacked;
}

result<std::size_t> listener_core::handshakes() {
  if (!local_.is_ip()) return std::size_t{0};
  const using_it user{*this};
  if (!user) return std::size_t{0};
  return net::count_handshakes(local_);
}

result<> listener_core::stop_incoming() noexcept {
  const using_it user{*this};
  if (!user) return fail(errc::closed);
  if (!local_.is_ip()) {
    remove_path();
    return {};
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
  if (::setsockopt(descriptor_.fd(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0) {
    return {};
  }
  return fail(error::from_errno(errno));
}

void listener_core::remove_path() noexcept {
  // order: acq_rel; I1 is all it decides.
  if (owns_path_.exchange(false, memory_order_acq_rel)) ::unlink(local_.path().c_str());
}

void listener_core::drop_held() noexcept {
  // order: acq_rel; see take_one().
  if (const int fd = held_.exchange(-1, memory_order_acq_rel); fd >= 0) net::close_now(fd);
}

void listener_core::close() noexcept {
  remove_path();
  drop_held();
  fd_core::close();
}

}  // namespace exeunt::detail

namespace exeunt::net {

using detail::io_descriptor;
using detail::io_direction;
using detail::node_of;

namespace {

// A socket bound to `where` and listening, or the negated errno value.
int open_listener(const address& where, bool all_families, const listen_options& options) {
  const int fd = open_stream(where.family());
  if (fd < 0) return fd;
  int outcome = 0;
  if (where.is_ip()) {
    // A restarted service must not wait for the connections of the one before.
    outcome = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (outcome == 0 && options.reuse_port) {
      outcome = set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    }
    if (outcome == 0 && where.family() == family::ipv6) {
      outcome = set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, all_families ? 0 : 1);
    }
    set_tcp_defaults(fd);
  }
  if (outcome == 0) {
    sockaddr_storage native{};
    const auto size = static_cast<socklen_t>(where.to_native(&native));
    if (::bind(fd, reinterpret_cast<const sockaddr*>(&native), size) != 0 ||
        ::listen(fd, options.backlog) != 0) {
      outcome = -errno;
    }
  }
  if (outcome == 0) return fd;
  close_now(fd);
  return outcome;
}

result<listener> make_listener(int fd, bool owns_path) {
  address local = local_address_of(fd);
  auto descriptor = io_descriptor::adopt(fd);
  if (!descriptor) return fail(descriptor.error());
  auto* const core = new detail::listener_core{std::move(*descriptor), std::move(local), owns_path};
  return detail::net_access::make(detail::ref_ptr<detail::listener_core>::adopt(core));
}

result<listener> listen_unwrapped(const context& ctx, std::string_view where,
                                  const listen_options& options) {
  address at;
  bool all_families = false;
  if (is_unix(where)) {
    auto parsed = address::parse(where);
    if (!parsed) return fail(parsed.error());
    at = std::move(*parsed);
  } else {
    const auto parts = split_host_port(where);
    if (!parts) return fail(parts.error());
    all_families = parts->host.empty();
    const std::string_view port = parts->port.empty() ? std::string_view{"0"} : parts->port;
    auto found = resolve(ctx, "tcp", join_host_port(all_families ? "::" : parts->host, port));
    if (!found) return fail(found.error());
    // A name may stand for both families; those who listen by name mean the older one.
    const auto preferred = std::find_if(found->begin(), found->end(), [](const address& one) {
      return one.family() == family::ipv4;
    });
    at = preferred != found->end() ? *preferred : found->front();
  }

  int fd = open_listener(at, all_families, options);
  if (all_families && (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL)) {
    const auto without_v6 = address::parse(join_host_port("0.0.0.0", std::to_string(at.port())));
    fd = open_listener(*without_v6, all_families, options);
  }
  if (fd < 0) return fail(error::from_errno(-fd));
  return make_listener(fd, at.family() == family::unix_path && !at.path().starts_with('@'));
}

}  // namespace

listener::listener() noexcept = default;
listener::listener(detail::ref_ptr<detail::listener_core> core) noexcept : core_{std::move(core)} {}
listener::listener(listener&& other) noexcept = default;

listener& listener::operator=(listener&& other) noexcept {
  if (this != &other) {
    listener before{std::move(*this)};
    core_ = std::move(other.core_);
  }
  return *this;
}

listener::~listener() { close(); }

result<listener> listener::adopt(int fd) {
  int listening = 0;
  socklen_t size = sizeof listening;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0) {
    const error why = error::from_errno(errno);
    close_now(fd);
    return fail(why.wrap("adopt listener"));
  }
  if (listening == 0) {
    close_now(fd);
    return fail(error::from_errno(EINVAL).wrap("adopt listener"));
  }
  auto made = make_listener(fd, false);
  if (made && made->local_address().is_ip()) set_tcp_defaults(fd);
  return made;
}

result<conn> listener::accept(const context& ctx) {
  return core_ ? core_->accept(node_of(ctx)) : fail(errc::closed);
}
result<conn> listener::accept() { return core_ ? core_->accept(nullptr) : fail(errc::closed); }
result<std::optional<conn>> listener::accept_now() {
  return core_ ? core_->accept_now() : fail(errc::closed);
}
std::size_t listener::waiting() const noexcept { return core_ ? core_->waiting() : 0; }
result<std::size_t> listener::handshakes() const {
  return core_ ? core_->handshakes() : std::size_t{0};
}
result<> listener::stop_incoming() noexcept {
  return core_ ? core_->stop_incoming() : fail(errc::closed);
}
void listener::close() noexcept {
  if (core_) core_->close();
}
void listener::set_deadline(clock::time_point when) noexcept {
  if (core_) core_->set_deadline(io_direction::read, when);
}
const address& listener::local_address() const noexcept {
  static const address none;
  return core_ ? core_->local_address() : none;
}
int listener::native_handle() const noexcept { return core_ ? core_->fd() : -1; }

result<listener> listen(const context& ctx, std::string_view where, const listen_options& options) {
  auto made = listen_unwrapped(ctx, where, options);
  if (made) return made;
  std::string doing{is_unix(where) ? "listen unix " : "listen tcp "};
  doing += where.starts_with("unix:") ? where.substr(5) : where;
  return fail(made.error().wrap(doing));
}

result<listener> listen(std::string_view where, const listen_options& options) {
  return listen(context::background(), where, options);
}

}  // namespace exeunt::net
