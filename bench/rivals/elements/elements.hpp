// SPDX-License-Identifier: Apache-2.0
// What the C++ contenders send: element number i, made anew, which tells its number.

#pragma once

#include <array>
#include <memory>
#include <string>

struct bytes_8 {
  using type = long;
  static type make(long i) { return i; }
  static long number(const type& value) { return value; }
};

struct bytes_64 {
  using type = std::array<long, 8>;
  static type make(long i) { return {i}; }
  static long number(const type& value) { return value[0]; }
};

/// Of 24 characters: more than what a std::string holds without an allocation.
struct text {
  using type = std::string;
  static type make(long i) {
    std::string made(24, '.');
    made.replace(0, sizeof i, reinterpret_cast<const char*>(&i), sizeof i);
    return made;
  }
  static long number(const type& value) {
    long i = 0;
    value.copy(reinterpret_cast<char*>(&i), sizeof i);
    return i;
  }
};

struct pointer {
  using type = std::unique_ptr<long>;
  static type make(long i) { return std::make_unique<long>(i); }
  static long number(const type& value) { return *value; }
};
