// SPDX-License-Identifier: Apache-2.0
// A queue for many producers and many consumers, without a bound if need be.
//
// This header is a typed shell: order, room, waiting and closing are in src/sync/queue.cpp, which
// sees a value as a node and a function that fills it.

#pragma once

#include <cstddef>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include <exeunt/base/error.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sync/wait_queue.hpp>

namespace exeunt {

class context;

namespace detail {

/// What a value is kept in. Its memory is the producer's until it is in the queue, and then the
/// queue's until a consumer has it.
struct queue_node {
  queue_node* next = nullptr;
};

/// The queue without its type.
///
/// Threads: all members, concurrently.
class EXEUNT_API queue_core {
 public:
  enum class outcome : unsigned char { done, full, empty, closed, canceled };
  /// Moves the caller's value into its node. Under the queue's lock, and perhaps on another fiber.
  using fill_fn = void (*)(queue_node& node, void* value) noexcept;

  explicit constexpr queue_core(std::size_t capacity) noexcept : capacity_{capacity} {}
  queue_core(const queue_core&) = delete;
  queue_core& operator=(const queue_core&) = delete;
  /// Asserts: nobody waits.
  ~queue_core();

  /// `fill`s and takes over the node, or does neither. `until` may be null.
  outcome push(queue_node& node, void* value, fill_fn fill, cancel_node* until) noexcept;
  outcome try_push(queue_node& node, void* value, fill_fn fill) noexcept;
  /// The first node into `into`, if `done`.
  outcome pop(queue_node*& into, cancel_node* until) noexcept;
  outcome try_pop(queue_node*& into) noexcept;
  /// Wakes: everybody.
  void close() noexcept;

  /// For the destructor: the first node, or null.
  queue_node* take_rest() noexcept;

  [[nodiscard]] std::size_t size() const noexcept;
  [[nodiscard]] std::size_t peak() const noexcept;
  [[nodiscard]] bool closed() const noexcept;
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }

  [[nodiscard]] static cancel_node* until_of(const context& ctx) noexcept;
  /// The error for what a call with a context has come to.
  [[nodiscard]] static error why(outcome how, cancel_node* until);

 private:
  struct producer;
  struct consumer;

  outcome push_slowly(queue_node& node, void* value, fill_fn fill, cancel_node* until) noexcept;
  outcome pop_slowly(queue_node*& into, cancel_node* until) noexcept;
  outcome offer(queue_node& node, void* value, fill_fn fill, wakeup& due) noexcept;
  outcome take(queue_node*& into, wakeup& due) noexcept;
  outcome shown(outcome how, const queue_node* node) const noexcept;
  void append(queue_node& node) noexcept;

  const std::size_t capacity_;
  mutable spin_lock lock_;
  bool closed_ = false;
  std::size_t size_ = 0;
  std::size_t peak_ = 0;
  queue_node* first_ = nullptr;
  queue_node* last_ = nullptr;
  wait_queue producers_;
  wait_queue consumers_;
};

}  // namespace detail

/// Can be in a queue: it is moved in under a lock.
template <typename T>
concept queue_element = std::is_object_v<T> && std::is_nothrow_move_constructible_v<T>;

/// First in, first out, for any number of producers and consumers.
///
/// With a capacity a push() waits for room, as with a channel. Without one it never waits, and a
/// queue whose consumers are too slow grows until there is no memory left: its length is then the
/// only sign of it, and every value in it waits ever longer. Prefer a channel, or a capacity; take
/// none where something else bounds what can be under way, such as a semaphore, and watch size()
/// and peak(). What a queue has over a channel: no bound, values that a closed queue refuses
/// instead of throwing, and a producer that never waits under a lock it holds. It cannot be in a
/// select.
///
/// Waiting consumers are served in the order in which they came, and so are waiting producers.
///
/// Threads:  all members may be called concurrently, from fibers and plain threads.
/// Ordering: a push happens before the return of the pop that takes its value, and close() before
///           that of a pop that finds the queue closed.
/// Cost:     an allocation for each value.
template <queue_element T>
class queue {
 public:
  using value_type = T;
  static constexpr std::size_t unbounded = std::numeric_limits<std::size_t>::max();

  /// Throws: panic_error if `capacity` is 0.
  explicit queue(std::size_t capacity = unbounded) : core_{checked(capacity)} {}
  queue(const queue&) = delete;
  queue& operator=(const queue&) = delete;
  /// Destroys what nobody took.
  /// Asserts: nobody waits.
  ~queue() {
    while (detail::queue_node* const left = core_.take_rest()) destroy(left);
  }

  /// Puts `value` at the end.
  ///
  /// Returns: false if the queue is closed.
  /// Blocks:  until there is room.
  /// Value:   moved from only if it is in the queue then; else still the caller's. So with all of
  ///          these.
  /// Throws:  std::bad_alloc, and what the copy throws.
  [[nodiscard]] bool push(T&& value) {
    return put([&](node& in) { return core_.push(in, &value, fill, nullptr); }) == done;
  }
  [[nodiscard]] bool push(const T& value)
    requires std::is_copy_constructible_v<T>
  {
    return push(T(value));
  }

  /// As push(value), giving up when `ctx` ends.
  /// Returns: the context's error, also if there is room but it had ended before; errc::closed.
  [[nodiscard]] result<> push(const context& ctx, T&& value) {
    detail::cancel_node* const until = core_.until_of(ctx);
    const outcome how = put([&](node& in) { return core_.push(in, &value, fill, until); });
    if (how != done) return fail(core_.why(how, until));
    return {};
  }
  [[nodiscard]] result<> push(const context& ctx, const T& value)
    requires std::is_copy_constructible_v<T>
  {
    return push(ctx, T(value));
  }

  /// As push(value), but never waits.
  /// Returns: false if there is no room, or the queue is closed.
  [[nodiscard]] bool try_push(T&& value) {
    return put([&](node& in) { return core_.try_push(in, &value, fill); }) == done;
  }
  [[nodiscard]] bool try_push(const T& value)
    requires std::is_copy_constructible_v<T>
  {
    return try_push(T(value));
  }

  /// Takes the value at the head.
  ///
  /// Returns: nothing once the queue is closed and empty.
  /// Blocks:  until there is a value.
  [[nodiscard]] std::optional<T> pop() {
    detail::queue_node* taken = nullptr;
    if (core_.pop(taken, nullptr) != done) return std::nullopt;
    return std::optional<T>{unwrap(taken)};
  }

  /// As pop(), giving up when `ctx` ends.
  /// Returns: the context's error, also if there is a value but it had ended before; errc::closed
  ///          once the queue is closed and empty.
  [[nodiscard]] result<T> pop(const context& ctx) {
    detail::cancel_node* const until = core_.until_of(ctx);
    detail::queue_node* taken = nullptr;
    if (const outcome how = core_.pop(taken, until); how != done) {
      return fail(core_.why(how, until));
    }
    return unwrap(taken);
  }

  /// Takes the value at the head, if there is one. Never waits.
  [[nodiscard]] std::optional<T> try_pop() {
    detail::queue_node* taken = nullptr;
    if (core_.try_pop(taken) != done) return std::nullopt;
    return std::optional<T>{unwrap(taken)};
  }

  /// Says that no more values come. What is in the queue can still be taken; pushes are refused,
  /// those that wait, too. Again: does nothing.
  void close() noexcept { core_.close(); }
  [[nodiscard]] bool closed() const noexcept { return core_.closed(); }

  /// How many values are in it. A snapshot.
  [[nodiscard]] std::size_t size() const noexcept { return core_.size(); }
  /// How many have been in it at once.
  [[nodiscard]] std::size_t peak() const noexcept { return core_.peak(); }
  [[nodiscard]] std::size_t capacity() const noexcept { return core_.capacity(); }

 private:
  using outcome = detail::queue_core::outcome;
  static constexpr outcome done = outcome::done;

  struct node : detail::queue_node {
    node() noexcept {}
    ~node() {}
    union {
      T value;  // Made by fill(), destroyed by whoever takes the node.
    };
  };

  static std::size_t checked(std::size_t capacity) {
    if (capacity == 0) throw panic_error{"a queue without room for anything"};
    return capacity;
  }

  static void fill(detail::queue_node& to, void* value) noexcept {
    std::construct_at(std::addressof(static_cast<node&>(to).value),
                      std::move(*static_cast<T*>(value)));
  }

  // A node, which `offer` gives to the queue or not.
  template <typename Offer>
  static outcome put(Offer&& offer) {
    auto fresh = std::make_unique<node>();
    const outcome how = offer(*fresh);
    if (how == done) static_cast<void>(fresh.release());
    return how;
  }

  static void destroy(detail::queue_node* taken) noexcept {
    node* const full = static_cast<node*>(taken);
    std::destroy_at(std::addressof(full->value));
    delete full;
  }

  static T unwrap(detail::queue_node* taken) noexcept {
    struct freed {
      detail::queue_node* taken;
      ~freed() { destroy(taken); }
    };
    const freed after{taken};
    return std::move(static_cast<node*>(taken)->value);
  }

  detail::queue_core core_;
};

}  // namespace exeunt
