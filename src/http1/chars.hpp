// SPDX-License-Identifier: Apache-2.0
// Classes of bytes on the wire, and small text helpers. Stateless; no locale anywhere.

#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace exeunt::http1 {

enum char_class : std::uint8_t {
  token_char = 1,   // tchar: methods, field names, codings
  target_char = 2,  // visible ASCII without '#': what a request target may hold
  host_char = 4,    // unreserved and sub-delims: a registered name, percent and colon aside
  digit_char = 8,
  hex_char = 16,
};

constexpr std::array<std::uint8_t, 256> make_char_classes() {
  std::array<std::uint8_t, 256> classes{};
  const auto add = [&classes](std::string_view chars, std::uint8_t mask) {
    for (const char c : chars) classes[static_cast<unsigned char>(c)] |= mask;
  };
  constexpr std::string_view letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  constexpr std::string_view digits = "0123456789";
  add(letters, token_char | host_char);
  add(digits, token_char | host_char | digit_char | hex_char);
  add("abcdefABCDEF", hex_char);
  add("!#$%&'*+-.^_`|~", token_char);
  add("-._~!$&'()*+,;=", host_char);
  for (int c = 0x21; c <= 0x7e; ++c) {
    if (c != '#') classes[static_cast<std::size_t>(c)] |= target_char;
  }
  return classes;
}

inline constexpr std::array<std::uint8_t, 256> char_classes = make_char_classes();

constexpr bool is(char c, std::uint8_t mask) noexcept {
  return (char_classes[static_cast<unsigned char>(c)] & mask) != 0;
}

// The index of the first byte that is not of the class, or the size.
constexpr std::size_t find_not(std::string_view text, std::uint8_t mask) noexcept {
  std::size_t i = 0;
  while (i < text.size() && is(text[i], mask)) ++i;
  return i;
}

constexpr bool is_token(std::string_view text) noexcept {
  return !text.empty() && find_not(text, token_char) == text.size();
}

constexpr bool is_blank(char c) noexcept { return c == ' ' || c == '\t'; }

constexpr std::string_view trim_blanks(std::string_view text) noexcept {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

constexpr bool is_control(char c) noexcept {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

constexpr char to_lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

// `lower` must be in lower case.
constexpr bool equals_lower(std::string_view text, std::string_view lower) noexcept {
  if (text.size() != lower.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (to_lower(text[i]) != lower[i]) return false;
  }
  return true;
}

// The first control byte (below 0x20, or 0x7f) in [at, end), or end. Eight bytes at a time: a head
// is mostly text, with one line end in thirty bytes. Never reads at or past `end`.
inline const char* find_control(const char* at, const char* end) noexcept {
  if constexpr (std::endian::native == std::endian::little) {
    constexpr std::uint64_t ones = 0x0101010101010101;
    constexpr std::uint64_t highs = 0x8080808080808080;
    while (end - at >= 8) {
      std::uint64_t word;
      std::memcpy(&word, at, sizeof word);
      // A borrow can flag a byte falsely, but only above one that is flagged rightly.
      const std::uint64_t below = (word - ones * 0x20) & ~word & highs;
      const std::uint64_t del = word ^ (ones * 0x7f);
      const std::uint64_t found = below | ((del - ones) & ~del & highs);
      if (found != 0) return at + std::countr_zero(found) / 8;
      at += 8;
    }
  }
  while (at != end && !is_control(*at)) ++at;
  return at;
}

}  // namespace exeunt::http1
