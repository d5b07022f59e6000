// SPDX-License-Identifier: Apache-2.0
// What answers a request.

#pragma once

#include <concepts>
#include <type_traits>
#include <utility>

#include <exeunt/base/function.hpp>
#include <exeunt/base/result.hpp>

namespace exeunt::http {

class request;
class response;

/// Owns a callable with (request&, response&) that returns nothing or a result<>.
///
/// A failure is answered by its code: errc::malformed with 400, errc::limit_exceeded with 413,
/// errc::deadline_exceeded and errc::shutting_down with 503, anything else with 500, and an
/// exception with 500 as well. If the response has begun, the connection is cut instead.
///
/// Threads: one handler is called by many fibers at once, so the callable must allow that.
class handler {
 public:
  handler() noexcept = default;
  template <typename F>
    requires(!std::same_as<std::remove_cvref_t<F>, handler> &&
             std::is_invocable_v<std::decay_t<F>&, request&, response&>)
  handler(F&& callable) {
    using returned = std::invoke_result_t<std::decay_t<F>&, request&, response&>;
    static_assert(std::is_void_v<returned> || std::is_convertible_v<returned, result<>>,
                  "a handler returns nothing or a result<>");
    if constexpr (std::is_void_v<returned>) {
      call_ = [f = std::decay_t<F>(std::forward<F>(callable))](request& req,
                                                               response& res) mutable -> result<> {
        f(req, res);
        return {};
      };
    } else {
      call_ = std::forward<F>(callable);
    }
  }

  explicit operator bool() const noexcept { return static_cast<bool>(call_); }

  /// Asserts: not empty.
  result<> operator()(request& req, response& res) const { return call_(req, res); }

 private:
  mutable unique_function<result<>(request&, response&)> call_;
};

}  // namespace exeunt::http
