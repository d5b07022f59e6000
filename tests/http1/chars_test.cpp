// SPDX-License-Identifier: Apache-2.0
// The search for control bytes, against the obvious loop.

#include "http1/chars.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "support/http1_record.hpp"

namespace exeunt::http1 {
namespace {

// Goal:   the word-wise search finds what the byte-wise one finds, for any neighbours.
// Method: each pair of bytes at each distance within a word, and nothing readable behind.
TEST(http1_find_control, agrees_with_a_byte_loop) {
  guarded_memory memory{32};
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      for (const std::size_t distance : {1u, 3u, 7u}) {
        std::string text(13, 'x');
        text[2] = static_cast<char>(a);
        text[2 + distance] = static_cast<char>(b);
        const auto placed = memory.place(text);
        const char* const end = placed.data() + placed.size();
        ASSERT_EQ(find_control(placed.data(), end), std::find_if(placed.data(), end, is_control))
            << a << ' ' << b << ' ' << distance;
      }
    }
  }
}

TEST(http1_chars, tokens) {
  EXPECT_TRUE(is_token("!#$%&'*+-.^_`|~09azAZ"));
  EXPECT_FALSE(is_token(""));
  for (const char c : std::string_view{"\"(),/:;<=>?@[\\]{} \t\x7f\x80"}) {
    EXPECT_FALSE(is_token({&c, 1})) << c;
  }
}

TEST(http1_chars, blanks_are_trimmed) {
  EXPECT_EQ(trim_blanks(" \ta b\t "), "a b");
  EXPECT_EQ(trim_blanks(" \t"), "");
}

}  // namespace
}  // namespace exeunt::http1
