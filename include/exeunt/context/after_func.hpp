// SPDX-License-Identifier: Apache-2.0
// Something to do when a context ends.

#pragma once

#include <source_location>
#include <type_traits>
#include <utility>

#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/context/context.hpp>

namespace exeunt {

namespace detail {
class after_func_entry;
struct after_func_release {
  EXEUNT_API static void release(after_func_entry* entry) noexcept;
};
}  // namespace detail

/// One registration by after_func(). Dropping the handle leaves the registration alone.
///
/// Threads: stop() may be called concurrently.
class EXEUNT_API after_func_handle {
 public:
  after_func_handle(after_func_handle&& other) noexcept
      : entry_{std::exchange(other.entry_, nullptr)} {}
  after_func_handle& operator=(after_func_handle&& other) noexcept {
    std::swap(entry_, other.entry_);
    return *this;
  }
  ~after_func_handle() {
    if (entry_ != nullptr) detail::after_func_release::release(entry_);
  }

  /// Takes the registration back, and frees the function. Does not wait for one that runs.
  /// Returns: true if this call prevented the run. False: it has started or is about to, or a call
  ///          before this one prevented it.
  bool stop() noexcept;

 private:
  friend EXEUNT_API after_func_handle after_func(const context& ctx, unique_function<void()> f,
                                                 std::source_location where);
  explicit after_func_handle(detail::after_func_entry* entry) noexcept : entry_{entry} {}

  detail::after_func_entry* entry_;
};

/// Runs `f` in a fiber of its own once `ctx` has ended; at once if it has.
///
/// The fiber is as one that the caller starts by go(): in the same runtime, and with its panic
/// handler. If the caller is a plain thread, or that runtime has stopped by then, it is as one
/// started by whoever ends the context.
/// Throws:   std::bad_alloc.
/// Ordering: what came before the cancel is visible to f.
EXEUNT_API after_func_handle
after_func(const context& ctx, unique_function<void()> f,
           std::source_location where = std::source_location::current());
/// It would end in the same statement, and f run at once.
template <typename CancelFunc>
void after_func(cancelable_context<CancelFunc>&& ctx, unique_function<void()> f) = delete;

}  // namespace exeunt
