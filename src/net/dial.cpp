// SPDX-License-Identifier: Apache-2.0
// Connecting: one address after the other, each with its share of the time. Stateless.
// Tests: tests/net/conn_test.cpp.

#include <exeunt/net/conn.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>

#include <exeunt/sched/timer_node.hpp>
#include <exeunt/sched/wait.hpp>

#include "net/conn_core.hpp"
#include "net/socket.hpp"

namespace exeunt::net {

using detail::cancel_node;
using detail::io_descriptor;
using detail::io_direction;
using detail::node_of;
using detail::wait_reason;

namespace {

using namespace std::chrono_literals;

// A retry of what the system may take any moment: a full queue of a unix listener, for which no
// descriptor becomes ready.
constexpr clock::duration first_pause = 1ms;
constexpr clock::duration longest_pause = 50ms;

result<> sleep_until(cancel_node* cancel, clock::time_point when) noexcept {
  detail::ticket several;
  detail::waiter canceled{several};
  if (cancel != nullptr && !cancel->add_waiter(canceled)) return fail(cancel->reason());
  {
    const detail::timeout_waiter timeout{several, when};
    park(several, wait_reason::io_connect, nullptr);  // Woken by: the timer, `cancel`.
  }
  if (cancel != nullptr) cancel->remove_waiter(canceled);
  if (canceled.won()) return fail(cancel->reason());
  return {};
}

// TCP may connect a socket to itself when the wanted port is among those that the system gives to
// clients and nobody listens there.
bool is_own_echo(int fd, const address& to) { return to.is_ip() && local_address_of(fd) == to; }

result<conn> dial_once(cancel_node* cancel, const address& to, clock::time_point until) {
  detail::step("dial");
  clock::duration pause{};
  while (true) {
    if (cancel != nullptr && cancel->canceled()) return fail(cancel->reason());
    const int fd = open_stream(to.family());
    if (fd < 0) return fail(error::from_errno(-fd));
    if (to.is_ip()) set_tcp_defaults(fd);
    const int begun = connect_now(fd, to);
    if (begun == -EAGAIN) {
      close_now(fd);
      if (clock::now() >= until) return fail(errc::deadline_exceeded);
      pause = std::clamp(pause * 2, first_pause, longest_pause);
      if (auto slept = sleep_until(cancel, std::min(until, deadline_after(pause))); !slept) {
        return fail(slept.error());
      }
      continue;
    }
    if (begun != 0 && begun != -EINPROGRESS) {
      close_now(fd);
      return fail(error::from_errno(-begun));
    }
    // Registered only now: the poller takes an unconnected socket for one that has ended.
    auto descriptor = io_descriptor::adopt(fd);
    if (!descriptor) return fail(descriptor.error());
    int outcome = begun;
    while (outcome == -EINPROGRESS) {
      auto ready = descriptor->wait(io_direction::write, wait_reason::io_connect, cancel, until);
      if (!ready) return fail(ready.error());
      outcome = connect_outcome(fd);
    }
    if (outcome != 0) return fail(error::from_errno(-outcome));
    if (is_own_echo(fd, to)) continue;
    auto* const core = new detail::conn_core{std::move(*descriptor), to};
    return detail::net_access::make(detail::ref_ptr<detail::conn_core>::adopt(core));
  }
}

// What is left of the time, divided by the addresses left; but no share is too short to connect.
clock::time_point share_of(const std::optional<clock::time_point>& deadline,
                           std::size_t addresses_left) {
  if (!deadline || addresses_left < 2) return no_deadline;  // The context itself ends it.
  constexpr clock::duration least = 2s;
  const clock::time_point now = clock::now();
  const clock::duration left = *deadline - now;
  const clock::duration share = left / static_cast<clock::rep>(addresses_left);
  return now + std::max(share, std::min(least, left));
}

std::string dialing(std::string_view network, std::string_view where) {
  std::string text{"dial "};
  text += network;
  text += ' ';
  text += where;
  return text;
}

}  // namespace

result<conn> dial(const context& ctx, std::string_view network, std::string_view where) {
  const auto found = resolve(ctx, network, where);
  if (!found) return fail(found.error().wrap(dialing(network, where)));
  std::optional<error> first;
  for (std::size_t i = 0; i < found->size(); ++i) {
    const address& to = (*found)[i];
    auto made = dial_once(node_of(ctx), to, share_of(ctx.deadline(), found->size() - i));
    if (made) return made;
    if (!first) first = made.error().wrap(dialing(network, to.to_string()));
    if (const auto ended = ctx.err()) return fail(ended->wrap(dialing(network, to.to_string())));
  }
  return fail(std::move(*first));
}

result<conn> dial(std::string_view network, std::string_view where) {
  return dial(context::background(), network, where);
}

result<conn> dial(const context& ctx, const address& where) {
  if (where.family() == family::none) {
    return fail(error{errc::malformed, "no address"}.wrap("dial"));
  }
  auto made = dial_once(node_of(ctx), where, no_deadline);
  if (made) return made;
  return fail(made.error().wrap(dialing(network_of(where.family()), where.to_string())));
}

}  // namespace exeunt::net
