// SPDX-License-Identifier: Apache-2.0
// Tests: tests/sim/environment_test.cpp.

#include "sim/environment.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace exeunt::sim {

namespace {

std::optional<std::uint64_t> number_in(const char* variable) {
  const char* const set = std::getenv(variable);
  if (set == nullptr) return std::nullopt;
  const std::string_view text = set;
  std::uint64_t number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || rest != text.data() + text.size()) {
    throw std::invalid_argument{std::string{variable} + " is '" + set + "', not a number"};
  }
  return number;
}

}  // namespace

explore_options as_environment_has_it(explore_options options) {
  if (const auto schedules = number_in("EXEUNT_SIM_SCHEDULES")) {
    // An exhaustive one ends by itself, and one that is to be covered must not end before.
    options.schedules = options.exhaustive ? std::max(options.schedules, *schedules) : *schedules;
  }
  if (const auto seed = number_in("EXEUNT_SIM_SEED")) options.seed = *seed;
  return options;
}

}  // namespace exeunt::sim

namespace exeunt::detail {

std::string quoted_for_shell(std::string_view word) {
  constexpr std::string_view plain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:,+@%-";
  if (!word.empty() && word.find_first_not_of(plain) == word.npos) return std::string{word};
  std::string text = "'";
  for (const char one : word) {
    if (one == '\'') {
      text += "'\\''";
    } else {
      text += one;
    }
  }
  return text + "'";
}

}  // namespace exeunt::detail
