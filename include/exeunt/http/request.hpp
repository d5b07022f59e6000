// SPDX-License-Identifier: Apache-2.0
// A request as its handler sees it.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <exeunt/base/export.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/http1/parser.hpp>
#include <exeunt/net/address.hpp>
#include <exeunt/net/buffer.hpp>

namespace exeunt::detail {
class http_exchange;
}

namespace exeunt::http {

/// One header field: name and value are views.
using field = http1::field;

/// The request under way. All views it hands out are valid until the handler returns.
///
/// Threads: the handler's fiber; others may use a copy of context() only.
class EXEUNT_API request {
 public:
  explicit request(detail::http_exchange& of) noexcept : x_{&of} {}
  request(const request&) = delete;
  request& operator=(const request&) = delete;

  /// As sent: methods are case-sensitive.
  [[nodiscard]] std::string_view method() const noexcept;
  /// As sent: "/a%20b?q=1".
  [[nodiscard]] std::string_view target() const noexcept;
  /// The target's path as sent, not decoded; "*" for OPTIONS *, empty for CONNECT.
  [[nodiscard]] std::string_view path() const noexcept;
  /// What follows the question mark, as sent; empty if there is none.
  [[nodiscard]] std::string_view query() const noexcept;
  /// The authority of the target if it has one, else the value of Host.
  [[nodiscard]] std::string_view host() const noexcept;
  /// 0 for HTTP/1.0, 1 for HTTP/1.1.
  [[nodiscard]] int version_minor() const noexcept;

  /// The value of the first field of that name, compared without case.
  [[nodiscard]] std::optional<std::string_view> header(std::string_view name) const noexcept;
  [[nodiscard]] std::span<const field> headers() const noexcept;

  /// What Content-Length says; nothing for a chunked body, 0 for no body.
  [[nodiscard]] std::optional<std::uint64_t> content_length() const noexcept;

  /// Reads some of the body. The first call sends "100 Continue" if the client waits for that.
  ///
  /// Returns: the number of bytes; 0 at the body's end, or for an empty buffer.
  ///          errc::malformed if the framing breaks or the client ends before the body does,
  ///          errc::limit_exceeded beyond config::body_limit, errc::deadline_exceeded at
  ///          config::read_timeout, errc::closed when the connection was cut, or when the response
  ///          has begun and the client was never told to send. The same error again afterwards.
  /// Blocks:  until there is a byte, the end, or one of these.
  [[nodiscard]] result<std::size_t> read(net::buffer into);

  /// Reads the rest of the body.
  ///
  /// Returns: errc::limit_exceeded if it is longer than `limit` bytes; else as read().
  [[nodiscard]] result<std::string> read_all(std::size_t limit = static_cast<std::size_t>(-1));

  /// What the router matched for `{name}`, decoded; empty if there is no such name.
  [[nodiscard]] std::string_view path_value(std::string_view name) const noexcept;
  /// For routers. `value` is decoded already.
  void set_path_value(std::string_view name, std::string value);

  /// The first value of `name` in the query, decoded ("%xx", and '+' is a blank).
  [[nodiscard]] std::optional<std::string> query_value(std::string_view name) const;

  [[nodiscard]] const net::address& remote_address() const noexcept;
  [[nodiscard]] net::address local_address() const;

  /// Ends when the client goes away, when the server's stop has reached its bound
  /// (cause: errc::shutting_down), or when the handler returns. Has the values of the context that
  /// was given to serve().
  ///
  /// A client that ends its writing counts as gone; the response is still sent. Going is noticed
  /// once the body has been read to its end, and not behind further requests that wait unread.
  /// Cost: the first call makes the context and begins to watch the client; before it, nothing is
  ///       watched.
  [[nodiscard]] exeunt::context context();

 private:
  detail::http_exchange* x_;
};

/// Decodes "%xx"; with `plus_is_blank`, also '+'.
/// Returns: nothing if a '%' is not followed by two hex digits.
[[nodiscard]] EXEUNT_API std::optional<std::string> percent_decode(std::string_view text,
                                                                   bool plus_is_blank = false);

}  // namespace exeunt::http
