// SPDX-License-Identifier: Apache-2.0
// detail: what this room's hash tables ask of a hash.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace exeunt::detail {

/// Each bit of the result depends on all of `hash`: std::hash gives small integers themselves,
/// whose upper bits are all the same.
[[nodiscard]] constexpr std::uint64_t mixed_hash(std::uint64_t hash) noexcept {
  // The finisher of MurmurHash3 (Austin Appleby, public domain).
  hash ^= hash >> 33;
  hash *= 0xff51afd7ed558ccdULL;
  hash ^= hash >> 33;
  hash *= 0xc4ceb9fe1a85ec53ULL;
  hash ^= hash >> 33;
  return hash;
}

/// Finds a std::string by whatever is a std::string_view, without making one.
struct string_hash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const noexcept {
    return std::hash<std::string_view>{}(text);
  }
};

template <typename K>
struct default_hash {
  using type = std::hash<K>;
};
template <>
struct default_hash<std::string> {
  using type = string_hash;
};

}  // namespace exeunt::detail
