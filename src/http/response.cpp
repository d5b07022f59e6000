// SPDX-License-Identifier: Apache-2.0
// What a handler can do with its response.

#include <exeunt/http/response.hpp>

#include <charconv>
#include <utility>

#include <exeunt/base/error.hpp>

#include "http/exchange.hpp"
#include "http1/serializer.hpp"

namespace exeunt::http {

namespace {

void check_field(std::string_view name, std::string_view value) {
  if (!http1::is_valid_field(name, value)) {
    throw panic_error{"http::response: a field that cannot be sent"};
  }
}

}  // namespace

response& response::status(int code) {
  if (code < 200 || code > 999) throw panic_error{"http::response: no status of a response"};
  if (!x_->begun()) x_->set_status(code);
  return *this;
}

int response::status() const noexcept { return x_->status(); }

response& response::header(std::string_view name, std::string_view value) {
  check_field(name, value);
  if (x_->begun()) return *this;
  if (http1::equal_ignoring_case(name, "content-length")) {
    std::uint64_t length = 0;
    const auto [end, outcome] = std::from_chars(value.data(), value.data() + value.size(), length);
    if (outcome != std::errc{} || end != value.data() + value.size()) {
      throw panic_error{"http::response: Content-Length is no number"};
    }
    return content_length(length);
  }
  if (http1::equal_ignoring_case(name, "connection")) {
    return http1::equal_ignoring_case(value, "close") ? close_connection() : *this;
  }
  if (http1::equal_ignoring_case(name, "transfer-encoding")) return *this;
  x_->set_field(name, value, true);
  return *this;
}

response& response::add_header(std::string_view name, std::string_view value) {
  if (http1::equal_ignoring_case(name, "content-length") ||
      http1::equal_ignoring_case(name, "connection") ||
      http1::equal_ignoring_case(name, "transfer-encoding")) {
    return header(name, value);
  }
  check_field(name, value);
  if (!x_->begun()) x_->set_field(name, value, false);
  return *this;
}

response& response::content_length(std::uint64_t bytes) {
  if (!x_->begun()) x_->set_content_length(bytes);
  return *this;
}

response& response::close_connection() {
  if (!x_->begun()) x_->set_close();
  return *this;
}

void response::body(std::string whole) { x_->set_body(std::move(whole)); }
void response::body_view(std::string_view whole) { x_->set_body_view(whole); }

result<> response::write(net::const_buffer some) { return x_->write(some.text()); }
result<> response::flush() { return x_->flush(); }
result<> response::inform(int code) {
  if (code < 100 || code > 199 || code == 101) {
    throw panic_error{"http::response: no interim status"};
  }
  return x_->inform(code);
}

void response::error(int code, std::string_view text) {
  if (code < 200 || code > 999) throw panic_error{"http::response: no status of a response"};
  x_->set_error(code, text);
}

void response::redirect(int code, std::string_view location) {
  status(code);
  header("Location", location);
}

bool response::begun() const noexcept { return x_->begun(); }

void response::default_type(std::string_view type) noexcept { x_->set_default_type(type); }
void response::append(std::string_view text) { x_->append(text); }

}  // namespace exeunt::http
