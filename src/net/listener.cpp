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

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <chrono>

#include <exeunt/base/log.hpp>
#include <exeunt/sched/wait.hpp>

#include "net/conn_core.hpp"
#include "net/handshakes.hpp"
#include "net/socket.hpp"
#include "net/socket_calls.hpp"

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
    if (is_shortage(-fd) && !net::has_client(descriptor_.fd())) return -EAGAIN;
    if (!is_lost_client(-fd)) return fd;
  }
}

result<net::conn> listener_core::accept(cancel_node* cancel) {
  step("accept", this);
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
  step("accept", this);
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
  if (!local_.is_ip()) return held + (net::has_client(descriptor_.fd()) ? 1 : 0);
  return held + net::clients_waiting(descriptor_.fd());
}

result<std::size_t> listener_core::handshakes() {
  if (!local_.is_ip()) return std::size_t{0};
  const using_it user{*this};
  if (!user) return std::size_t{0};
  // In a simulation whoever is answered is in the queue.
  if (net::calls_for(descriptor_.fd()) != nullptr) return std::size_t{0};
  return net::count_handshakes(local_);
}

result<> listener_core::stop_incoming() noexcept {
  step("listener stop", this);
  const using_it user{*this};
  if (!user) return fail(errc::closed);
  if (!local_.is_ip()) {
    remove_path();
    return {};
  }
  const int outcome = net::drop_new_clients(descriptor_.fd());
  return outcome == 0 ? result<>{} : result<>{fail(error::from_errno(-outcome))};
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
  step_before_close("listener close");
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
  if (outcome == 0) outcome = listen_at(fd, where, options.backlog);
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
  const bool has_file = at.family() == family::unix_path && !at.path().starts_with('@');
  return make_listener(fd, has_file && calls_for(fd) == nullptr);
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
  if (const int listening = is_listening(fd); listening != 1) {
    close_now(fd);
    return fail(error::from_errno(listening < 0 ? -listening : EINVAL).wrap("adopt listener"));
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
  detail::step("listen");
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
