// SPDX-License-Identifier: Apache-2.0
// What is sent is a delivery, which arrives at its time; without a delay, at once. One timer of the
// simulation has them all, so that time does not move past one.
//
// Invariants:
//   I1  What one socket sends to its peer arrives in the order of sending: no delivery is due
//       before the last one. A listener's answer is the first.
//   I2  A write that took less than was offered is followed by a readiness to write, when there is
//       room, or, if there was room all along, by a delivery that says so. The reader has no such
//       need: what is cut arrives as two deliveries, each with its readiness.
//   I3  Numbers are not used twice in one schedule, so that a delivery to a socket that is gone
//       finds none, and is answered by a reset.
// Tests: tests/sim/network_test.cpp, network_steps_test.cpp, faults_test.cpp.

#include "sim/network_core.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/race.hpp>

#include "poll/poller.hpp"
#include "sched/runtime_core.hpp"
#include "sim/world.hpp"

namespace exeunt::sim {

namespace {

constexpr int first = poll::poller::first_own;
constexpr std::uint16_t first_port = 32'768;  // As Linux has it.
// A client that gets no answer asks again.
constexpr clock::duration asks_again_after = std::chrono::seconds{1};
constexpr std::size_t delay_steps = 8;

bool is_any(const net::address& one) {
  const std::string host = one.host();
  return host == "0.0.0.0" || host == "::";
}

}  // namespace

// --- the whole

void network_core::reset() noexcept {
  const detail::race_ignore own;
  is_up_ = false;
  sockets_.clear();
  due_.clear();
  next_port_ = first_port;
  deliveries_timer_.stop();
}

void network_core::up(const network_options& options) {
  const detail::race_ignore own;
  options_ = options;
  is_up_ = true;
}

void network_core::down() noexcept {
  const detail::race_ignore own;
  is_up_ = false;
  for (const auto& one : sockets_) {
    if (one != nullptr) break_off(*one);
  }
  due_.clear();
  deliveries_timer_.stop();
}

std::size_t network_core::open_sockets() const noexcept {
  return static_cast<std::size_t>(
      std::ranges::count_if(sockets_, [](const auto& one) { return one != nullptr; }));
}

std::string network_core::describe_open() const {
  const detail::race_ignore own;
  std::string text;
  for (const auto& one : sockets_) {
    if (one == nullptr) continue;
    const bool listens = one->at == stage::listening;
    text += listens ? "  listener at " : "  connection of ";
    text += one->local.to_string();
    if (!listens) text += " with " + one->remote.to_string();
    text += '\n';
  }
  return text;
}

void network_core::watch(int fd, std::uint64_t token) {
  const detail::race_ignore own;
  socket* const one = find(fd);
  if (one == nullptr) return;
  one->watched = true;
  one->token = token;
  // As epoll does, with what is so already.
  const state now = look(fd);
  const bool readable = now.readable || (one->at == stage::listening && !one->clients.empty());
  const bool writable =
      one->at == stage::refused || (one->at == stage::connected && room(*one) > 0);
  if (readable || writable) arrive(*one, readable, writable);
}

void network_core::unwatch(int fd) noexcept {
  if (socket* const one = find(fd)) one->watched = false;
}

// --- its parts

network_core::socket* network_core::find(int fd) noexcept {
  const auto index = static_cast<std::size_t>(fd - first);
  return fd >= first && index < sockets_.size() ? sockets_[index].get() : nullptr;
}

int network_core::add(std::unique_ptr<socket> made) {
  sockets_.push_back(std::move(made));
  return first + static_cast<int>(sockets_.size()) - 1;
}

int network_core::find_listener(const net::address& to) noexcept {
  for (std::size_t i = 0; i < sockets_.size(); ++i) {
    const socket* const one = sockets_[i].get();
    if (one == nullptr || one->at != stage::listening) continue;
    const bool same = one->local == to;
    const bool covers = to.is_ip() && one->local.is_ip() && one->local.port() == to.port() &&
                        is_any(one->local) &&
                        (one->family == to.family() || one->local.host() == "::");
    if (same || covers) return first + static_cast<int>(i);
  }
  return -1;
}

net::address network_core::fresh_address(const net::address& like) {
  if (!like.is_ip()) return {};
  const std::string host =
      is_any(like) || like.family() == net::family::none ? std::string{"127.0.0.1"} : like.host();
  const auto made = net::address::parse(net::join_host_port(host, std::to_string(next_port_++)));
  return made ? *made : net::address{};
}

clock::duration network_core::delay() {
  const clock::duration span = options_.delay_max - options_.delay_min;
  if (span <= clock::duration::zero()) return options_.delay_min;
  const std::uint32_t step = choices_.decide(choice_of::number, delay_steps);
  return options_.delay_min + span * step / (delay_steps - 1);
}

std::size_t network_core::room(const socket& from) noexcept {
  const socket* const peer = find(from.peer);
  const std::size_t unread = peer == nullptr ? 0 : peer->inbox.size() - peer->read_to;
  const std::size_t held = from.on_the_way + unread;
  return held < options_.window ? options_.window - held : 0;
}

void network_core::post(delivery what, clock::duration after) {
  if (after <= clock::duration::zero()) return deliver(what);
  const clock::time_point when = clock::now() + after;
  due_.emplace(std::pair{when, posted_++}, std::move(what));
  // Within deliver_due() the timer learns it by what that returns.
  if (!delivering_) deliveries_timer_.start(due_.begin()->first.first);
}

// I1
void network_core::post_in_order(socket& from, delivery what, clock::duration after) {
  const clock::time_point now = clock::now();
  const clock::time_point when = std::max(now + after, from.last_arrival);
  from.last_arrival = when;
  post(std::move(what), when - now);
}

clock::time_point network_core::deliver_due(clock::time_point now) noexcept {
  const detail::race_ignore own;
  delivering_ = true;
  while (!due_.empty() && due_.begin()->first.first <= now) {
    auto next = due_.extract(due_.begin());
    deliver(next.mapped());
  }
  delivering_ = false;
  return due_.empty() ? no_deadline : due_.begin()->first.first;
}

void network_core::arrive(socket& at, bool readable, bool writable) noexcept {
  if (!at.watched) return;
  home_->deliver_event({.token = at.token,
                        .readable = readable,
                        .writable = writable,
                        .ended = at.ended || at.broken});
}

void network_core::break_off(socket& one) noexcept {
  one.broken = true;
  one.peer = -1;
  if (one.at == stage::connecting) one.at = stage::refused;
  arrive(one, true, true);
}

void network_core::deliver(delivery& what) noexcept {
  socket* const to = find(what.to);
  socket* const from = find(what.from);
  switch (what.kind) {
    case delivery::what::bytes:
      if (from != nullptr) from->on_the_way -= what.bytes.size();
      if (to == nullptr) {
        if (from != nullptr) break_off(*from);  // I3
        return;
      }
      if (to->broken) return;
      if (to->read_to == to->inbox.size()) {
        to->inbox.clear();
        to->read_to = 0;
      }
      to->inbox.insert(to->inbox.end(), what.bytes.begin(), what.bytes.end());
      return arrive(*to, true, false);
    case delivery::what::end:
      if (to == nullptr || to->broken) return;
      to->ended = true;
      return arrive(*to, true, false);
    case delivery::what::reset:
      if (to != nullptr) break_off(*to);
      return;
    case delivery::what::room:
      if (to != nullptr) arrive(*to, false, true);
      return;
    case delivery::what::request: {
      if (from == nullptr) return;  // It has given up.
      const int door = find_listener(from->remote);
      socket* const listener = find(door);
      if (listener == nullptr) {
        return post({.kind = delivery::what::refusal, .to = what.from}, delay());
      }
      if (listener->deaf || listener->clients.size() > listener->backlog) {
        return post(std::move(what), asks_again_after);
      }
      auto made = std::make_unique<socket>();
      made->family = from->family;
      made->at = stage::connected;
      made->local = from->remote;
      made->remote = from->local;
      made->peer = what.from;
      const int fd = add(std::move(made));
      listener->clients.push_back(fd);
      arrive(*listener, true, false);
      return post_in_order(*find(fd), {.kind = delivery::what::answer, .to = what.from, .from = fd},
                           delay());
    }
    case delivery::what::answer:
      if (to == nullptr || to->at != stage::connecting) {
        if (from != nullptr) break_off(*from);
        return;
      }
      to->at = stage::connected;
      to->peer = what.from;  // Gone already, maybe; then its end is on the way (I1).
      return arrive(*to, false, true);
    case delivery::what::refusal:
      if (to == nullptr || to->at != stage::connecting) return;
      to->at = stage::refused;
      return arrive(*to, true, true);
  }
}

// --- as the system calls

int network_core::open(net::family of) {
  const detail::race_ignore own;
  if (!is_up_) return -EOPNOTSUPP;
  auto made = std::make_unique<socket>();
  made->family = of;
  return add(std::move(made));
}

int network_core::listen(int fd, const net::address& where, int backlog) {
  const detail::race_ignore own;
  socket* const one = find(fd);
  if (one == nullptr || one->at != stage::fresh) return -EINVAL;
  net::address at = where;
  if (at.is_ip() && at.port() == 0) {
    const auto chosen =
        net::address::parse(net::join_host_port(at.host(), std::to_string(next_port_++)));
    if (!chosen) return -EADDRNOTAVAIL;
    at = *chosen;
  }
  for (const auto& other : sockets_) {
    if (other == nullptr || other->at != stage::listening) continue;
    const bool same_port = at.is_ip() && other->local.is_ip() && at.port() == other->local.port() &&
                           (is_any(at) || is_any(other->local));
    if (other->local == at || same_port) return -EADDRINUSE;
  }
  one->at = stage::listening;
  one->local = std::move(at);
  one->backlog = static_cast<std::size_t>(std::max(backlog, 1));
  return 0;
}

int network_core::accept(int fd, net::address& from) {
  const detail::race_ignore own;
  socket* const one = find(fd);
  if (one == nullptr || one->at != stage::listening) return -EINVAL;
  if (one->clients.empty()) return -EAGAIN;
  if (choices_.happens(options_.accept_failures)) return -EMFILE;
  const int client = one->clients.front();
  one->clients.pop_front();
  from = find(client)->remote;
  return client;
}

int network_core::connect(int fd, const net::address& to) {
  const detail::race_ignore own;
  socket* const one = find(fd);
  if (one == nullptr || one->at != stage::fresh) return -EINVAL;
  one->local = fresh_address(to);
  one->remote = to;
  one->at = stage::connecting;
  post({.kind = delivery::what::request, .from = fd}, delay());
  return connect_outcome(fd);
}

int network_core::connect_outcome(int fd) {
  const detail::race_ignore own;
  const socket* const one = find(fd);
  if (one == nullptr) return -EBADF;
  if (one->at == stage::refused) return one->broken ? -ECONNRESET : -ECONNREFUSED;
  return one->at == stage::connected ? 0 : -EINPROGRESS;
}

std::ptrdiff_t network_core::receive(int fd, net::buffer into) {
  const detail::race_ignore own;
  socket* const one = find(fd);
  if (one == nullptr) return -EBADF;
  if (one->broken) return -ECONNRESET;
  const std::size_t there = one->inbox.size() - one->read_to;
  if (there == 0) return one->ended ? 0 : -EAGAIN;
  const std::size_t count = std::min(there, into.size());
  std::memcpy(into.data(), one->inbox.data() + one->read_to, count);
  one->read_to += count;
  if (socket* const peer = find(one->peer); peer != nullptr && peer->wants_room) {
    peer->wants_room = false;
    arrive(*peer, false, true);
  }
  return static_cast<std::ptrdiff_t>(count);
}

std::ptrdiff_t network_core::send(int fd, std::span<const net::const_buffer> from,
                                  std::size_t offset) {
  const detail::race_ignore own;
  socket* const one = find(fd);
  if (one == nullptr) return -EBADF;
  if (one->broken) return -ECONNRESET;
  if (one->shut || one->at != stage::connected) return -EPIPE;
  std::size_t offered = 0;
  for (const net::const_buffer& part : from) offered += part.size();
  offered -= offset;
  if (offered == 0) return 0;
  const std::size_t free = room(*one);
  if (free == 0) {
    one->wants_room = true;
    return -EAGAIN;
  }
  if (choices_.happens(options_.resets)) {
    post({.kind = delivery::what::reset, .to = one->peer}, delay());
    break_off(*one);
    return -ECONNRESET;
  }
  std::size_t count = std::min(offered, free);
  const bool cut = count > 1 && choices_.happens(options_.cuts);
  const bool in_two = cut && choices_.decide(choice_of::number, 2) == 1;
  if (cut && !in_two) count /= 2;
  if (count < offered) {
    one->wants_room = count == free;
    // I2
    if (count != free) post({.kind = delivery::what::room, .to = fd}, std::chrono::microseconds{1});
  }
  std::vector<std::byte> bytes;
  bytes.reserve(count);
  for (const net::const_buffer& part : from) {
    if (offset >= part.size()) {
      offset -= part.size();
      continue;
    }
    const net::const_buffer rest = part.after(offset);
    offset = 0;
    const std::size_t taken = std::min(rest.size(), count - bytes.size());
    const auto* const data = static_cast<const std::byte*>(rest.data());
    bytes.insert(bytes.end(), data, data + taken);
    if (bytes.size() == count) break;
  }
  one->on_the_way += count;
  std::vector<std::byte> later;
  if (in_two) {
    later.assign(bytes.begin() + static_cast<std::ptrdiff_t>(count / 2), bytes.end());
    bytes.resize(count / 2);
  }
  const int peer = one->peer;
  post_in_order(*one, {delivery::what::bytes, peer, fd, std::move(bytes)}, delay());
  if (in_two) {
    post_in_order(*one, {delivery::what::bytes, peer, fd, std::move(later)},
                  delay() + std::chrono::microseconds{1});
  }
  return static_cast<std::ptrdiff_t>(count);
}

int network_core::shutdown_write(int fd) {
  const detail::race_ignore own;
  socket* const one = find(fd);
  if (one == nullptr || one->at != stage::connected || one->broken) return -ENOTCONN;
  if (!std::exchange(one->shut, true)) {
    post_in_order(*one, {.kind = delivery::what::end, .to = one->peer, .from = fd}, delay());
  }
  return 0;
}

void network_core::discard_on_close(int fd) {
  const detail::race_ignore own;
  if (socket* const one = find(fd)) one->discards = true;
}

void network_core::close(int fd) {
  const detail::race_ignore own;
  socket* const one = find(fd);
  if (one == nullptr) return;
  one->watched = false;
  if (one->at == stage::listening) {
    for (const int client : one->clients) {
      if (socket* const waits = find(client)) {
        post({.kind = delivery::what::reset, .to = waits->peer}, delay());
        sockets_[static_cast<std::size_t>(client - first)].reset();
      }
    }
  } else if (one->at == stage::connected && is_up_ && !one->broken) {
    const bool unread = one->inbox.size() > one->read_to;
    if (one->discards || unread) {
      post({.kind = delivery::what::reset, .to = one->peer}, delay());
    } else if (!one->shut) {
      post_in_order(*one, {.kind = delivery::what::end, .to = one->peer}, delay());
    }
  }
  sockets_[static_cast<std::size_t>(fd - first)].reset();
}

net::address network_core::local_address(int fd) {
  const detail::race_ignore own;
  const socket* const one = find(fd);
  return one == nullptr ? net::address{} : one->local;
}

net::address network_core::peer_address(int fd) {
  const detail::race_ignore own;
  const socket* const one = find(fd);
  return one == nullptr ? net::address{} : one->remote;
}

bool network_core::is_listening(int fd) {
  const detail::race_ignore own;
  const socket* const one = find(fd);
  return one != nullptr && one->at == stage::listening;
}

std::size_t network_core::waiting(int fd) {
  const detail::race_ignore own;
  const socket* const one = find(fd);
  return one == nullptr ? 0 : one->clients.size();
}

void network_core::stop_incoming(int fd) {
  const detail::race_ignore own;
  if (socket* const one = find(fd)) one->deaf = true;
}

net::socket_calls::state network_core::look(int fd) {
  const detail::race_ignore own;
  const socket* const one = find(fd);
  if (one == nullptr) return {.readable = true, .ended = true};
  const bool over = one->ended || one->broken;
  return {.readable = over || one->inbox.size() > one->read_to, .ended = over};
}

bool network_core::all_arrived(int fd) {
  const detail::race_ignore own;
  const socket* const one = find(fd);
  return one == nullptr || one->on_the_way == 0;
}

// --- the handle

network::network(const network_options& options) {
  world* const here = world::current();
  if (here == nullptr) throw std::logic_error{"a network outside of a simulation"};
  if (here->sockets().is_up()) throw std::logic_error{"a second network in a simulation"};
  core_ = &here->sockets();
  core_->up(options);
}

network::~network() { core_->down(); }

void network::set(const network_options& options) { core_->set(options); }

std::size_t network::open_sockets() const noexcept { return core_->open_sockets(); }

}  // namespace exeunt::sim
