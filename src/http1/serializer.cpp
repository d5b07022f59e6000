// SPDX-License-Identifier: Apache-2.0
// Response heads and framing as bytes. Stateless.

#include "http1/serializer.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <iterator>

#include <exeunt/base/assert.hpp>

#include "http1/chars.hpp"

namespace exeunt::http1 {

namespace {

struct status_name {
  int status;
  std::string_view phrase;
};

// Sorted by status.
constexpr status_name status_names[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {102, "Processing"},
    {103, "Early Hints"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {207, "Multi-Status"},
    {208, "Already Reported"},
    {226, "IM Used"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {305, "Use Proxy"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {407, "Proxy Authentication Required"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {418, "I'm a teapot"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {423, "Locked"},
    {424, "Failed Dependency"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {506, "Variant Also Negotiates"},
    {507, "Insufficient Storage"},
    {508, "Loop Detected"},
    {511, "Network Authentication Required"},
};
static_assert(std::ranges::is_sorted(status_names, {}, &status_name::status));

// Appends to a caller's buffer; once something did not fit, nothing is appended any more.
class writer {
 public:
  explicit writer(std::span<char> out) noexcept : out_{out} {}

  void add(std::string_view text) noexcept {
    if (text.empty()) return;
    if (text.size() > out_.size() - used_ || overflown_) {
      overflown_ = true;
      return;
    }
    std::memcpy(out_.data() + used_, text.data(), text.size());
    used_ += text.size();
  }

  void add_number(std::uint64_t value) noexcept {
    char digits[20];
    const auto [end, error] = std::to_chars(digits, digits + sizeof digits, value);
    add({digits, static_cast<std::size_t>(end - digits)});
  }

  [[nodiscard]] std::expected<std::size_t, write_error> finish() const noexcept {
    if (overflown_) return std::unexpected{write_error::no_room};
    return used_;
  }

 private:
  std::span<char> out_;
  std::size_t used_ = 0;
  bool overflown_ = false;
};

bool is_text(std::string_view text) noexcept {
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); (at = find_control(at, end)) != end; ++at) {
    if (*at != '\t') return false;
  }
  return true;
}

// These decide where the message ends and whether the connection lives: not the handler's to say.
bool is_reserved(std::string_view name) noexcept {
  switch (name.size()) {
    case 10:
      return equals_lower(name, "connection");
    case 14:
      return equals_lower(name, "content-length");
    case 17:
      return equals_lower(name, "transfer-encoding");
    default:
      return false;
  }
}

std::string_view connection_line(connection_option option) noexcept {
  switch (option) {
    case connection_option::unsaid:
      return {};
    case connection_option::close:
      return "Connection: close\r\n";
    case connection_option::keep_alive:
      return "Connection: keep-alive\r\n";
    case connection_option::upgrade:
      return "Connection: upgrade\r\n";
  }
  EXEUNT_UNREACHABLE("not a connection option");
}

void put_digits(char* at, int count, std::int64_t value) noexcept {
  for (int i = count - 1; i >= 0; --i) {
    at[i] = static_cast<char>('0' + value % 10);
    value /= 10;
  }
}

}  // namespace

std::string_view status_phrase(int status) noexcept {
  const auto* const found =
      std::ranges::lower_bound(status_names, status, {}, &status_name::status);
  if (found != std::end(status_names) && found->status == status) return found->phrase;
  constexpr std::string_view classes[] = {"Informational", "Successful", "Redirection",
                                          "Client Error", "Server Error"};
  return status >= 100 && status < 600 ? classes[status / 100 - 1] : "Unknown";
}

date_text format_date(std::int64_t unix_seconds) noexcept {
  constexpr std::int64_t first = -62'167'219'200;  // Sat, 01 Jan 0000 00:00:00 GMT
  constexpr std::int64_t last = 253'402'300'799;   // Fri, 31 Dec 9999 23:59:59 GMT
  constexpr std::int64_t day_seconds = 86'400;
  const std::int64_t since_zero = std::clamp(unix_seconds, first, last) - first;
  const std::int64_t second = since_zero % day_seconds;
  // Years that begin in March have the leap day at their end; 0000-03-01 is day 60 of year 0. One
  // era of 400 years is added first, so that January and February of year 0 are not before zero.
  constexpr std::int64_t era_days = 146'097;
  const std::int64_t day = since_zero / day_seconds;
  const std::int64_t march_day = day + era_days - 60;
  const std::int64_t era = march_day / era_days;
  const std::int64_t in_era = march_day % era_days;
  const std::int64_t year_of_era =
      (in_era - in_era / 1'460 + in_era / 36'524 - in_era / 146'096) / 365;
  const std::int64_t day_of_year =
      in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  // March to July, and August to December, have 153 days each: 31, 30, 31, 30, 31.
  const std::int64_t march_month = (5 * day_of_year + 2) / 153;
  const std::int64_t month_day = day_of_year - (153 * march_month + 2) / 5 + 1;
  const std::int64_t month = march_month < 10 ? march_month + 2 : march_month - 10;
  const std::int64_t year = (era - 1) * 400 + year_of_era + (month < 2 ? 1 : 0);

  date_text text;
  std::memcpy(text.data(), "Ddd, dd Mmm yyyy hh:mm:ss GMT", date_bytes);
  // Day 0 was a Saturday.
  std::memcpy(text.data(), &"SatSunMonTueWedThuFri"[3 * (day % 7)], 3);
  put_digits(&text[5], 2, month_day);
  std::memcpy(&text[8], &"JanFebMarAprMayJunJulAugSepOctNovDec"[3 * month], 3);
  put_digits(&text[12], 4, year);
  put_digits(&text[17], 2, second / 3'600);
  put_digits(&text[20], 2, second / 60 % 60);
  put_digits(&text[23], 2, second % 60);
  return text;
}

bool is_valid_field(std::string_view name, std::string_view value) noexcept {
  return is_token(name) && is_text(value);
}

std::size_t head_bytes_max(const response_head& head) noexcept {
  // Status line without its phrase, Date, Connection, framing and the empty line, generously.
  std::size_t bytes = 192 + std::max<std::size_t>(head.phrase.size(), 48);
  for (const field& f : head.fields) bytes += f.name.size() + f.value.size() + 4;
  return bytes;
}

std::expected<std::size_t, write_error> write_head(std::span<char> out,
                                                   const response_head& head) noexcept {
  if (head.status < 100 || head.status > 999) return std::unexpected{write_error::bad_status};
  if (!is_text(head.phrase)) return std::unexpected{write_error::bad_field};
  writer w{out};
  w.add("HTTP/1.1 ");
  w.add_number(static_cast<std::uint64_t>(head.status));
  w.add(" ");
  w.add(head.phrase.empty() ? status_phrase(head.status) : head.phrase);
  w.add("\r\n");

  bool has_date = head.date.empty();
  for (const field& f : head.fields) {
    if (!is_valid_field(f.name, f.value)) return std::unexpected{write_error::bad_field};
    if (is_reserved(f.name)) return std::unexpected{write_error::reserved};
    if (equals_lower(f.name, "date")) has_date = true;
    w.add(f.name);
    w.add(": ");
    w.add(f.value);
    w.add("\r\n");
  }
  if (!has_date) {
    w.add("Date: ");
    w.add(head.date);
    w.add("\r\n");
  }
  w.add(connection_line(head.connection));

  const bool no_framing = head.status < 200 || head.status == 204;
  if (head.body == body_framing::length && !no_framing) {
    w.add("Content-Length: ");
    w.add_number(head.content_length);
    w.add("\r\n");
  } else if (head.body == body_framing::chunked && !no_framing && head.status != 304) {
    w.add("Transfer-Encoding: chunked\r\n");
  }
  w.add("\r\n");
  return w.finish();
}

std::size_t write_chunk_line(std::span<char, chunk_line_bytes> out, std::uint64_t size) noexcept {
  EXEUNT_ASSERT(size > 0, "an empty chunk would end the body");
  const auto [end, error] = std::to_chars(out.data(), out.data() + 16, size, 16);
  end[0] = '\r';
  end[1] = '\n';
  return static_cast<std::size_t>(end - out.data()) + 2;
}

std::expected<std::size_t, write_error> write_error_response(std::span<char> out, int status,
                                                             std::string_view reason,
                                                             std::string_view date) noexcept {
  if (!is_text(reason)) return std::unexpected{write_error::bad_field};
  const std::string_view phrase = status_phrase(status);
  const std::size_t separator_bytes = reason.empty() ? 0 : 2;
  constexpr field type{"Content-Type", "text/plain; charset=utf-8"};
  const response_head head{
      .status = status,
      .fields = {&type, 1},
      .date = date,
      .connection = connection_option::close,
      .body = body_framing::length,
      .content_length = 4 + phrase.size() + separator_bytes + reason.size() + 1,
  };
  const auto head_bytes = write_head(out, head);
  if (!head_bytes) return head_bytes;
  writer w{out.subspan(*head_bytes)};
  w.add_number(static_cast<std::uint64_t>(status));
  w.add(" ");
  w.add(phrase);
  if (!reason.empty()) w.add(": ");
  w.add(reason);
  w.add("\n");
  const auto body_bytes = w.finish();
  if (!body_bytes) return body_bytes;
  return *head_bytes + *body_bytes;
}

}  // namespace exeunt::http1
