// SPDX-License-Identifier: Apache-2.0
// Misuse of parser and serializer ends the process.

#include <gtest/gtest.h>

#include <array>

#include <exeunt/http1/parser.hpp>

#include "http1/serializer.hpp"

namespace exeunt::http1 {
namespace {

TEST(http1_parser_death, bytes_of_an_incomplete_head_are_not_given_again) {
  std::array<field, 4> slots;
  request_parser parser{slots};
  static_cast<void>(parser.parse(std::string_view{"GET / HT"}));
  EXPECT_DEATH(static_cast<void>(parser.parse(std::string_view{"TP"})), "given again");
}

TEST(http1_serializer_death, an_empty_chunk) {
  std::array<char, chunk_line_bytes> out;
  EXPECT_DEATH(write_chunk_line(out, 0), "end the body");
}

}  // namespace
}  // namespace exeunt::http1
