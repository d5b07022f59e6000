// SPDX-License-Identifier: Apache-2.0
// Callables: a move-only owner with a small buffer, and a reference that owns nothing.

#pragma once

#include <cstddef>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/race.hpp>

namespace exeunt {

namespace detail {
/// What fits here is stored without an allocation: a lambda with five pointers.
inline constexpr std::size_t function_buffer_bytes = 40;

/// Not under ThreadSanitizer: the buffers of recycled fibers would look like races between the
/// fibers that had them, while memory that was freed and allocated anew does not.
#ifdef EXEUNT_HAS_TSAN
inline constexpr bool function_buffer_is_used = false;
#else
inline constexpr bool function_buffer_is_used = true;
#endif
}  // namespace detail

template <typename Signature>
class unique_function;

/// Owns a callable that need not be copyable; called at most as often as the callable allows.
///
/// Asserts: a call of an empty one.
/// Threads: as the callable's.
/// Cost:    one indirect call; one allocation for callables above 40 bytes.
template <typename Result, typename... Args>
class unique_function<Result(Args...)> {
 public:
  unique_function() noexcept = default;
  unique_function(std::nullptr_t) noexcept {}

  template <typename F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, unique_function> &&
             std::is_invocable_r_v<Result, std::decay_t<F>&, Args...>)
  unique_function(F&& callable) {
    using stored = std::decay_t<F>;
    // What take() copies as bytes is copied whole.
    if constexpr (!fits<stored> || std::is_trivially_copyable_v<stored>)
      std::memset(buffer_, 0, sizeof buffer_);
    if constexpr (fits<stored>) {
      ::new (static_cast<void*>(buffer_)) stored(std::forward<F>(callable));
      ops_ = &small_ops<stored>;
    } else {
      ::new (static_cast<void*>(buffer_)) stored*(new stored(std::forward<F>(callable)));
      ops_ = &large_ops<stored>;
    }
  }

  EXEUNT_NO_TSAN unique_function(unique_function&& other) noexcept { take(other); }
  EXEUNT_NO_TSAN unique_function& operator=(unique_function&& other) noexcept {
    if (this != &other) {
      reset();
      take(other);
    }
    return *this;
  }
  EXEUNT_NO_TSAN unique_function& operator=(std::nullptr_t) noexcept {
    reset();
    return *this;
  }
  ~unique_function() { reset(); }

  explicit operator bool() const noexcept { return ops_ != nullptr; }

  EXEUNT_NO_TSAN Result operator()(Args... args) {
    EXEUNT_ASSERT(ops_ != nullptr, "call of an empty unique_function");
    return ops_->call(buffer_, std::forward<Args>(args)...);
  }

 private:
  // Null: the bytes are all there is to move; there is nothing to destroy.
  struct ops {
    Result (*call)(void* self, Args&&... args);
    void (*move)(void* to, void* from) noexcept;
    void (*destroy)(void* self) noexcept;
  };

  template <typename F>
  static constexpr bool fits =
      detail::function_buffer_is_used && sizeof(F) <= detail::function_buffer_bytes &&
      alignof(F) <= alignof(std::max_align_t) && std::is_nothrow_move_constructible_v<F>;

  template <typename F>
  static void move_small(void* to, void* from) noexcept {
    ::new (to) F(std::move(*static_cast<F*>(from)));
    static_cast<F*>(from)->~F();
  }
  template <typename F>
  static void destroy_small(void* self) noexcept {
    static_cast<F*>(self)->~F();
  }

  template <typename F>
  static constexpr ops small_ops{
      [](void* self, Args&&... args) -> Result {
        return std::invoke_r<Result>(*static_cast<F*>(self), std::forward<Args>(args)...);
      },
      std::is_trivially_copyable_v<F> ? nullptr : &unique_function::move_small<F>,
      std::is_trivially_destructible_v<F> ? nullptr : &unique_function::destroy_small<F>};

  template <typename F>
  EXEUNT_NO_TSAN static F* large(void* self) noexcept {
    return *static_cast<F**>(self);
  }
  template <typename F>
  static constexpr ops large_ops{[](void* self, Args&&... args) -> Result {
                                   return std::invoke_r<Result>(*large<F>(self),
                                                                std::forward<Args>(args)...);
                                 },
                                 nullptr, [](void* self) noexcept { delete large<F>(self); }};

  EXEUNT_NO_TSAN void take(unique_function& other) noexcept {
    ops_ = std::exchange(other.ops_, nullptr);
    if (ops_ == nullptr) return;
    if (ops_->move != nullptr) {
      ops_->move(buffer_, other.buffer_);
    } else if constexpr (detail::function_buffer_is_used) {
      std::memcpy(buffer_, other.buffer_, sizeof buffer_);
    } else {
      ::new (static_cast<void*>(buffer_)) void*(*reinterpret_cast<void**>(other.buffer_));
    }
  }
  EXEUNT_NO_TSAN void reset() noexcept {
    const ops* const held = std::exchange(ops_, nullptr);
    if (held != nullptr && held->destroy != nullptr) held->destroy(buffer_);
  }

  const ops* ops_ = nullptr;
  alignas(std::max_align_t) std::byte buffer_[detail::function_buffer_bytes];
};

template <typename Signature>
class function_ref;

/// Refers to a callable for the time of a call; never keep one.
template <typename Result, typename... Args>
class function_ref<Result(Args...)> {
 public:
  template <typename F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, function_ref> &&
             std::is_invocable_r_v<Result, F&, Args...>)
  function_ref(F&& callable) noexcept
      : object_{const_cast<void*>(static_cast<const void*>(std::addressof(callable)))},
        call_{[](void* object, Args... args) -> Result {
          return std::invoke_r<Result>(*static_cast<std::remove_reference_t<F>*>(object),
                                       std::forward<Args>(args)...);
        }} {}

  Result operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  Result (*call_)(void*, Args...);
};

}  // namespace exeunt
