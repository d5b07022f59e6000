// SPDX-License-Identifier: Apache-2.0
// What a handler can ask of its request.
//
// Tests: tests/http/server_test.cpp, body_test.cpp, allocation_test.cpp.

#include <exeunt/http/request.hpp>

#include <algorithm>
#include <limits>
#include <utility>

#include "http/connection.hpp"
#include "http/exchange.hpp"

namespace exeunt::http {

namespace {

// Room for a body is made as it comes, doubling from this, whatever length was announced: memory
// is for those who send.
constexpr std::size_t first_step = std::size_t{16} * 1024;

int hex_value(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::optional<std::string> percent_decode(std::string_view text, bool plus_is_blank) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (text.size() - i < 3) return std::nullopt;
      const int high = hex_value(text[i + 1]);
      const int low = hex_value(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>(high * 16 + low);
      i += 2;
    } else if (c == '+' && plus_is_blank) {
      c = ' ';
    }
    decoded.push_back(c);
  }
  return decoded;
}

std::string_view request::method() const noexcept { return x_->head().method; }
std::string_view request::target() const noexcept { return x_->head().target; }
std::string_view request::path() const noexcept { return x_->head().path; }
std::string_view request::query() const noexcept { return x_->head().query; }
std::string_view request::host() const noexcept { return x_->head().host; }
int request::version_minor() const noexcept { return x_->head().http_minor; }

std::optional<std::string_view> request::header(std::string_view name) const noexcept {
  const field* const found = x_->head().find(name);
  if (found == nullptr) return std::nullopt;
  return found->value;
}

std::span<const field> request::headers() const noexcept { return x_->head().fields; }

std::optional<std::uint64_t> request::content_length() const noexcept {
  if (x_->head().body == http1::body_framing::chunked) return std::nullopt;
  return x_->head().content_length;
}

result<std::size_t> request::read(net::buffer into) { return x_->read(into); }

result<std::string> request::read_all(std::size_t limit) {
  const std::optional<std::uint64_t> known = content_length();
  if (known && *known > limit) return fail(errc::limit_exceeded, "body of the request");
  std::string body;
  std::size_t size = 0;
  while (true) {
    if (size == body.size()) {
      // One byte beyond a known length, so that the last read finds the end.
      const std::size_t most =
          known ? static_cast<std::size_t>(*known) + 1 : std::numeric_limits<std::size_t>::max();
      body.resize(std::min(size + std::max(size, first_step), std::max(most, size + 1)));
    }
    const auto count = read(net::buffer{body.data() + size, body.size() - size});
    if (!count) return fail(count.error());
    size += *count;
    if (size > limit) return fail(errc::limit_exceeded, "body of the request");
    if (*count == 0) break;
  }
  body.resize(size);
  return body;
}

std::string_view request::path_value(std::string_view name) const noexcept {
  for (const auto& [key, value] : x_->path_values()) {
    if (key == name) return value;
  }
  return {};
}

void request::set_path_value(std::string_view name, std::string value) {
  x_->path_values().emplace_back(name, std::move(value));
}

std::optional<std::string> request::query_value(std::string_view name) const {
  std::string_view rest = query();
  while (!rest.empty()) {
    const std::string_view pair = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
    const std::size_t equals = std::min(pair.find('='), pair.size());
    const auto key = percent_decode(pair.substr(0, equals), true);
    if (!key || *key != name) continue;
    if (equals == pair.size()) return std::string{};
    return percent_decode(pair.substr(equals + 1), true);
  }
  return std::nullopt;
}

const net::address& request::remote_address() const noexcept {
  return x_->connection().conn().remote_address();
}
net::address request::local_address() const { return x_->connection().conn().local_address(); }

exeunt::context request::context() { return x_->request_context(); }

}  // namespace exeunt::http
