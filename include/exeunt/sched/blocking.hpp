// SPDX-License-Identifier: Apache-2.0
// Calls that block a thread, moved off the workers.

#pragma once

#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>

namespace exeunt {

namespace detail {
/// Runs `body` on a thread of the side pool and parks until it is done. Must not throw out.
EXEUNT_API void run_blocking(function_ref<void()> body);
/// Queues `job` on the side pool and returns at once.
EXEUNT_API void post_blocking(unique_function<void()> job);
}  // namespace detail

/// Runs `f` on a thread where blocking hurts nobody, and waits for it: for file I/O, getaddrinfo,
/// a library's own locks.
///
/// Returns: what f returns. Throws: what f throws.
/// Blocks:  the calling fiber until f is done; the workers go on. From a plain thread f is called
///          directly. The overload with a context is in context/blocking.hpp.
/// Cost:    two thread wake-ups, some 40 µs. At most 512 threads at a time; the rest queue.
template <typename F>
  requires std::is_invocable_v<F&>
std::invoke_result_t<F&> blocking(F&& f) {
  using value = std::invoke_result_t<F&>;
  std::exception_ptr failure;
  if constexpr (std::is_void_v<value>) {
    detail::run_blocking([&]() noexcept {
      try {
        f();
      } catch (...) {
        failure = std::current_exception();
      }
    });
    if (failure) std::rethrow_exception(failure);
  } else {
    std::optional<value> returned;
    detail::run_blocking([&]() noexcept {
      try {
        returned.emplace(f());
      } catch (...) {
        failure = std::current_exception();
      }
    });
    if (failure) std::rethrow_exception(failure);
    return std::move(*returned);
  }
}

}  // namespace exeunt
