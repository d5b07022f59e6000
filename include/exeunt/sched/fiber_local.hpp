// SPDX-License-Identifier: Apache-2.0
// Variables of which each fiber has one of its own.

#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>

namespace exeunt {

namespace detail {

/// One fiber's value of one variable: the part that does not depend on its type.
struct local_value {
  std::uint64_t key = 0;  ///< of the variable; no two have the same, one after the other either
  local_value* older = nullptr;  ///< what the fiber made before
  void (*destroy)(local_value* self) noexcept = nullptr;
};

/// A variable's place in the fibers' tables. It is found at the first use.
class EXEUNT_API local_key {
 public:
  constexpr local_key() noexcept = default;
  local_key(const local_key&) = delete;
  local_key& operator=(const local_key&) = delete;
  /// Destroys the caller's value, and gives the place back.
  ~local_key();

  /// The caller's value, or null. Cost: see fiber_local.
  [[nodiscard]] local_value* find() const noexcept;
  /// The caller's value, which is what `create` returns if there is none.
  local_value& find_or_make(function_ref<local_value*()> create) const;
  /// Destroys the caller's value, if there is one.
  void reset() noexcept;

 private:
  [[nodiscard]] std::uint64_t assigned() const;

  mutable atomic<std::uint64_t> word_{0};  // The key; 0: no place yet.
};

template <typename T>
struct local_node final : local_value {
  template <typename Make>
  explicit local_node(Make&& make) : value(make()) {
    destroy = [](local_value* self) noexcept { delete static_cast<local_node*>(self); };
  }
  T value;
};

/// Destroys the running fiber's values, for whoever tells others that its body has ended.
EXEUNT_API void end_fiber_locals() noexcept;

}  // namespace detail

/// A variable of which each fiber has a T of its own, and so has each plain thread that uses it.
///
/// A fiber's T is made when the fiber first uses it, and goes where the fiber goes. It is destroyed
/// when the fiber's function has returned and is destroyed: on that fiber, the last one made first,
/// before join(), wait() or run() of who waits for the fiber return. Destructors may call anything
/// that a fiber may, also what waits. Values that they make in turn are destroyed after the others,
/// four times over; what is there then is reported in the log and never destroyed. A destructor
/// that throws ends the process, as it does in a thread. Threads do the same at their end, as with
/// thread_local.
///
/// Not destroyed are the values of fibers that are abandoned when their runtime stops, as nothing
/// of theirs is. The function that blocking() runs is on a thread, and so has the thread's T; so
/// has a fiber that called exit() or is in a forked child, from then on.
///
/// The variable may be destroyed while others still have values: the caller's is destroyed with it,
/// theirs when they end, or before, when they make a value of a variable that has its place. As
/// with any object, nobody may use it meanwhile or later.
///
/// Compare: folly::fibers::local has one T for a type, not for a variable, and makes it of nothing.
///          boost::fibers::fiber_specific_ptr and boost::thread_specific_ptr hold a pointer that
///          the program must fill, find it in a map, and have one round of destructors and none.
/// Throws:  what making T throws; then there is none, and the next use tries again. panic_error
///          if making it uses the variable itself; std::bad_alloc; std::length_error if there are
///          65 535 variables already.
/// Threads: the const members may be called concurrently.
/// Cost:    a call and eight loads, 2 ns more than a thread_local behind a function of its own. The
///          first use in a fiber allocates its table, and each value its memory. A fiber without
///          any pays one comparison at its end.
template <typename T>
  requires std::is_object_v<T> && (!std::is_array_v<T>)
class fiber_local {
 public:
  /// Values are T().
  constexpr fiber_local() noexcept
    requires std::is_default_constructible_v<T>
  {}
  /// Values are what `initializer()` returns, on the fiber whose value it is. It may be called by
  /// several at a time.
  template <typename F>
    requires(!std::same_as<std::remove_cvref_t<F>, fiber_local> &&
             std::is_invocable_r_v<T, std::decay_t<F>&>)
  explicit fiber_local(F&& initializer)
      : initializer_{std::make_unique<unique_function<T()>>(std::forward<F>(initializer))} {}

  /// The caller's value, made if there is none.
  T& get() const {
    if (detail::local_value* const found = key_.find()) return of(*found);
    return of(key_.find_or_make([this]() -> detail::local_value* { return make(); }));
  }
  T& operator*() const { return get(); }
  T* operator->() const { return std::addressof(get()); }

  /// The caller's value, or null if it has not been made.
  T* get_if() const noexcept {
    detail::local_value* const found = key_.find();
    return found == nullptr ? nullptr : std::addressof(of(*found));
  }

  /// Destroys the caller's value, if there is one; the next use makes another.
  void reset() noexcept { key_.reset(); }

 private:
  using node = detail::local_node<T>;

  static T& of(detail::local_value& found) noexcept { return static_cast<node&>(found).value; }

  detail::local_value* make() const {
    if constexpr (std::is_default_constructible_v<T>) {
      if (initializer_ == nullptr) return new node([] { return T(); });
    }
    return new node([this]() -> T { return (*initializer_)(); });
  }

  std::unique_ptr<unique_function<T()>> initializer_;
  detail::local_key key_;  // Goes first: the caller's value may use nothing of ours.
};

}  // namespace exeunt
