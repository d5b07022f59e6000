// SPDX-License-Identifier: Apache-2.0
// Of one exchange: the response, from what the handler sets to what is sent.
// Invariants, locks and wake-ups: exchange.cpp.
// Tests: tests/http/response_test.cpp, server_test.cpp.

#include "http/exchange.hpp"

#include <array>

#include <exeunt/base/assert.hpp>

#include "http/connection.hpp"
#include "http/core.hpp"
#include "net/socket.hpp"

namespace exeunt::detail {

using net::const_buffer;

namespace {

// What a response gathers before it is streamed.
constexpr std::size_t gather_bytes = std::size_t{16} * 1024;
constexpr std::size_t short_head_bytes = 1024;

}  // namespace

void http_exchange::set_field(std::string_view name, std::string_view value, bool replace) {
  const auto text_of = [this](std::uint32_t at, std::uint32_t size) {
    return std::string_view{field_text_}.substr(at, size);
  };
  if (replace) {
    std::erase_if(fields_, [&](const stored_field& f) {
      return http1::equal_ignoring_case(text_of(f.name_at, f.name_size), name);
    });
  }
  const auto name_at = static_cast<std::uint32_t>(field_text_.size());
  field_text_.append(name).append(value);
  fields_.push_back({.name_at = name_at,
                     .name_size = static_cast<std::uint32_t>(name.size()),
                     .value_at = static_cast<std::uint32_t>(name_at + name.size()),
                     .value_size = static_cast<std::uint32_t>(value.size())});
}

void http_exchange::append(std::string_view text) {
  if (begun_) {
    static_cast<void>(write(text));
    return;
  }
  if (body_view_.data() != nullptr) {
    body_.assign(body_view_);
    body_view_ = {};
  }
  body_.append(text);
}

void http_exchange::set_body(std::string&& whole) noexcept {
  if (begun_) return;
  body_view_ = {};
  body_ = std::move(whole);
}

void http_exchange::set_body_view(std::string_view whole) noexcept {
  if (begun_) return;
  body_.clear();
  body_view_ = whole.data() != nullptr ? whole : std::string_view{""};
}

void http_exchange::set_error(int code, std::string_view text) {
  if (begun_) return;
  status_ = code;
  fields_.clear();
  field_text_.clear();
  declared_.reset();
  default_type_ = "text/plain; charset=utf-8";
  set_field("X-Content-Type-Options", "nosniff", true);
  body_view_ = {};
  body_.assign(text.empty() ? http1::status_phrase(code) : text);
  body_.push_back('\n');
}

result<> http_exchange::write(std::string_view some) {
  if (write_error_) return fail(*write_error_);
  if (has_no_body() && begun_) {
    body_bytes_ += some.size();
    return {};
  }
  if (body_view_.data() != nullptr) append({});
  const std::uint64_t total = body_bytes_ + body_.size() + some.size();
  if (declared_ && !has_no_body() && total > *declared_) {
    return fail(errc::limit_exceeded, "more than the announced length of the response");
  }
  if (body_.size() + some.size() <= gather_bytes) {
    body_.append(some);
    return {};
  }
  return send_pieces(some);
}

result<> http_exchange::flush() {
  if (write_error_) return fail(*write_error_);
  if (body_view_.data() != nullptr) append({});
  return send_pieces({});
}

// Sends what was gathered and `more`, as one piece, behind the head if that is still to be sent.
result<> http_exchange::send_pieces(std::string_view more) {
  if (write_error_) return fail(*write_error_);
  const std::size_t size = body_.size() + more.size();
  if (!begun_) {
    const mode how = has_no_body()            ? mode::no_body
                     : declared_              ? mode::length
                     : head().http_minor == 0 ? mode::until_close
                                              : mode::chunked;
    mode_ = how;
  }
  if (declared_ && !has_no_body() && body_bytes_ + size > *declared_) {
    // The client would take the rest for the next response.
    if (!begun_) mode_ = mode::undecided;
    close_after_ = true;
    return fail(errc::limit_exceeded, "more than the announced length of the response");
  }
  if (mode_ == mode::no_body) {
    body_bytes_ += size;
    body_.clear();
    return begun_ ? result<>{} : send_head(mode::no_body, 0, {});
  }
  char line[http1::chunk_line_bytes];
  std::array<const_buffer, 4> parts;
  std::size_t count = 0;
  if (size > 0) {
    const bool chunked = mode_ == mode::chunked;
    if (chunked) parts[count++] = {line, http1::write_chunk_line(line, size)};
    if (!body_.empty()) parts[count++] = body_;
    if (!more.empty()) parts[count++] = more;
    if (chunked) parts[count++] = http1::chunk_end;
  }
  body_bytes_ += size;
  const std::span<const const_buffer> pieces{parts.data(), count};
  const result<> sent = begun_ ? (count > 0 ? send(pieces) : result<>{})
                               : send_head(mode_, declared_.value_or(0), pieces);
  body_.clear();
  return sent;
}

// Whether the connection outlives this response, decided when its head is written.
bool http_exchange::decide_keep_alive() {
  if (!head().keep_alive || close_ || close_after_ || mode_ == mode::until_close) return false;
  if (body_error_) return false;
  // Of a body that is not told to come, or not waited for, nobody will see the end.
  if (!body_ended_ && (!continued_ || core_.options.linger <= clock::duration::zero()))
    return false;
  if (!core_.closing()) return true;
  // What the client has already asked for is answered first; there is time for that.
  return body_ended_ && begin_ != end_ && !core_.drained();
}

result<> http_exchange::send_head(mode how, std::uint64_t length,
                                  std::span<const const_buffer> parts) {
  mode_ = how;
  keep_alive_ = decide_keep_alive();
  begun_ = true;

  wire_fields_.clear();
  bool has_type = false;
  for (const stored_field& f : fields_) {
    const std::string_view text = field_text_;
    const http1::field field{text.substr(f.name_at, f.name_size),
                             text.substr(f.value_at, f.value_size)};
    has_type = has_type || http1::equal_ignoring_case(field.name, "content-type");
    wire_fields_.push_back(field);
  }
  const bool typed = status_ != 204 && status_ != 205 && status_ != 304;
  if (!has_type && typed && !default_type_.empty()) {
    wire_fields_.push_back({"Content-Type", default_type_});
  }
  http1::response_head wire{.status = status_, .fields = wire_fields_, .date = date(started_)};
  if (!keep_alive_) {
    const bool expected = head().http_minor == 0 && !head().keep_alive;
    wire.connection = expected ? http1::connection_option::unsaid : http1::connection_option::close;
  } else if (head().http_minor == 0) {
    wire.connection = http1::connection_option::keep_alive;
  }
  switch (how) {
    case mode::whole:
    case mode::length:
      wire.body = http1::body_framing::length;
      wire.content_length = length;
      break;
    case mode::chunked:
      wire.body = http1::body_framing::chunked;
      break;
    case mode::no_body:
      // Of 204 and 304 everybody knows that nothing follows the head; of 205 it has to be said.
      if (status_ == 205) wire.body = http1::body_framing::length;
      break;
    case mode::until_close:
    case mode::undecided:
      break;
  }

  char short_head[short_head_bytes];
  std::span<char> room{short_head};
  if (const std::size_t most = http1::head_bytes_max(wire); most > room.size()) {
    long_head_.resize(most);
    room = long_head_;
  }
  const auto size = http1::write_head(room, wire);
  EXEUNT_ASSERT(size.has_value(), "fields are checked when they are set");
  std::array<const_buffer, 6> all;
  std::size_t count = 0;
  all[count++] = {room.data(), *size};
  for (const const_buffer& part : parts) {
    if (!part.empty()) all[count++] = part;
  }
  return send({all.data(), count});
}

result<> http_exchange::inform(int code) {
  if (begun_ || head().http_minor == 0) return fail(errc::closed, "no interim response now");
  wire_fields_.clear();
  for (const stored_field& f : fields_) {
    const std::string_view text = field_text_;
    wire_fields_.push_back(
        {text.substr(f.name_at, f.name_size), text.substr(f.value_at, f.value_size)});
  }
  const http1::response_head wire{.status = code, .fields = wire_fields_};
  std::string bytes(http1::head_bytes_max(wire), '\0');
  const auto size = http1::write_head(bytes, wire);
  if (!size) return fail(errc::malformed, "interim response");
  const const_buffer part{bytes.data(), *size};
  return send({&part, 1});
}

result<> http_exchange::send(std::span<const const_buffer> parts) {
  if (write_error_) return fail(*write_error_);
  auto sent = connection_->conn().write(parts);
  if (!sent) {
    write_error_ = sent.error();
    close_after_ = true;
  }
  return sent;
}

std::string_view http_exchange::date(clock::time_point now) {
  if (now >= date_until_) {
    const clock::duration wall = unix_time();
    const auto seconds = std::chrono::floor<std::chrono::seconds>(wall);
    date_ = http1::format_date(seconds.count());
    date_until_ = now + (seconds + std::chrono::seconds{1} - wall);
  }
  return {date_.data(), date_.size()};
}
}  // namespace exeunt::detail
