// SPDX-License-Identifier: Apache-2.0
// Response heads, chunk lines, error responses and dates, byte by byte.

#include "http1/serializer.hpp"

#include <gtest/gtest.h>

#include <array>
#include <ctime>
#include <string>

namespace exeunt::http1 {
namespace {

constexpr std::string_view a_date = "Sun, 06 Nov 1994 08:49:37 GMT";

std::string written(const response_head& head) {
  std::string out(head_bytes_max(head), '?');
  const auto size = write_head(out, head);
  if (!size) return "error " + std::to_string(static_cast<int>(size.error()));
  out.resize(*size);
  return out;
}

std::string error_of(write_error error) {
  return "error " + std::to_string(static_cast<int>(error));
}

TEST(http1_write_head, writes_all_parts) {
  const std::array fields{field{"Content-Type", "text/plain"}, field{"X-Empty", ""},
                          field{"X-Tab", "a\tb\xff"}};
  EXPECT_EQ(
      written({.status = 200,
               .fields = fields,
               .date = a_date,
               .connection = connection_option::close,
               .body = body_framing::length,
               .content_length = 13}),
      "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Empty: \r\nX-Tab: a\tb\xff\r\n"
      "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: close\r\nContent-Length: 13\r\n\r\n");
}

TEST(http1_write_head, writes_the_least) {
  EXPECT_EQ(written({}), "HTTP/1.1 200 OK\r\n\r\n");
  EXPECT_EQ(written({.status = 299, .phrase = "Fine"}), "HTTP/1.1 299 Fine\r\n\r\n");
  EXPECT_EQ(written({.body = body_framing::chunked}),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
  EXPECT_EQ(written({.body = body_framing::length}),
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(written({.connection = connection_option::keep_alive}),
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n");
}

// HK-02, HE-06: these never have a body, and saying otherwise would shift the next response.
TEST(http1_write_head, leaves_out_framing_that_the_status_forbids) {
  for (const body_framing body : {body_framing::length, body_framing::chunked}) {
    EXPECT_EQ(written({.status = 103, .body = body}), "HTTP/1.1 103 Early Hints\r\n\r\n");
    EXPECT_EQ(written({.status = 204, .body = body}), "HTTP/1.1 204 No Content\r\n\r\n");
  }
  EXPECT_EQ(written({.status = 304, .body = body_framing::chunked}),
            "HTTP/1.1 304 Not Modified\r\n\r\n");
  EXPECT_EQ(written({.status = 304, .body = body_framing::length, .content_length = 5}),
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n");
}

TEST(http1_write_head, lets_a_date_field_win) {
  const field own{"date", "x"};
  EXPECT_EQ(written({.fields = {&own, 1}, .date = a_date}), "HTTP/1.1 200 OK\r\ndate: x\r\n\r\n");
}

TEST(http1_write_head, refuses_fields_that_break_their_line) {
  using namespace std::string_view_literals;
  for (const std::string_view value : {"a\r\nX: b"sv, "a\nb"sv, "a\rb"sv, "a\0b"sv, "a\x7f"sv}) {
    const field f{"X", value};
    EXPECT_EQ(written({.fields = {&f, 1}}), error_of(write_error::bad_field));
    EXPECT_EQ(written({.phrase = value}), error_of(write_error::bad_field));
  }
  for (const std::string_view name : {""sv, "X Y"sv, "X:"sv, "X\r\nY"sv, "X\xff"sv}) {
    const field f{name, "a"};
    EXPECT_EQ(written({.fields = {&f, 1}}), error_of(write_error::bad_field)) << name;
  }
}

TEST(http1_write_head, refuses_framing_among_the_fields) {
  for (const char* name : {"connection", "Content-Length", "TRANSFER-ENCODING"}) {
    const field f{name, "5"};
    EXPECT_EQ(written({.fields = {&f, 1}}), error_of(write_error::reserved)) << name;
  }
}

TEST(http1_write_head, refuses_statuses_that_are_none) {
  EXPECT_EQ(written({.status = 99}), error_of(write_error::bad_status));
  EXPECT_EQ(written({.status = 1000}), error_of(write_error::bad_status));
}

TEST(http1_write_head, never_writes_past_the_buffer) {
  const field f{"Content-Type", "text/plain"};
  const response_head head{.status = 431,  // Its phrase is the longest but one.
                           .fields = {&f, 1},
                           .date = a_date,
                           .connection = connection_option::keep_alive,
                           .body = body_framing::length,
                           .content_length = ~std::uint64_t{0}};
  const std::string whole = written(head);
  ASSERT_TRUE(whole.ends_with("\r\n\r\n"));
  for (std::size_t room = 0; room <= whole.size(); ++room) {
    std::string out(whole.size(), '?');
    const auto size = write_head(std::span{out.data(), room}, head);
    ASSERT_EQ(size.has_value(), room == whole.size()) << room;
    ASSERT_EQ(out.find_first_not_of('?', room), std::string::npos) << room;
  }
}

// HP-10: the size in hexadecimal, then the data.
TEST(http1_write_chunk_line, writes_hex) {
  std::array<char, chunk_line_bytes> out;
  const auto line = [&](std::uint64_t size) {
    return std::string{out.data(), write_chunk_line(out, size)};
  };
  EXPECT_EQ(line(1), "1\r\n");
  EXPECT_EQ(line(0x1000), "1000\r\n");
  EXPECT_EQ(line(~std::uint64_t{0}), "ffffffffffffffff\r\n");
}

TEST(http1_write_error_response, closes_and_says_why) {
  std::array<char, error_response_bytes> out;
  const auto size = write_error_response(out, 400, "no Host", a_date);
  ASSERT_TRUE(size.has_value());
  EXPECT_EQ((std::string_view{out.data(), *size}),
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
            "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: close\r\nContent-Length: 25\r\n\r\n"
            "400 Bad Request: no Host\n");
  const auto bare = write_error_response(out, 503, "", {});
  ASSERT_TRUE(bare.has_value());
  EXPECT_TRUE((std::string_view{out.data(), *bare}).ends_with("\r\n\r\n503 Service Unavailable\n"));
  EXPECT_FALSE(write_error_response(std::span{out}.first(60), 503, "", {}).has_value());
}

TEST(http1_write_error_response, fits_every_reason_of_the_stated_size) {
  std::array<char, error_response_bytes> out;
  EXPECT_TRUE(write_error_response(out, 511, std::string(128, 'r'), a_date).has_value());
}

TEST(http1_status_phrase, knows_the_registered_ones) {
  EXPECT_EQ(status_phrase(100), "Continue");
  EXPECT_EQ(status_phrase(404), "Not Found");
  EXPECT_EQ(status_phrase(511), "Network Authentication Required");
  EXPECT_EQ(status_phrase(499), "Client Error");
  EXPECT_EQ(status_phrase(999), "Unknown");
}

std::string date_of(std::int64_t seconds) {
  const date_text text = format_date(seconds);
  return {text.data(), text.size()};
}

TEST(http1_format_date, known_dates) {
  EXPECT_EQ(date_of(784111777), a_date);
  EXPECT_EQ(date_of(0), "Thu, 01 Jan 1970 00:00:00 GMT");
  EXPECT_EQ(date_of(-1), "Wed, 31 Dec 1969 23:59:59 GMT");
  EXPECT_EQ(date_of(951782400), "Tue, 29 Feb 2000 00:00:00 GMT");
  EXPECT_EQ(date_of(4107542400), "Mon, 01 Mar 2100 00:00:00 GMT");
  EXPECT_EQ(date_of(INT64_MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
  EXPECT_EQ(date_of(INT64_MIN), "Sat, 01 Jan 0000 00:00:00 GMT");
}

// Goal:   the calendar is right.
// Method: the C library's, in the C locale that tests run in, at odd steps through 1600 to 2500.
TEST(http1_format_date, agrees_with_strftime) {
  for (std::int64_t seconds = -11'676'096'000; seconds < 16'725'225'600; seconds += 4'321'987) {
    const std::time_t time = seconds;
    std::tm parts{};
    ASSERT_NE(::gmtime_r(&time, &parts), nullptr);
    char expected[40];
    ASSERT_EQ(std::strftime(expected, sizeof expected, "%a, %d %b %Y %H:%M:%S GMT", &parts), 29u);
    ASSERT_EQ(date_of(seconds), expected);
  }
}

}  // namespace
}  // namespace exeunt::http1
