// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "http/pattern.hpp"

namespace exeunt::http {
namespace {

pattern parsed(std::string_view source) {
  auto made = pattern::parse(source);
  EXPECT_TRUE(made) << source << ": " << (made ? "" : made.error().message());
  return made ? *made : pattern{};
}

// HM-01
TEST(pattern, reads_method_host_and_segments) {
  const pattern p = parsed("GET example.com/a/{b}/{c...}");
  EXPECT_EQ(p.method, "GET");
  EXPECT_EQ(p.host, "example.com");
  EXPECT_EQ(p.segments, (std::vector<segment>{{segment::kind::literal, "a"},
                                              {segment::kind::one, "b"},
                                              {segment::kind::rest, "c"}}));
  EXPECT_EQ(parsed("/").segments, (std::vector<segment>{{segment::kind::rest, ""}}));
  EXPECT_EQ(parsed("/{$}").segments, (std::vector<segment>{{segment::kind::literal, "/"}}));
  EXPECT_EQ(parsed("/a//../b").segments, (std::vector<segment>{{segment::kind::literal, "a"},
                                                               {segment::kind::literal, ""},
                                                               {segment::kind::literal, ".."},
                                                               {segment::kind::literal, "b"}}));
  EXPECT_EQ(parsed("/%61b").segments, (std::vector<segment>{{segment::kind::literal, "ab"}}));
}

TEST(pattern, refuses_what_is_malformed_and_says_why) {
  const struct {
    std::string_view source;
    std::string_view why;
  } cases[] = {
      {"", "no path"},      {"GET", "no path"},         {"G(T /", "method"},
      {"{a}/b", "slash"},   {"/a{b}", "whole segment"}, {"/{a}b", "whole segment"},
      {"/{a...}/b", "end"}, {"/{$}/b", "end"},          {"/{}", "name"},
      {"/{1a}", "name"},    {"/{a}/{a}", "same name"},  {"/{a.b}", "name"},
      {"/%zz", "hex"},
  };
  for (const auto& c : cases) {
    const auto made = pattern::parse(c.source);
    ASSERT_FALSE(made) << c.source;
    EXPECT_NE(made.error().message().find(c.why), std::string::npos) << made.error().message();
    EXPECT_TRUE(made.error().is(errc::malformed));
  }
}

// HM-04
TEST(pattern, knows_what_conflicts) {
  const struct {
    std::string_view a;
    std::string_view b;
    bool conflict;
  } cases[] = {
      {"/a", "/a", true},
      {"/a/{x}", "/a/{y}", true},
      {"/a/{x}", "/{x}/b", true},
      {"GET /", "/foo", true},
      {"GET /foo", "HEAD /", true},
      {"/{x...}", "/", true},
      {"/", "GET /foo", false},
      {"/{x}", "/a", false},
      {"/a/", "/a/{$}", false},
      {"/{x}", "/{$}", false},
      {"/a/{x...}", "/a", false},
      {"GET /a", "POST /a", false},
      {"GET /a", "HEAD /a", false},
      {"GET /a", "/a", false},
      {"h/", "/a", false},
      {"h/a", "i/a", false},
      {"h/a/{x}", "h/{x}/b", true},
      {"/a/{x}/c", "/a/b/{y}", true},
      {"/a/{x}/c", "/b/{y}/c", false},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(conflict(parsed(c.a), parsed(c.b)), c.conflict) << c.a << " and " << c.b;
    EXPECT_EQ(conflict(parsed(c.b), parsed(c.a)), c.conflict) << c.b << " and " << c.a;
  }
}

// HM-07
TEST(pattern, splits_paths_at_raw_slashes) {
  std::vector<std::string_view> parts;
  split_path("/a%2Fb/c/", parts);
  EXPECT_EQ(parts, (std::vector<std::string_view>{"a%2Fb", "c", "/"}));
  split_path("/", parts);
  EXPECT_EQ(parts, (std::vector<std::string_view>{"/"}));
  split_path("/a", parts);
  EXPECT_EQ(parts, (std::vector<std::string_view>{"a"}));
}

// HM-09, HM-11
TEST(pattern, cleans_paths_and_leaves_clean_ones_alone) {
  const struct {
    std::string_view path;
    std::string_view clean;
  } cases[] = {
      {"/", ""},         {"/a", ""},
      {"/a/", ""},       {"/.well-known/x", ""},
      {"//a", "/a"},     {"///evil.com", "/evil.com"},
      {"/a//b", "/a/b"}, {"/a/./b", "/a/b"},
      {"/a/../b", "/b"}, {"/../../b", "/b"},
      {"/a/..", "/"},    {"/a/b/..", "/a/"},
      {"/a/.", "/a/"},   {"", "/"},
  };
  for (const auto& c : cases) EXPECT_EQ(clean_path(c.path), c.clean) << c.path;
}

}  // namespace
}  // namespace exeunt::http
