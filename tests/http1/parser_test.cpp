// SPDX-License-Identifier: Apache-2.0
// The request parser's interface: what is consumed, what the views look into, phases and limits.
// What it accepts and refuses is in cases/*.md.

#include <gtest/gtest.h>

#include <exeunt/http1/parser.hpp>

#include "support/http1_record.hpp"

namespace exeunt::http1 {
namespace {

std::span<const char> input_of(std::string_view text) { return {text.data(), text.size()}; }

bool is_within(std::string_view view, std::span<const char> input) {
  return view.data() >= input.data() && view.data() + view.size() <= input.data() + input.size();
}

struct http1_parser : testing::Test {
  std::array<field, 16> slots;
  request_parser parser{slots};
};

TEST_F(http1_parser, views_look_into_the_input) {
  const std::string bytes =
      "GET http://b/p?q HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
  const auto input = input_of(bytes);
  const step s = parser.parse(input);
  ASSERT_EQ(s.what, event::head);
  EXPECT_EQ(s.consumed, bytes.size());
  const request_head& head = parser.head();
  EXPECT_EQ(head.bytes, bytes.size());
  for (const std::string_view view :
       {head.method, head.target, head.path, head.query, head.host, head.upgrade}) {
    EXPECT_FALSE(view.empty());
    EXPECT_TRUE(is_within(view, input)) << view;
  }
  ASSERT_EQ(head.fields.size(), 3u);
  EXPECT_EQ(head.fields.data(), slots.data());
  for (const field& f : head.fields) {
    EXPECT_TRUE(is_within(f.name, input));
    EXPECT_TRUE(is_within(f.value, input));
  }
}

// Goal:   an incomplete head is not consumed, and may move between calls (I2).
// Method: each call gets its bytes in a string of its own.
TEST_F(http1_parser, takes_a_head_that_moves_while_it_grows) {
  const std::string bytes = "GET /path HTTP/1.1\r\nHost: example\r\n\r\n";
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const std::string part = bytes.substr(0, size);
    const step s = parser.parse(input_of(part));
    ASSERT_EQ(s.what, event::need_more) << size;
    ASSERT_EQ(s.consumed, 0u) << size;
    ASSERT_EQ(parser.where(), size == 0 ? phase::idle : phase::head) << size;
  }
  const std::string whole = bytes + "GET";
  const step s = parser.parse(input_of(whole));
  EXPECT_EQ(s.what, event::head);
  EXPECT_EQ(s.consumed, bytes.size());
  EXPECT_EQ(parser.head().path, "/path");
  EXPECT_EQ(parser.head().host, "example");
}

TEST_F(http1_parser, ends_a_message_without_body_on_no_input) {
  const std::string bytes = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  ASSERT_EQ(parser.parse(input_of(bytes)).what, event::head);
  EXPECT_EQ(parser.where(), phase::body);
  const step s = parser.parse({});
  EXPECT_EQ(s.what, event::end);
  EXPECT_EQ(s.consumed, 0u);
  EXPECT_EQ(parser.where(), phase::idle);
  EXPECT_EQ(parser.head().method, "GET");  // Until the next head is complete.
}

TEST_F(http1_parser, consumes_empty_lines_alone) {
  EXPECT_EQ(parser.parse(input_of("\r\n\r")).consumed, 2u);
  EXPECT_EQ(parser.where(), phase::idle);
  EXPECT_EQ(parser.parse(input_of("\r\nG")).consumed, 2u);
  EXPECT_EQ(parser.where(), phase::head);
}

TEST_F(http1_parser, says_how_much_body_remains) {
  ASSERT_EQ(parser.parse(input_of("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")).what,
            event::head);
  EXPECT_EQ(parser.body_remaining(), 10u);
  const auto part = input_of("0123");
  const step s = parser.parse(part);
  EXPECT_EQ(s.what, event::body);
  EXPECT_EQ(s.body.data(), part.data());
  EXPECT_EQ(s.body.size(), 4u);
  EXPECT_EQ(parser.body_remaining(), 6u);
  EXPECT_EQ(parser.parse({}).what, event::need_more);
}

TEST_F(http1_parser, stops_at_the_end_of_each_message) {
  const std::string bytes =
      "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nPUT";
  std::string_view rest = bytes;
  const auto next = [&] {
    const step s = parser.parse(input_of(rest));
    rest.remove_prefix(s.consumed);
    return s.what;
  };
  EXPECT_EQ(next(), event::head);
  EXPECT_EQ(next(), event::body);
  EXPECT_EQ(next(), event::end);
  EXPECT_EQ(rest, "PUT");
}

TEST_F(http1_parser, names_the_request_it_refuses) {
  const step s =
      parser.parse(input_of("PUT /big HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n"));
  ASSERT_EQ(s.what, event::error);
  EXPECT_EQ(s.error.status, 413);
  EXPECT_EQ(parser.head().method, "PUT");
  EXPECT_EQ(parser.head().path, "/big");
  EXPECT_EQ(parser.where(), phase::failed);
}

TEST_F(http1_parser, forgets_the_last_head_when_a_new_one_is_refused) {
  ASSERT_EQ(parser.parse(input_of("GET / HTTP/1.1\r\nHost: a\r\n\r\n")).what, event::head);
  ASSERT_EQ(parser.parse({}).what, event::end);
  ASSERT_EQ(parser.parse(input_of("\x01")).what, event::error);
  EXPECT_TRUE(parser.head().method.empty());
  EXPECT_TRUE(parser.head().fields.empty());
}

TEST_F(http1_parser, finds_fields_without_regard_to_case) {
  ASSERT_EQ(parser.parse(input_of("GET / HTTP/1.1\r\nhost: a\r\nX-A: 1\r\nx-a: 2\r\n\r\n")).what,
            event::head);
  ASSERT_NE(parser.head().find("x-A"), nullptr);
  EXPECT_EQ(parser.head().find("x-A")->value, "1");
  EXPECT_EQ(parser.head().find("x-b"), nullptr);
}

TEST(http1_parser_slots, bound_the_fields) {
  std::array<field, 1> slots;
  request_parser parser{slots};
  const step s = parser.parse(input_of("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n"));
  EXPECT_EQ(s.error.status, 431);
}

// Goal:   many messages on one connection leave nothing behind that counts.
// Method: more framing, fields and trailers in all than one message may have.
TEST(http1_parser_reuse, starts_each_message_anew) {
  const std::string one = "\r\nPUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;" +
                          std::string(900, 'x') + "\r\na\r\n0\r\nX: " + std::string(5'000, 't') +
                          "\r\n\r\n";
  const std::string events =
      "head PUT / HTTP/1.1, origin, path=/, host=a, chunked, keep-alive\n  Host: a\n"
      "  Transfer-Encoding: chunked\nbody a\nend, trailers=1\n";
  std::string bytes;
  std::string expected;
  for (int i = 0; i < 40; ++i) {
    bytes += one;
    expected += events;
  }
  EXPECT_EQ(record(bytes, {}), expected + "input ends, idle\n");
}

}  // namespace
}  // namespace exeunt::http1
