// SPDX-License-Identifier: Apache-2.0
// Reading and writing: try the system call, wait when it says "not now", try again.
//
// Invariants:
//   I1  Nobody uses the descriptor's number but as a user of lock_, and it is closed only after
//       close() by the last of them.
//   I2  left_ and, while no start is pending, on_readable_ belong to whoever reads.
//   I3  left_ == nothing  =>  a readiness that comes from now on has not been consumed.
//   I4  A pending start holds a reference to the core.
// A stream read that brings less than asked has emptied the socket, so the next readiness is an
// edge that the poller will report, and asking before it comes would be a call for nothing (I3).
// The peer's end is the exception, as it may come in the same edge as the data; the poller
// remembers it. Unix sockets end a read early where credentials change, so there it proves nothing.
// Locks: none but lock_, which is held across waits: it puts readers in turn.
// Wake-ups: see sched/io.cpp; a moved deadline wakes by io_descriptor::wake().
// Tests: tests/net/conn_test.cpp, conn_stress_test.cpp; tests/sim/network_steps_test.cpp.

#include <exeunt/net/conn.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <algorithm>
#include <cerrno>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/wait.hpp>

#include "net/conn_core.hpp"
#include "net/socket.hpp"

namespace exeunt::detail {

using net::const_buffer;
using net::receive_now;
using net::send_now;

namespace {

// EWOULDBLOCK is the same number on Linux.
constexpr std::ptrdiff_t not_now = -EAGAIN;

constexpr int errno_of(std::ptrdiff_t outcome) noexcept { return static_cast<int>(-outcome); }

}  // namespace

const atomic<clock::rep> fd_core::at_once{0};

clock::time_point fd_core::deadline(io_direction direction) noexcept {
  // order: relaxed; a change is followed by a wake-up of whoever waits.
  return clock::time_point{
      clock::duration{deadlines_[static_cast<std::size_t>(direction)].load(memory_order_relaxed)}};
}

std::optional<error> fd_core::over(io_direction direction, cancel_node* cancel) noexcept {
  if (cancel != nullptr && cancel->canceled()) return cancel->reason();
  const clock::time_point until = deadline(direction);
  if (until != no_deadline && clock::now() >= until) return error{errc::deadline_exceeded};
  return std::nullopt;
}

result<> fd_core::wait(io_direction direction, wait_reason why, cancel_node* cancel,
                       clock::time_point not_after) noexcept {
  while (true) {
    const clock::time_point until = deadline(direction);
    const auto waited = descriptor_.wait(direction, why, cancel, std::min(until, not_after));
    if (waited || !waited.error().is(errc::deadline_exceeded)) return waited;
    if (cancel != nullptr && cancel->canceled()) return waited;
    // The deadline may have been moved while its timer fired: then wait for the new one.
    const clock::time_point now = clock::now();
    if (now >= not_after || now >= deadline(direction)) return waited;
  }
}

void fd_core::set_deadline(io_direction direction, clock::time_point when) noexcept {
  step("a deadline", this);
  // order: relaxed; those who wait are woken below and look again.
  deadlines_[static_cast<std::size_t>(direction)].store(when.time_since_epoch().count(),
                                                        memory_order_relaxed);
  const using_it user{*this};
  if (!user) return;
  descriptor_.wake(direction);
  lock_.poke();
}

// What is closed already is in nobody's way.
void fd_core::step_before_close(const char* call) noexcept {
  if (!lock_.is_closed()) step(call, this);
}

void fd_core::close() noexcept {
  if (!lock_.close()) return;
  const using_it user{*this, std::in_place};
  descriptor_.shut_down();
}

int fd_core::fd() noexcept {
  const using_it user{*this};
  return user ? descriptor_.fd() : -1;
}

std::size_t conn_core::took(std::ptrdiff_t count, std::size_t asked) noexcept {
  const auto taken = static_cast<std::size_t>(count);
  if (taken == asked || taken == 0) {
    left_ = left::more;  // At the peer's end a read never waits again.
  } else {
    left_ = is_tcp() ? left::nothing : left::unknown;
  }
  return taken;
}

result<std::size_t> conn_core::read(cancel_node* cancel, net::buffer into) {
  step("connection read", this);
  const using_it user{*this, io_direction::read, cancel};
  if (!user) return fail(user.error());
  bool waited = false;
  while (true) {
    if (auto why = over(io_direction::read, cancel)) return fail(std::move(*why));
    if (into.empty()) return std::size_t{0};
    if (left_ != left::nothing) {
      const std::ptrdiff_t count = receive_now(descriptor_.fd(), into);
      if (count >= 0) {
        if (!waited) checkpoint();
        return took(count, into.size());
      }
      if (count != not_now) return fail(net::describe("read", remote_, errno_of(count)));
    }
    left_ = left::nothing;
    if (auto ready = wait(io_direction::read, wait_reason::io_read, cancel); !ready) {
      return fail(ready.error());
    }
    waited = true;
    left_ = left::unknown;
  }
}

result<std::optional<std::size_t>> conn_core::try_read(net::buffer into) {
  step("connection read", this);
  const using_it user{*this, io_direction::read};
  if (!user) {
    if (user.error().is(errc::deadline_exceeded)) return std::nullopt;  // Somebody else reads.
    return fail(user.error());
  }
  if (into.empty()) return std::size_t{0};
  const std::ptrdiff_t count = receive_now(descriptor_.fd(), into);
  if (count >= 0) return took(count, into.size());
  if (count == not_now) {
    left_ = left::nothing;
    return std::nullopt;
  }
  return fail(net::describe("read", remote_, errno_of(count)));
}

result<> conn_core::write(cancel_node* cancel, std::span<const const_buffer> from) {
  step("connection write", this);
  const using_it user{*this, io_direction::write, cancel};
  if (!user) return fail(user.error());
  std::size_t done = 0;  // Bytes of from.front().
  bool waited = false;
  while (true) {
    while (!from.empty() && done >= from.front().size()) {
      done -= from.front().size();
      from = from.subspan(1);
    }
    if (auto why = over(io_direction::write, cancel)) return fail(std::move(*why));
    if (from.empty()) break;
    std::size_t asked = 0;
    for (const const_buffer& part : from.first(std::min(from.size(), net::buffers_per_call))) {
      asked += part.size();
    }
    asked -= done;
    const std::ptrdiff_t count = send_now(descriptor_.fd(), from, done);
    if (count < 0 && count != not_now) {
      return fail(net::describe("write", remote_, errno_of(count)));
    }
    if (count > 0) done += static_cast<std::size_t>(count);
    // Less than asked means that the system's buffer is full: wait for room.
    if (count == not_now || static_cast<std::size_t>(count) < asked) {
      if (auto ready = wait(io_direction::write, wait_reason::io_write, cancel); !ready) {
        return ready;
      }
      waited = true;
    }
  }
  if (!waited) checkpoint();
  return {};
}

result<std::size_t> conn_core::write_some(cancel_node* cancel, const_buffer from) {
  step("connection write", this);
  const using_it user{*this, io_direction::write, cancel};
  if (!user) return fail(user.error());
  while (true) {
    if (auto why = over(io_direction::write, cancel)) return fail(std::move(*why));
    if (from.empty()) return std::size_t{0};
    const std::ptrdiff_t count = send_now(descriptor_.fd(), {&from, 1}, 0);
    if (count >= 0) return static_cast<std::size_t>(count);
    if (count != not_now) return fail(net::describe("write", remote_, errno_of(count)));
    if (auto ready = wait(io_direction::write, wait_reason::io_write, cancel); !ready) {
      return fail(ready.error());
    }
  }
}

result<std::size_t> conn_core::try_write(std::span<const const_buffer> from) {
  step("connection write", this);
  const using_it user{*this, io_direction::write};
  if (!user) {
    if (user.error().is(errc::deadline_exceeded)) return std::size_t{0};  // Somebody else writes.
    return fail(user.error());
  }
  const std::ptrdiff_t count = send_now(descriptor_.fd(), from, 0);
  if (count >= 0) return static_cast<std::size_t>(count);
  if (count == not_now) return std::size_t{0};
  return fail(net::describe("write", remote_, errno_of(count)));
}

void conn_core::when_readable(unique_function<void()> f) {
  EXEUNT_ASSERT(!on_readable_, "two pending starts on one connection");
  const using_it user{*this};
  if (!user || left_ == left::more) {
    start_fiber({.name = "connection"}, std::move(f));
    return;
  }
  on_readable_ = std::move(f);
  add_ref();           // I4
  race_release(this);  // The poller, which starts the fiber, is not the one that was here.
  descriptor_.start_when_readable(&conn_core::start, this);
}

void conn_core::start(void* core) noexcept {
  race_acquire(core);
  const auto self = ref_ptr<conn_core>::adopt(static_cast<conn_core*>(core));
  unique_function<void()> f = std::move(self->on_readable_);
  self->left_ = left::unknown;
  f();
}

bool conn_core::cancel_when_readable() noexcept {
  const using_it user{*this};
  if (!user || !descriptor_.cancel_start()) return false;
  on_readable_ = nullptr;
  static_cast<void>(drop());  // Never the last: the handle that is used here holds one.
  return true;
}

result<> conn_core::shutdown_write() {
  step("connection shutdown", this);
  const using_it user{*this};
  if (!user) return fail(user.error());
  const int outcome = net::shutdown_write(descriptor_.fd());
  if (outcome == 0) return {};
  return fail(net::describe("shutdown", remote_, -outcome));
}

void conn_core::close() noexcept {
  step_before_close("connection close");
  fd_core::close();
}

void conn_core::abort() noexcept {
  step_before_close("connection abort");
  {
    const using_it user{*this};
    if (!user) return;
    net::discard_on_close(descriptor_.fd());
  }
  fd_core::close();
}

void conn_core::shut_down() noexcept {
  step("connection shutdown", this);
  const using_it user{*this};
  if (user) descriptor_.shut_down();
}

result<> conn_core::set_nodelay(bool on) {
  const using_it user{*this};
  if (!user) return fail(user.error());
  if (!is_tcp()) return {};
  const int outcome = net::set_option(descriptor_.fd(), IPPROTO_TCP, TCP_NODELAY, on ? 1 : 0);
  if (outcome < 0) return fail(net::describe("set option", remote_, -outcome));
  return {};
}

net::address conn_core::local_address() {
  const using_it user{*this};
  return user ? net::local_address_of(descriptor_.fd()) : net::address{};
}

result<net::conn> net_access::make(int fd, net::address remote) {
  auto made = try_make(fd, std::move(remote));
  if (!made) net::close_now(fd);
  return made;
}

result<net::conn> net_access::try_make(int fd, net::address remote) {
  auto descriptor = io_descriptor::try_adopt(fd);
  if (!descriptor) return fail(descriptor.error());
  auto* const core = new conn_core{std::move(*descriptor), std::move(remote)};
  return make(ref_ptr<conn_core>::adopt(core));
}

}  // namespace exeunt::detail

namespace exeunt::net {

using detail::io_direction;
using detail::node_of;

conn::conn() noexcept = default;
conn::conn(detail::ref_ptr<detail::conn_core> core) noexcept : core_{std::move(core)} {}
conn::conn(conn&& other) noexcept = default;

conn& conn::operator=(conn&& other) noexcept {
  if (this != &other) {
    conn before{std::move(*this)};
    core_ = std::move(other.core_);
  }
  return *this;
}

conn::~conn() {
  if (!core_) return;
  core_->cancel_when_readable();
  core_->close();
}

result<conn> conn::adopt(int fd) {
  address remote = peer_address_of(fd);
  const bool is_ip = remote.is_ip();
  auto adopted = detail::net_access::make(fd, std::move(remote));
  if (adopted && is_ip) set_tcp_defaults(adopted->native_handle());
  return adopted;
}

result<std::size_t> conn::read(const context& ctx, buffer into) {
  return core_ ? core_->read(node_of(ctx), into) : fail(errc::closed);
}
result<std::size_t> conn::read(buffer into) {
  return core_ ? core_->read(nullptr, into) : fail(errc::closed);
}
result<std::optional<std::size_t>> conn::try_read(buffer into) {
  return core_ ? core_->try_read(into) : fail(errc::closed);
}

result<> conn::write(const context& ctx, const_buffer from) {
  return write(ctx, std::span<const const_buffer>{&from, 1});
}
result<> conn::write(const_buffer from) { return write(std::span<const const_buffer>{&from, 1}); }
result<> conn::write(const context& ctx, std::span<const const_buffer> from) {
  return core_ ? core_->write(node_of(ctx), from) : fail(errc::closed);
}
result<> conn::write(std::span<const const_buffer> from) {
  return core_ ? core_->write(nullptr, from) : fail(errc::closed);
}
result<std::size_t> conn::write_some(const context& ctx, const_buffer from) {
  return core_ ? core_->write_some(node_of(ctx), from) : fail(errc::closed);
}
result<std::size_t> conn::try_write(std::span<const const_buffer> from) {
  return core_ ? core_->try_write(from) : fail(errc::closed);
}

void conn::when_readable(unique_function<void()> f) {
  EXEUNT_ASSERT(static_cast<bool>(core_), "when_readable of no connection");
  core_->when_readable(std::move(f));
}
bool conn::cancel_when_readable() noexcept { return core_ && core_->cancel_when_readable(); }

result<> conn::shutdown_write() { return core_ ? core_->shutdown_write() : fail(errc::closed); }
void conn::close() noexcept {
  if (core_) core_->close();
}
void conn::abort() noexcept {
  if (core_) core_->abort();
}
void conn::shut_down() noexcept {
  if (core_) core_->shut_down();
}

void conn::set_read_deadline(clock::time_point when) noexcept {
  if (core_) core_->set_deadline(io_direction::read, when);
}
void conn::set_write_deadline(clock::time_point when) noexcept {
  if (core_) core_->set_deadline(io_direction::write, when);
}

result<> conn::set_nodelay(bool on) { return core_ ? core_->set_nodelay(on) : fail(errc::closed); }

address conn::local_address() const { return core_ ? core_->local_address() : address{}; }
const address& conn::remote_address() const noexcept {
  static const address none;
  return core_ ? core_->remote_address() : none;
}
int conn::native_handle() const noexcept { return core_ ? core_->fd() : -1; }

}  // namespace exeunt::net
