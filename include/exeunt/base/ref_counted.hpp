// SPDX-License-Identifier: Apache-2.0
// Shared ownership by a count inside the object: one word a handle, no control block.

#pragma once

#include <cstdint>
#include <utility>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/race.hpp>

namespace exeunt::detail {

/// The count. A derived class calls drop() and frees itself when that says so.
class ref_counted {
 public:
  EXEUNT_NO_TSAN void add_ref() const noexcept {
    // order: relaxed; whoever copies a handle holds one already.
    count_.fetch_add(1, memory_order_relaxed);
  }

  /// Adds a reference unless the last one is gone: for weak links, under the lock that the freeing
  /// side takes before the memory goes.
  EXEUNT_NO_TSAN [[nodiscard]] bool try_add_ref() const noexcept {
    // order: relaxed, as in add_ref(); the link's lock orders the rest.
    std::uint32_t seen = count_.load(memory_order_relaxed);
    while (seen != 0) {
      if (count_.compare_exchange_weak(seen, seen + 1, memory_order_relaxed)) return true;
    }
    return false;
  }

  /// Returns: true for the last owner, who then frees the object.
  EXEUNT_NO_TSAN [[nodiscard]] bool drop() const noexcept {
    race_release(&count_);
    // order: release publishes this owner's writes to the last one, which acquires below.
    if (count_.fetch_sub(1, memory_order_acq_rel) != 1) return false;
    race_acquire(&count_);
    return true;
  }

  EXEUNT_NO_TSAN std::uint32_t use_count() const noexcept {
    return count_.load(memory_order_relaxed);  // order: relaxed; a snapshot for reports and tests.
  }

 protected:
  ref_counted() noexcept = default;
  ~ref_counted() = default;

 private:
  mutable atomic<std::uint32_t> count_{1};
};

/// A handle to a T that has add_ref() and release(). Null is allowed.
template <typename T>
class ref_ptr {
 public:
  constexpr ref_ptr() noexcept = default;
  constexpr ref_ptr(std::nullptr_t) noexcept {}
  /// Takes over one reference that the caller owns.
  static ref_ptr adopt(T* object) noexcept {
    ref_ptr handle;
    handle.object_ = object;
    return handle;
  }
  /// Adds a reference.
  static ref_ptr share(T* object) noexcept {
    if (object != nullptr) object->add_ref();
    return adopt(object);
  }
  ref_ptr(const ref_ptr& other) noexcept : object_{other.object_} {
    if (object_ != nullptr) object_->add_ref();
  }
  ref_ptr(ref_ptr&& other) noexcept : object_{std::exchange(other.object_, nullptr)} {}
  ref_ptr& operator=(ref_ptr other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~ref_ptr() {
    if (object_ != nullptr) object_->release();
  }

  T* get() const noexcept { return object_; }
  T* operator->() const noexcept { return object_; }
  T& operator*() const noexcept { return *object_; }
  explicit operator bool() const noexcept { return object_ != nullptr; }
  friend bool operator==(const ref_ptr& a, const ref_ptr& b) noexcept = default;

  /// Gives the reference up to the caller.
  [[nodiscard]] T* detach() noexcept { return std::exchange(object_, nullptr); }

 private:
  T* object_ = nullptr;
};

}  // namespace exeunt::detail
