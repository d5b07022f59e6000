// SPDX-License-Identifier: Apache-2.0
// What a conn handle stands for, and what a listener handle does.

#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/clock.hpp>
#include <exeunt/base/function.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/net/conn.hpp>
#include <exeunt/net/listener.hpp>
#include <exeunt/sched/io.hpp>

#include "net/fd_lock.hpp"

namespace exeunt::detail {

/// A descriptor, its users, and the deadlines of its two directions.
class fd_core : public ref_counted {
 public:
  explicit fd_core(io_descriptor&& descriptor) noexcept : descriptor_{std::move(descriptor)} {}
  fd_core(const fd_core&) = delete;
  fd_core& operator=(const fd_core&) = delete;

  /// The descriptor while `this` is a user of it.
  class using_it;

  void set_deadline(io_direction direction, clock::time_point when) noexcept;
  /// -1 once closed.
  [[nodiscard]] int fd() noexcept;

 protected:
  ~fd_core() = default;

  void close() noexcept;
  void step_before_close(const char* call) noexcept;

  /// Parks until `direction` may be ready. Returns: as io_descriptor::wait(); success also when
  /// the deadline was moved.
  [[nodiscard]] result<> wait(io_direction direction, wait_reason why, cancel_node* cancel,
                              clock::time_point not_after = no_deadline) noexcept;
  /// Whether waiting may begin at all: the context lives and the deadline is ahead.
  [[nodiscard]] std::optional<error> over(io_direction direction, cancel_node* cancel) noexcept;
  [[nodiscard]] clock::time_point deadline(io_direction direction) noexcept;

  io_descriptor descriptor_;
  net::fd_lock lock_;

 private:
  static const atomic<clock::rep> at_once;  // A deadline that has passed.

  atomic<clock::rep> deadlines_[2] = {no_deadline.time_since_epoch().count(),
                                      no_deadline.time_since_epoch().count()};
};

/// Frees the descriptor on the way out, if it was closed and this is the last user.
class fd_core::using_it {
 public:
  /// In turn with the others of this direction.
  using_it(fd_core& core, io_direction direction, cancel_node* cancel) noexcept
      : core_{&core},
        direction_{direction},
        outcome_{core.lock_.lock(direction, cancel,
                                 core.deadlines_[static_cast<std::size_t>(direction)])} {}
  /// Only if nobody else is in this direction; else errc::deadline_exceeded.
  using_it(fd_core& core, io_direction direction) noexcept
      : core_{&core},
        direction_{direction},
        outcome_{core.lock_.lock(direction, nullptr, at_once)} {}
  /// Beside the others.
  explicit using_it(fd_core& core) noexcept
      : core_{&core}, outcome_{core.lock_.enter() ? result<>{} : result<>{fail(errc::closed)}} {}
  /// Takes over the user that fd_lock::close() made.
  using_it(fd_core& core, std::in_place_t) noexcept : core_{&core} {}
  using_it(const using_it&) = delete;
  using_it& operator=(const using_it&) = delete;
  ~using_it() {
    if (!outcome_) return;
    const bool last = direction_ ? core_->lock_.unlock(*direction_) : core_->lock_.leave();
    if (last) core_->descriptor_.close();
  }

  explicit operator bool() const noexcept { return outcome_.has_value(); }
  [[nodiscard]] const exeunt::error& error() const noexcept { return outcome_.error(); }

 private:
  fd_core* core_;
  std::optional<io_direction> direction_;
  result<> outcome_;
};

class conn_core final : public fd_core {
 public:
  conn_core(io_descriptor&& descriptor, net::address remote) noexcept
      : fd_core{std::move(descriptor)}, remote_{std::move(remote)} {}
  void release() const noexcept {
    if (drop()) delete this;
  }

  [[nodiscard]] result<std::size_t> read(cancel_node* cancel, net::buffer into);
  [[nodiscard]] result<std::optional<std::size_t>> try_read(net::buffer into);
  [[nodiscard]] result<> write(cancel_node* cancel, std::span<const net::const_buffer> from);
  [[nodiscard]] result<std::size_t> write_some(cancel_node* cancel, net::const_buffer from);
  [[nodiscard]] result<std::size_t> try_write(std::span<const net::const_buffer> from);

  void when_readable(unique_function<void()> f);
  bool cancel_when_readable() noexcept;

  [[nodiscard]] result<> shutdown_write();
  void close() noexcept;
  void abort() noexcept;
  void shut_down() noexcept;
  [[nodiscard]] result<> set_nodelay(bool on);
  [[nodiscard]] net::address local_address();
  [[nodiscard]] const net::address& remote_address() const noexcept { return remote_; }

 private:
  ~conn_core() = default;
  [[nodiscard]] bool is_tcp() const noexcept { return remote_.is_ip(); }
  [[nodiscard]] std::size_t took(std::ptrdiff_t count, std::size_t asked) noexcept;
  static void start(void* core) noexcept;

  /// What the last read showed. Belongs to whoever reads.
  enum class left : std::uint8_t {
    unknown,  ///< nothing was tried, or something may have come since
    nothing,  ///< the buffer was emptied: there is nothing until the next readiness
    more,     ///< the read was filled, so there may be more without a new readiness
  };

  const net::address remote_;
  left left_ = left::unknown;
  unique_function<void()> on_readable_;
};

class listener_core final : public fd_core {
 public:
  listener_core(io_descriptor&& descriptor, net::address local, bool owns_path) noexcept
      : fd_core{std::move(descriptor)}, local_{std::move(local)}, owns_path_{owns_path} {}
  void release() const noexcept {
    if (drop()) delete this;
  }

  [[nodiscard]] result<net::conn> accept(cancel_node* cancel);
  [[nodiscard]] result<std::optional<net::conn>> accept_now();
  [[nodiscard]] std::size_t waiting() noexcept;
  [[nodiscard]] result<std::size_t> handshakes();
  [[nodiscard]] result<> stop_incoming() noexcept;
  void close() noexcept;
  [[nodiscard]] const net::address& local_address() const noexcept { return local_; }

 private:
  ~listener_core();
  /// One connection from the queue. Returns: a negated errno value; -EAGAIN only if nobody waits.
  [[nodiscard]] int take_one(net::conn& into);
  [[nodiscard]] result<> pause(int number, cancel_node* cancel);
  void remove_path() noexcept;
  void drop_held() noexcept;

  const net::address local_;
  atomic<bool> owns_path_;
  atomic<int> held_{-1};  // Accepted, and refused by the poller for want of memory; see take_one().

  // Of whoever accepts:
  clock::duration pause_{};  // The last one; zero once a client got in.
  clock::time_point may_log_{};
};

/// Makes handles of cores.
struct net_access {
  static net::conn make(ref_ptr<conn_core> core) noexcept { return net::conn{std::move(core)}; }
  static net::listener make(ref_ptr<listener_core> core) noexcept {
    return net::listener{std::move(core)};
  }
  /// Registers the connected socket `fd`, which is closed on failure.
  [[nodiscard]] static result<net::conn> make(int fd, net::address remote);
  /// The same, but after a failure `fd` is still the caller's.
  [[nodiscard]] static result<net::conn> try_make(int fd, net::address remote);
};

}  // namespace exeunt::detail
