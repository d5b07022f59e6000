// SPDX-License-Identifier: Apache-2.0
// An incremental HTTP/1 request parser for users who bring their own I/O.
//
// It is given bytes and answers with events. It copies nothing: the method, the target and the
// fields are views into the bytes that held the complete head, body data are views into the input.
//
// A reading loop keeps the bytes of one connection in a buffer:
//
//     std::array<http1::field, 100> slots;
//     http1::request_parser parser{slots};
//     for (;;) {
//       const http1::step step = parser.parse(unread_bytes);
//       ...drop step.consumed bytes from the front of unread_bytes...
//       switch (step.what) {
//         case http1::event::head:      // parser.head() is valid as long as those bytes are
//         case http1::event::body:      // step.body
//         case http1::event::end:       // the next parse() begins the next request
//         case http1::event::need_more: // read more behind unread_bytes
//         case http1::event::error:     // answer step.error.status and close
//       }
//     }

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <exeunt/base/export.hpp>
#include <exeunt/http1/limits.hpp>

namespace exeunt::http1 {

/// One field line. Both are views; blanks around the value are left out.
struct field {
  std::string_view name;
  std::string_view value;
};

/// True if `a` and `b` are equal when ASCII letters are compared without case.
[[nodiscard]] EXEUNT_API bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept;

/// The forms of a request target (RFC 9112, 3.2).
enum class target_form : std::uint8_t {
  origin,     ///< "/path?query"
  absolute,   ///< "http://host/path?query"
  authority,  ///< "host:port", of CONNECT only
  asterisk,   ///< "*", of OPTIONS only
};

/// How the end of a body is found.
enum class body_framing : std::uint8_t { none, length, chunked };

/// What the head of a request says. All views are into the bytes that were given to parse(),
/// except the path "/" of an absolute target without one.
struct request_head {
  std::string_view method;   ///< as sent; methods are case-sensitive
  std::string_view target;   ///< as sent
  std::string_view path;     ///< of the target, not decoded; "*" or empty for the forms without one
  std::string_view query;    ///< of the target, without the question mark
  std::string_view host;     ///< the target's authority if it has one, else the value of Host
  std::string_view upgrade;  ///< the value of Upgrade if one was asked for, else empty
  std::span<const field> fields;
  std::uint64_t content_length = 0;  ///< 0 unless body is `length`
  std::uint32_t bytes = 0;           ///< the size of the head on the wire
  target_form form = target_form::origin;
  body_framing body = body_framing::none;
  std::uint8_t http_minor = 1;    ///< 0 or 1; a later HTTP/1 version is treated as 1
  bool has_query = false;         ///< tells "/?" from "/"
  bool keep_alive = true;         ///< false: this is the connection's last request
  bool expects_continue = false;  ///< the client may wait for 100 (Continue) before the body
  bool expects_other = false;     ///< some other expectation, which may be answered with 417

  /// The first field of that name, or null. Names are compared without case.
  [[nodiscard]] EXEUNT_API const field* find(std::string_view name) const noexcept;
};

/// Why a request is refused.
struct wire_error {
  int status = 0;           ///< 400, 413, 414, 431, 501 or 505
  std::string_view reason;  ///< a short text that quotes nothing of the request; never destroyed
  std::uint64_t where = 0;  ///< offset of the offending byte from the request's first byte
};

/// What parse() found.
enum class event : std::uint8_t {
  need_more,  ///< nothing yet
  head,       ///< the head is complete, see request_parser::head()
  body,       ///< some bytes of the body
  end,        ///< the message is complete, with body and trailer
  error,      ///< the request is refused, and with it the rest of the connection
};

struct step {
  event what = event::need_more;
  /// Bytes at the front of the input that are done with. Never reaches into the next request.
  std::size_t consumed = 0;
  std::span<const char> body;  ///< with `body`: a part of the input, not empty
  std::uint32_t trailers = 0;  ///< with `end`: how many trailer fields were read and dropped
  wire_error error;            ///< with `error`
};

/// Where in a message the parser stands, to tell what the end of the input means.
enum class phase : std::uint8_t {
  idle,    ///< before the first byte of a request: the end of the input is a clean end
  head,    ///< within a head
  body,    ///< after a head, before the end of its message
  failed,  ///< after an error
};

/// Reads the requests of one connection, one after the other.
///
/// Stricter than its substrate: line ends are CRLF, folded lines and blanks before a colon are
/// refused, and a message whose length could be read in two ways is refused. The verdict depends on
/// the bytes alone, never on how they were cut into calls.
///
/// Threads: none of its own; one user at a time.
/// Cost:    allocates nothing. The head is looked at once when it is complete; bytes of an
///          incomplete head are not scanned again.
class EXEUNT_API request_parser {
 public:
  /// `slots` hold the fields of the current head and must outlive the parser. Their number bounds
  /// the fields of a head, as `bounds.fields` does.
  explicit request_parser(std::span<field> slots, const limits& bounds = {}) noexcept;

  /// Looks at `input`, which begins with the first byte that is not consumed yet.
  ///
  /// Until a head is complete its bytes are not consumed: after `need_more`, call again with the
  /// same bytes and more behind them, at any address. `head` consumes the whole head, and from then
  /// on head() looks into the input of that call. Body bytes are consumed as they come.
  /// An empty input is allowed; after the head of a message without a body it yields `end`.
  ///
  /// Returns: one event. After `error` the same error again.
  /// Asserts: bytes of an incomplete head are given again.
  [[nodiscard]] step parse(std::span<const char> input) noexcept;

  /// The latest complete head; after an `error`, the method and target if they could be read.
  /// Valid from `head` until the bytes it looks into go, or until the next head is complete.
  [[nodiscard]] const request_head& head() const noexcept { return head_; }

  [[nodiscard]] phase where() const noexcept;

  /// The body bytes announced but not yet seen: what is left of Content-Length, or of the current
  /// chunk. 0 when no body is being read.
  [[nodiscard]] std::uint64_t body_remaining() const noexcept { return remaining_; }

 private:
  enum class state : std::uint8_t {
    head,
    fixed_body,
    chunk_size,
    chunk_blank,
    chunk_extension,
    chunk_size_lf,
    chunk_data,
    chunk_data_cr,
    chunk_data_lf,
    trailer_start,
    trailer_name,
    trailer_value,
    trailer_lf,
    final_lf,
    failed,
  };

  step parse_head(std::span<const char> input) noexcept;
  step parse_fixed(std::span<const char> input) noexcept;
  step parse_chunked(std::span<const char> input) noexcept;
  step end_of_message(std::size_t consumed) noexcept;
  step refuse(const wire_error& error) noexcept;

  // Each returns status 0 if nothing is wrong.
  wire_error scan_head(std::string_view bytes, std::size_t& head_bytes) noexcept;
  wire_error read_request_line(std::string_view line) noexcept;
  wire_error read_target(std::uint64_t where) noexcept;
  wire_error read_fields(std::string_view head) noexcept;
  wire_error explain(std::string_view head) noexcept;
  wire_error read_meaning(std::string_view head) noexcept;
  wire_error begin_chunk(std::uint64_t where) noexcept;
  void begin_chunk_line() noexcept;

  std::span<field> slots_;
  limits bounds_;
  request_head head_;
  wire_error error_;

  state state_ = state::head;
  std::uint8_t size_digits_ = 0;          // Hex digits of the current chunk's size so far.
  std::uint32_t scanned_ = 0;             // Bytes of the incomplete head that are known to be good.
  std::uint32_t line_start_ = 0;          // Where in the head the scanned line begins.
  std::uint32_t line_count_ = 0;          // Complete lines of the incomplete head.
  std::uint32_t request_line_bytes_ = 0;  // Of the request line, without its end.
  std::uint32_t skipped_ = 0;             // Bytes of empty lines before the request line.
  std::uint32_t chunk_line_bytes_ = 0;    // Of the current chunk line so far.
  std::uint32_t trailer_bytes_ = 0;
  std::uint32_t trailer_count_ = 0;
  std::uint64_t chunk_excess_ = 0;  // Framing bytes beyond what the data justify.
  std::uint64_t remaining_ = 0;     // Of the fixed body, or of the current chunk.
  std::uint64_t body_seen_ = 0;     // Bytes of a chunked body announced so far.
  std::uint64_t offset_ = 0;        // Bytes of this message consumed.
};

}  // namespace exeunt::http1
