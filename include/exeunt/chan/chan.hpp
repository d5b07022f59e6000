// SPDX-License-Identifier: Apache-2.0
// Typed channels: ordered hand-over of values between fibers.
//
// This header is a thin typed shell. Everything that blocks, orders or closes is in
// chan/core.hpp and src/chan/core.cpp, which see an element as bytes plus a table of
// operations. Read this file to use a channel; read core.cpp to learn how one works.

#pragma once

#include <concepts>
#include <cstddef>
#include <iterator>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/error.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/chan/core.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/cancel.hpp>

namespace exeunt {

/// A value can travel through a channel if moving it cannot throw: the move happens while the
/// channel is locked, and a half-moved element would leave both fibers without it.
///
/// For the same reason the move constructor, and the destructor of what was moved from, must not
/// call this library: a send in one of them would wait for the lock that its own channel holds.
template <typename T>
concept channel_element =
    std::is_void_v<T> ||
    (std::is_object_v<T> && std::same_as<T, std::remove_cv_t<T>> &&
     std::is_nothrow_move_constructible_v<T> && std::is_nothrow_destructible_v<T>);

namespace detail {

/// What all channel handles have in common. One word; null is the nil channel.
class chan_handle {
 public:
  /// Elements kept now. Orders nothing; may be old when it returns. 0 if unbuffered or nil.
  [[nodiscard]] std::size_t size() const noexcept { return core_ ? core_->size() : 0; }
  /// Elements that can be kept.
  [[nodiscard]] std::size_t capacity() const noexcept { return core_ ? core_->capacity() : 0; }
  /// False for the nil channel.
  explicit operator bool() const noexcept { return static_cast<bool>(core_); }
  /// Whether both name the same channel.
  friend bool operator==(const chan_handle& a, const chan_handle& b) noexcept = default;

 protected:
  chan_handle() noexcept = default;
  explicit chan_handle(ref_ptr<chan_core> core) noexcept : core_{std::move(core)} {}

  void close_core() const {
    if (!core_) throw_close_of_nil();
    if (!core_->close()) throw_close_of_closed();
  }
  [[nodiscard]] send_status send_to_core(void* value, cancel_node* cancel) const {
    const send_status now = core_ ? core_->send(value, cancel) : send_on_nil(cancel);
    if (now == send_status::closed) throw_send_on_closed();
    return now;
  }
  [[nodiscard]] bool try_send_to_core(void* value) const {
    const send_status now = core_ ? core_->try_send(value) : send_status::full;
    if (now == send_status::closed) throw_send_on_closed();
    return now == send_status::sent;
  }
  [[nodiscard]] recv_status recv_from_core(void* out, cancel_node* cancel) const noexcept {
    return core_ ? core_->recv(out, cancel) : recv_on_nil(cancel);
  }

  friend struct handle_access;
  ref_ptr<chan_core> core_;
};

/// For the rooms that make channels of their own, and for select.
struct handle_access {
  static chan_core* core(const chan_handle& handle) noexcept { return handle.core_.get(); }
  static const ref_ptr<chan_core>& owner(const chan_handle& handle) noexcept {
    return handle.core_;
  }
  /// Null unless the handle is the end of a context.
  template <typename Events>
  static cancel_node* node(const Events& handle) noexcept {
    return handle.node_.get();
  }
  template <typename Handle>
  static Handle make(ref_ptr<chan_core> core) noexcept {
    return Handle{std::move(core)};
  }
};

/// Walks through what a channel delivers, taking each element as it comes to it. It keeps the
/// channel, also if the variable it came from is assigned meanwhile.
template <typename T>
class recv_iterator {
 public:
  using value_type = T;
  using difference_type = std::ptrdiff_t;
  using iterator_concept = std::input_iterator_tag;

  recv_iterator(ref_ptr<chan_core> core, ref_ptr<cancel_node> cancel)
      : core_{std::move(core)}, cancel_{std::move(cancel)} {
    next();
  }
  recv_iterator(recv_iterator&&) noexcept = default;
  recv_iterator& operator=(recv_iterator&& other) noexcept {
    core_ = std::move(other.core_);
    cancel_ = std::move(other.cancel_);
    current_.reset();
    if (other.current_) current_.emplace(std::move(*other.current_));
    return *this;
  }
  ~recv_iterator() = default;

  /// The element, to be moved from or only looked at: the adaptors of ranges do the one after
  /// the other. Valid until the next step.
  T&& operator*() const noexcept { return std::move(*current_); }
  recv_iterator& operator++() {
    next();
    return *this;
  }
  void operator++(int) { next(); }
  friend bool operator==(const recv_iterator& it, std::default_sentinel_t) noexcept {
    return !it.current_.has_value();
  }

 private:
  void next() {
    current_.reset();
    // If it ends, whichever way, current_ stays empty.
    if (!core_) {
      static_cast<void>(recv_on_nil(cancel_.get()));
    } else if constexpr (is_bytes<T>) {
      arrival<T> next;
      if (core_->recv(next.place(), cancel_.get()) == recv_status::received) {
        current_.emplace(next.value());
      }
    } else {
      static_cast<void>(core_->recv(&current_, cancel_.get()));
    }
  }

  ref_ptr<chan_core> core_;
  ref_ptr<cancel_node> cancel_;
  mutable std::optional<T> current_;
};

/// The elements of a channel until it is closed and drained, or a context ends.
template <typename T>
class recv_range {
 public:
  recv_range(ref_ptr<chan_core> core, ref_ptr<cancel_node> cancel) noexcept
      : core_{std::move(core)}, cancel_{std::move(cancel)} {}
  [[nodiscard]] recv_iterator<T> begin() const { return {core_, cancel_}; }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  ref_ptr<chan_core> core_;
  ref_ptr<cancel_node> cancel_;
};

/// The members of a handle one can send by.
template <typename Base, typename T>
class sending : public Base {
 public:
  using element_type = T;

  /// Hands `value` over, parking until there is room or a receiver.
  ///
  /// Blocks:   until delivery or close(). On the nil channel, for good.
  /// Value:    moved from only when delivered: a refused value is still the caller's, also when
  ///           this throws.
  /// Throws:   closed_channel if the channel is or becomes closed, as Go panics.
  /// Ordering: what came before is visible after the matching receive; and what came before the
  ///           k-th receive after the (k + capacity)-th send.
  void send(T&& value) const {
    static_cast<void>(this->send_to_core(std::addressof(value), nullptr));
  }
  /// As send(T&&), of a copy, which is made first.
  void send(const T& value) const
    requires std::copy_constructible<T>
  {
    send(T(value));
  }

  /// As send(), giving up when `ctx` ends. If it has ended, nothing is sent even if there is room.
  ///
  /// Returns: success once delivered; else the context's error.
  [[nodiscard]] result<> send(const context& ctx, T&& value) const {
    cancel_node* const cancel = node_of(ctx);
    if (this->send_to_core(std::addressof(value), cancel) == send_status::sent) return {};
    return fail(cancel->reason());
  }
  [[nodiscard]] result<> send(const context& ctx, const T& value) const
    requires std::copy_constructible<T>
  {
    return send(ctx, T(value));
  }

  /// As send(), but never parks, nor gives way to another fiber: whoever tries again and again
  /// must yield() himself.
  ///
  /// Returns: false if there is neither room nor a waiting receiver; `value` is then untouched.
  [[nodiscard]] bool try_send(T&& value) const {
    return this->try_send_to_core(std::addressof(value));
  }
  [[nodiscard]] bool try_send(const T& value) const
    requires std::copy_constructible<T>
  {
    return try_send(T(value));
  }

  /// Says that no more values will come. Receivers drain what is left and then get nothing. Only
  /// the sending side should close. Never waits, nor gives way.
  ///
  /// Wakes:  everybody; parked senders throw closed_channel.
  /// Throws: closed_channel if it is closed already, or is the nil channel.
  void close() const { this->close_core(); }

 protected:
  using Base::Base;
};

template <typename Base>
class sending<Base, void> : public Base {
 public:
  using element_type = void;

  /// Sends an event; see sending<Base, T>::send().
  void send() const { static_cast<void>(this->send_to_core(nullptr, nullptr)); }
  /// As send(), giving up when `ctx` ends.
  [[nodiscard]] result<> send(const context& ctx) const {
    cancel_node* const cancel = node_of(ctx);
    if (this->send_to_core(nullptr, cancel) == send_status::sent) return {};
    return fail(cancel->reason());
  }
  /// Never waits, nor gives way.
  /// Returns: false if there is neither room nor a waiting receiver.
  [[nodiscard]] bool try_send() const { return this->try_send_to_core(nullptr); }
  /// Says that no more events will come; see sending<Base, T>::close().
  void close() const { this->close_core(); }

 protected:
  using Base::Base;
};

/// The members of a handle one can receive by.
template <typename Base, typename T>
class receiving : public Base {
 public:
  using element_type = T;

  /// Takes the oldest value, parking until there is one.
  ///
  /// Returns:  the value, or nothing once the channel is closed *and* drained.
  /// Blocks:   until a value or close(). On the nil channel, for good.
  /// Ordering: sees what came before the matching send, or before the close.
  [[nodiscard]] std::optional<T> recv() const {
    if constexpr (is_bytes<T>) {
      arrival<T> out;
      const recv_status now = this->recv_from_core(out.place(), nullptr);
      return out.take(now == recv_status::received);
    } else {
      std::optional<T> out;
      static_cast<void>(this->recv_from_core(&out, nullptr));
      return out;
    }
  }

  /// As recv(), giving up when `ctx` ends. If it has ended, nothing is taken.
  ///
  /// Returns: the value; errc::closed once drained; else the context's error.
  [[nodiscard]] result<T> recv(const context& ctx) const {
    cancel_node* const cancel = node_of(ctx);
    arrival<T> out;
    const recv_status now = this->recv_from_core(out.place(), cancel);
    if (now == recv_status::received) return result<T>{std::move(out.value())};
    return fail(now == recv_status::canceled ? cancel->reason() : error{errc::closed});
  }

  /// Takes the oldest value if there is one now. Never waits, nor gives way: whoever tries again
  /// and again must yield() himself.
  ///
  /// Returns: nothing if there is none, or none any more; select(on_recv(…), otherwise(…)) tells
  ///          the two apart.
  [[nodiscard]] std::optional<T> try_recv() const {
    if constexpr (is_bytes<T>) {
      arrival<T> out;
      return out.take(this->core_ && this->core_->try_recv(out.place()) == recv_status::received);
    } else {
      std::optional<T> out;
      if (this->core_) static_cast<void>(this->core_->try_recv(&out));
      return out;
    }
  }

  /// `for (T v : c)` receives until the channel is closed and drained. It is an input range of
  /// rvalues, for the adaptors of <ranges>, too.
  [[nodiscard]] recv_iterator<T> begin() const { return {this->core_, nullptr}; }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

  /// `for (T v : c.values(ctx))` ends when `ctx` does, too. Ask ctx.err() which it was.
  [[nodiscard]] recv_range<T> values(const context& ctx) const {
    return {this->core_, ref_ptr<cancel_node>::share(node_of(ctx))};
  }
  /// The context would end before the loop begins.
  template <typename CancelFunc>
  recv_range<T> values(cancelable_context<CancelFunc>&& ctx) const = delete;

 protected:
  using Base::Base;
};

template <typename Base>
class receiving<Base, void> : public Base {
 public:
  using element_type = void;

  /// Waits for an event. Returns: false once the channel is closed and drained.
  [[nodiscard]] bool recv() const {
    return this->recv_from_core(nullptr, nullptr) == recv_status::received;
  }
  /// As recv(), giving up when `ctx` ends.
  /// Returns: success for an event; errc::closed once drained; else the context's error.
  [[nodiscard]] result<> recv(const context& ctx) const {
    cancel_node* const cancel = node_of(ctx);
    const recv_status now = this->recv_from_core(nullptr, cancel);
    if (now == recv_status::received) return {};
    return fail(now == recv_status::canceled ? cancel->reason() : error{errc::closed});
  }
  /// Never waits, nor gives way.
  /// Returns: whether there was an event to take.
  [[nodiscard]] bool try_recv() const {
    return this->core_ && this->core_->try_recv(nullptr) == recv_status::received;
  }

 protected:
  using Base::Base;
};

}  // namespace detail

/// A shared handle to a channel of `T`. See detail::sending and detail::receiving for its members.
///
/// Copies name the same channel; the last copy frees it. `chan<T> c;` is unbuffered, `chan<T>
/// c{n}` keeps n values. `chan<T>{nullptr}` is the *nil channel*, which is never ready: assign it
/// to a variable to switch a select() case off. chan<void> carries events.
///
/// Threads: all members may be called concurrently, from fibers and plain threads. The handle
///          itself is a variable like any other.
template <channel_element T>
class chan : public detail::sending<detail::receiving<detail::chan_handle, T>, T> {
  using base = detail::sending<detail::receiving<detail::chan_handle, T>, T>;

 public:
  using element_type = T;

  /// An unbuffered channel: each send() meets a recv() in person. Throws: std::bad_alloc.
  chan() : chan(std::size_t{0}) {}
  /// A channel with room for `capacity` values.
  /// Throws: std::bad_alloc; panic_error if so many cannot be addressed.
  explicit chan(std::size_t capacity)
      : base{detail::chan_core::make(detail::element_ops_of<T>, capacity)} {}
  /// The nil channel. Allocates nothing. A template, so that chan<T>{0} is not it.
  template <std::same_as<std::nullptr_t> Nil>
  chan(Nil) noexcept : base{detail::ref_ptr<detail::chan_core>{}} {}

 private:
  friend struct detail::handle_access;
  explicit chan(detail::ref_ptr<detail::chan_core> core) noexcept : base{std::move(core)} {}
};

/// The sending end of a channel.
template <channel_element T>
class send_only : public detail::sending<detail::chan_handle, T> {
  using base = detail::sending<detail::chan_handle, T>;

 public:
  send_only(const chan<T>& both) noexcept : base{detail::handle_access::owner(both)} {}
  template <std::same_as<std::nullptr_t> Nil>
  send_only(Nil) noexcept : base{detail::ref_ptr<detail::chan_core>{}} {}

 private:
  friend struct detail::handle_access;
  explicit send_only(detail::ref_ptr<detail::chan_core> core) noexcept : base{std::move(core)} {}
};

/// The receiving end of a channel.
template <channel_element T>
class recv_only : public detail::receiving<detail::chan_handle, T> {
  using base = detail::receiving<detail::chan_handle, T>;

 public:
  recv_only(const chan<T>& both) noexcept : base{detail::handle_access::owner(both)} {}
  template <std::same_as<std::nullptr_t> Nil>
  recv_only(Nil) noexcept : base{detail::ref_ptr<detail::chan_core>{}} {}

 private:
  friend struct detail::handle_access;
  explicit recv_only(detail::ref_ptr<detail::chan_core> core) noexcept : base{std::move(core)} {}
};

/// The receiving end of events: of a channel, or the end of a context, which looks like a channel
/// that is closed when the context ends. Two words.
template <>
class recv_only<void> : public detail::receiving<detail::chan_handle, void> {
  using base = detail::receiving<detail::chan_handle, void>;

 public:
  recv_only(const chan<void>& both) noexcept : base{detail::handle_access::owner(both)} {}
  /// `recv_only<void> ended = ctx.done();`
  recv_only(const detail::done_signal& end) noexcept
      : base{detail::ref_ptr<detail::chan_core>{}},
        node_{detail::ref_ptr<detail::cancel_node>::share(end.node())} {}
  template <std::same_as<std::nullptr_t> Nil>
  recv_only(Nil) noexcept : base{detail::ref_ptr<detail::chan_core>{}} {}

  explicit operator bool() const noexcept { return node_ || base::operator bool(); }
  friend bool operator==(const recv_only& a, const recv_only& b) noexcept = default;

  [[nodiscard]] bool recv() const {
    if (!node_) return base::recv();
    static_cast<void>(detail::recv_on_nil(node_.get()));
    return false;
  }
  [[nodiscard]] result<> recv(const context& ctx) const {
    if (!node_) return base::recv(ctx);
    detail::cancel_node* const cancel = detail::node_of(ctx);
    if (detail::wait_for_either(*node_, cancel)) return fail(errc::closed);
    return fail(cancel->reason());
  }
  [[nodiscard]] bool try_recv() const { return base::try_recv(); }

 private:
  friend struct detail::handle_access;
  explicit recv_only(detail::ref_ptr<detail::chan_core> core) noexcept : base{std::move(core)} {}

  detail::ref_ptr<detail::cancel_node> node_;  // Else core_ is what counts.
};

/// Closes a channel when it goes out of scope, so that receivers end however the sender leaves:
/// `close_on_exit closing{c};`.
///
/// A channel that is closed by then, or nil, is left alone: destructors do not throw.
class close_on_exit {
 public:
  /// Without a name it would close in the same statement.
  template <typename T>
  [[nodiscard]] explicit close_on_exit(const chan<T>& c) noexcept
      : core_{detail::handle_access::owner(c)} {}
  template <typename T>
  [[nodiscard]] explicit close_on_exit(const send_only<T>& c) noexcept
      : core_{detail::handle_access::owner(c)} {}
  close_on_exit(const close_on_exit&) = delete;
  close_on_exit& operator=(const close_on_exit&) = delete;
  ~close_on_exit() {
    if (core_) static_cast<void>(core_->close());
  }

 private:
  detail::ref_ptr<detail::chan_core> core_;
};

}  // namespace exeunt
