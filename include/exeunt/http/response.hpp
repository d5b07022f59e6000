// SPDX-License-Identifier: Apache-2.0
// The response that a handler writes.

#pragma once

#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include <exeunt/base/export.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/net/buffer.hpp>

namespace exeunt::detail {
class http_exchange;
}

namespace exeunt::http {

/// Collects status, fields and body, and sends them when the handler has returned: head and body
/// in one packet, with Content-Length. A response that outgrows its buffer of 16 KiB by write(), or
/// that is flushed, is streamed: chunked for HTTP/1.1, up to the end of the connection for 1.0,
/// unchanged if content_length() was given.
///
/// A response to HEAD has the head that GET would have, as far as it is known, and no body; one
/// with status 204, 205 or 304 has none either. What is written then is counted and dropped.
///
/// Threads: the handler's fiber.
class EXEUNT_API response {
 public:
  explicit response(detail::http_exchange& of) noexcept : x_{&of} {}
  response(const response&) = delete;
  response& operator=(const response&) = delete;

  /// 200 unless set. No effect once the head has been sent.
  /// Throws: panic_error if it is not within 200 to 999.
  response& status(int code);
  [[nodiscard]] int status() const noexcept;

  /// Sets a field, replacing all of that name. Content-Length, and Connection with the value
  /// "close", are as content_length() and close_connection(); Transfer-Encoding and other values
  /// of Connection are the server's to decide, and ignored. No effect once the head has been sent.
  /// Throws: panic_error if name or value cannot be sent (control characters, no token).
  response& header(std::string_view name, std::string_view value);
  /// Adds one more field of that name.
  response& add_header(std::string_view name, std::string_view value);

  /// Says how long the streamed body will be. Writing more fails; writing less cuts the
  /// connection.
  response& content_length(std::uint64_t bytes);
  /// Makes this the connection's last response.
  response& close_connection();

  /// Appends text, and numbers in decimal, to the body; text/plain; charset=utf-8 unless
  /// Content-Type is set.
  template <typename... Parts>
  void text(const Parts&... parts) {
    default_type("text/plain; charset=utf-8");
    (append_part(parts), ...);
  }
  /// Appends to the body; application/json unless Content-Type is set.
  void json(std::string_view document) {
    default_type("application/json");
    append(document);
  }
  /// Makes this the whole body, without copying it. No Content-Type is added.
  void body(std::string whole);
  /// As body(), and never copied: the bytes must live until the response has been sent, such as
  /// those of a constant.
  void body_view(std::string_view whole);

  /// Sends some of the body; small pieces are gathered up to 16 KiB.
  ///
  /// Returns: errc::limit_exceeded beyond content_length(); else as net::conn::write().
  /// Blocks:  while the client is slow, up to config::write_timeout.
  result<> write(net::const_buffer some);
  /// Sends what was gathered, and the head.
  /// Returns: errc::limit_exceeded if more was gathered than content_length() leaves: nothing of it
  ///          is sent, and this is the connection's last response. Else as net::conn::write().
  /// Blocks:  as write().
  result<> flush();

  /// Sends an interim response, such as 103 (Early Hints), with the fields set so far.
  /// Returns: errc::closed for HTTP/1.0 clients, or once the head has been sent.
  result<> inform(int code);

  /// Drops body and fields and answers with `code` and `text` as a line of plain text. No effect
  /// once the head has been sent.
  /// Throws: panic_error if `code` is not within 200 to 999.
  void error(int code, std::string_view text = {});
  /// Answers with a redirection. No effect once the head has been sent.
  /// Throws: panic_error if `code` is not within 200 to 999, or if `location` cannot be the value
  ///         of a field (control characters).
  void redirect(int code, std::string_view location);

  /// Whether the head has been sent: from then on neither status nor fields can change.
  [[nodiscard]] bool begun() const noexcept;

 private:
  void default_type(std::string_view type) noexcept;
  void append(std::string_view text);

  template <typename T>
  void append_part(const T& part) {
    if constexpr (std::same_as<T, bool>) {
      append(part ? "true" : "false");
    } else if constexpr (std::same_as<T, char>) {
      append({&part, 1});
    } else if constexpr (std::is_arithmetic_v<T>) {
      char digits[64];  // The longest double in its shortest form has 24 characters.
      const auto end = std::to_chars(digits, digits + sizeof digits, part).ptr;
      append({digits, static_cast<std::size_t>(end - digits)});
    } else {
      append(std::string_view{part});
    }
  }

  detail::http_exchange* x_;
};

}  // namespace exeunt::http
