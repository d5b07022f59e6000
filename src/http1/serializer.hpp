// SPDX-License-Identifier: Apache-2.0
// Writes responses: heads, chunk framing, interim and error responses, into a caller's buffer.
//
// It allocates nothing and reads no clock. What a handler supplied is checked here, at the last
// place before the wire, so that no field can end its line and begin another.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

#include <exeunt/base/export.hpp>
#include <exeunt/http1/parser.hpp>

namespace exeunt::http1 {

/// "Sun, 06 Nov 1994 08:49:37 GMT"
inline constexpr std::size_t date_bytes = 29;
using date_text = std::array<char, date_bytes>;

/// The IMF-fixdate of a time, whatever the locale. Years outside 0 to 9999 are clamped.
[[nodiscard]] EXEUNT_API date_text format_date(std::int64_t unix_seconds) noexcept;

/// The usual phrase of a status, "Not Found"; of an unknown one, the phrase of its class.
[[nodiscard]] EXEUNT_API std::string_view status_phrase(int status) noexcept;

/// What the head says about the connection.
enum class connection_option : std::uint8_t {
  unsaid,      ///< no Connection field: HTTP/1.1 keeps the connection
  close,       ///< "Connection: close"
  keep_alive,  ///< "Connection: keep-alive", for HTTP/1.0 clients that asked
  upgrade,     ///< "Connection: upgrade", with status 101
};

/// A response before its body. Views only.
struct response_head {
  int status = 200;
  std::string_view phrase = {};  ///< empty: the usual one
  std::span<const field> fields = {};
  std::string_view date = {};  ///< date_bytes long, or empty for none; a field Date overrides it
  connection_option connection = connection_option::unsaid;
  /// Left out where the status forbids it: 1xx and 204 have no framing, 304 no chunks.
  body_framing body = body_framing::none;
  std::uint64_t content_length = 0;
};

/// Why nothing was written.
enum class write_error : std::uint8_t {
  no_room = 1,  ///< the buffer is too small; see head_bytes_max()
  bad_status,   ///< not 100 to 999
  bad_field,  ///< a name is no token, or a value or the phrase holds CR, LF, NUL or another control
  reserved,   ///< Connection, Content-Length or Transfer-Encoding among the fields
};

/// A size that write_head() never exceeds for this head.
[[nodiscard]] EXEUNT_API std::size_t head_bytes_max(const response_head& head) noexcept;

/// Writes status line, fields and the empty line to the front of `out`.
///
/// Returns: the bytes written. On failure the contents of `out` are unspecified.
[[nodiscard]] EXEUNT_API std::expected<std::size_t, write_error> write_head(
    std::span<char> out, const response_head& head) noexcept;

/// True if `name` and `value` can be sent as a field.
[[nodiscard]] EXEUNT_API bool is_valid_field(std::string_view name,
                                             std::string_view value) noexcept;

/// The line before a chunk's data: at most 16 digits and CRLF.
inline constexpr std::size_t chunk_line_bytes = 18;
/// Behind a chunk's data.
inline constexpr std::string_view chunk_end = "\r\n";
/// Behind the last chunk: the end of the body, without trailers.
inline constexpr std::string_view last_chunk = "0\r\n\r\n";
inline constexpr std::string_view continue_100 = "HTTP/1.1 100 Continue\r\n\r\n";

/// Writes the chunk line of `size` bytes to the front of `out`.
///
/// Returns: the bytes written.
/// Asserts: size > 0, since an empty chunk would end the body.
EXEUNT_API std::size_t write_chunk_line(std::span<char, chunk_line_bytes> out,
                                        std::uint64_t size) noexcept;

/// Enough for write_error_response() with reasons of up to 128 bytes.
inline constexpr std::size_t error_response_bytes = 512;

/// Writes a whole plain-text response that closes the connection: "400 Bad Request: no Host\n".
///
/// Returns: the bytes written, or no_room, bad_status or bad_field.
[[nodiscard]] EXEUNT_API std::expected<std::size_t, write_error> write_error_response(
    std::span<char> out, int status, std::string_view reason, std::string_view date) noexcept;

}  // namespace exeunt::http1
