// SPDX-License-Identifier: Apache-2.0
// A route's pattern: how it is read, and how two of them relate.

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <exeunt/base/result.hpp>

namespace exeunt::http {

struct segment {
  enum class kind : unsigned char {
    literal,  ///< this text; "/" stands for a trailing slash alone
    one,      ///< any one segment
    rest,     ///< all that remains, at least a slash
  };
  segment::kind kind = kind::literal;
  std::string text;  ///< the literal decoded, or the wildcard's name (empty: a trailing slash)

  friend bool operator==(const segment&, const segment&) = default;
};

struct pattern {
  std::string source;
  std::string method;  ///< empty: all
  std::string host;    ///< empty: all
  std::vector<segment> segments;

  /// Returns: errc::malformed with the reason.
  [[nodiscard]] static result<pattern> parse(std::string_view source);
};

/// Whether some request matches both, and neither is more specific: they cannot both be routed.
[[nodiscard]] bool conflict(const pattern& a, const pattern& b) noexcept;

/// A path in parts as patterns see it: "/a/b/" gives "a", "b", "/". Not decoded.
void split_path(std::string_view path, std::vector<std::string_view>& parts);

/// The path without empty, "." and ".." segments; a trailing slash stays.
/// Returns: an empty string if it is clean already.
[[nodiscard]] std::string clean_path(std::string_view path);

}  // namespace exeunt::http
