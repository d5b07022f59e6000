// SPDX-License-Identifier: Apache-2.0
// What an active connection has and an idle one has not: the buffer, the parser, the request and
// the response under way. Pooled by the server.

#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <exeunt/base/clock.hpp>
#include <exeunt/http/request.hpp>
#include <exeunt/http/response.hpp>
#include <exeunt/http/server.hpp>
#include <exeunt/http1/parser.hpp>
#include <exeunt/sched/cancel.hpp>

#include "http1/serializer.hpp"

namespace exeunt::detail {

class http_connection;
class http_core;

/// Threads: the connection's fiber.
class http_exchange {
 public:
  explicit http_exchange(http_core& core);

  /// How the connection goes on without a fiber.
  enum class next : std::uint8_t {
    nothing_came,  ///< as before: nothing was there to read, or only empty lines
    idle,          ///< between requests
    linger,        ///< the last response is out
    close,
  };
  /// Answers what has come, and what comes while that goes on.
  [[nodiscard]] next run(http_connection& connection, bool is_new);

  // ---- For request and response; what they promise is said there.
  [[nodiscard]] const http1::request_head& head() const noexcept { return parser_.head(); }
  [[nodiscard]] http_connection& connection() const noexcept { return *connection_; }
  result<std::size_t> read(net::buffer into);
  [[nodiscard]] context request_context();
  std::vector<std::pair<std::string, std::string>>& path_values() noexcept { return path_values_; }

  [[nodiscard]] bool begun() const noexcept { return begun_; }
  [[nodiscard]] int status() const noexcept { return status_; }
  void set_status(int code) noexcept { status_ = code; }
  void set_field(std::string_view name, std::string_view value, bool replace);
  void set_default_type(std::string_view type) noexcept { default_type_ = type; }
  void set_content_length(std::uint64_t bytes) noexcept { declared_ = bytes; }
  void set_close() noexcept { close_ = true; }
  void append(std::string_view text);
  void set_body(std::string&& whole) noexcept;
  void set_body_view(std::string_view whole) noexcept;
  result<> write(std::string_view some);
  result<> flush();
  result<> inform(int code);
  void set_error(int code, std::string_view text);

 private:
  enum class mode : std::uint8_t { undecided, whole, length, chunked, until_close, no_body };
  struct stored_field {
    std::uint32_t name_at, name_size, value_at, value_size;
  };

  // ---- Reading.
  [[nodiscard]] std::span<const char> unread() const noexcept {
    return {buffer_.get() + begin_, end_ - begin_};
  }
  void consume(std::size_t count) noexcept { begin_ += count; }
  void make_room() noexcept;
  [[nodiscard]] bool needs_to_move(std::size_t size) noexcept;
  enum class came : std::uint8_t { bytes, nothing, end };
  [[nodiscard]] came try_fill();
  [[nodiscard]] std::optional<next> read_more_of_head();
  result<std::size_t> fail_body(error why);
  [[nodiscard]] result<std::size_t> wait_for_body(net::buffer room);
  void end_body() noexcept;
  void end_body_if_read() noexcept;
  [[nodiscard]] bool settle_body();
  [[nodiscard]] bool discard_body();

  // ---- One request.
  [[nodiscard]] next handle();
  void reset_request();
  void call_handler();
  void answer_failure(const error& why);
  [[nodiscard]] next finish();
  [[nodiscard]] next refuse(int status, std::string_view reason);
  void record(std::uint64_t bytes);

  // ---- Writing.
  [[nodiscard]] bool decide_keep_alive();
  /// Sends the head, before these parts, with what they need as framing.
  result<> send_head(mode how, std::uint64_t length, std::span<const net::const_buffer> parts);
  result<> send_pieces(std::string_view more);
  result<> send(std::span<const net::const_buffer> parts);
  [[nodiscard]] std::string_view date(clock::time_point now);
  [[nodiscard]] bool is_head_request() const noexcept { return head().method == "HEAD"; }
  [[nodiscard]] bool has_no_body() const noexcept {
    return is_head_request() || status_ == 204 || status_ == 205 || status_ == 304;
  }

  http_core& core_;
  http_connection* connection_ = nullptr;

  // The buffer: consumed | unread [begin_, end_) | free. While a handler runs, the bytes before
  // body_base_ are those that the head's views look into.
  const std::unique_ptr<char[]> buffer_;
  const std::size_t capacity_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t body_base_ = 0;
  std::vector<http1::field> slots_;
  http1::request_parser parser_;

  // The request.
  std::vector<std::pair<std::string, std::string>> path_values_;
  clock::time_point head_began_ = no_deadline;  // When its first byte was seen, as far as known.
  clock::time_point started_{};
  std::optional<error> body_error_;
  int body_error_status_ = 0;
  bool body_ended_ = true;
  bool continued_ = false;     // 100 (Continue) was sent, or need not be.
  bool probe_ = false;         // Look for bytes before waiting: a watch may have seen them come.
  bool close_after_ = false;   // Whatever the response says.
  ref_ptr<cancel_node> node_;  // Null until the handler asks for its context.
  std::optional<context> context_;

  // The response.
  int status_ = 200;
  mode mode_ = mode::undecided;
  bool begun_ = false;
  bool close_ = false;      // Asked for by the handler.
  bool keep_alive_ = true;  // As the head said.
  std::optional<std::uint64_t> declared_;
  std::uint64_t body_bytes_ = 0;
  std::string_view default_type_;
  std::string field_text_;
  std::vector<stored_field> fields_;
  std::string body_;
  std::string_view body_view_;  // Instead of body_, if its data() is not null.
  std::optional<error> write_error_;
  std::vector<http1::field> wire_fields_;
  std::string long_head_;

  http1::date_text date_{};
  clock::time_point date_until_{};
};

}  // namespace exeunt::detail
