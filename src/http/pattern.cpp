// SPDX-License-Identifier: Apache-2.0
// Reading route patterns, and deciding which of two is more specific.
//
// A pattern stands for a set of requests. Of two patterns the one whose set is the smaller part of
// the other's is the more specific. Sets that overlap without one being part of the other are a
// conflict, as are equal ones.
// Tests: tests/http/pattern_test.cpp.

#include "http/pattern.hpp"

#include <algorithm>
#include <cctype>

#include <exeunt/http/request.hpp>

namespace exeunt::http {

namespace {

using kind = enum segment::kind;

bool is_token(std::string_view text) noexcept {
  constexpr std::string_view others = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::ranges::all_of(text, [&](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || others.contains(c);
  });
}

bool is_name(std::string_view text) noexcept {
  return !text.empty() && std::isdigit(static_cast<unsigned char>(text[0])) == 0 &&
         std::ranges::all_of(text, [](char c) {
           return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
         });
}

std::unexpected<error> malformed(std::string_view source, std::string_view why) {
  return fail(errc::malformed, "pattern \"" + std::string{source} + "\": " + std::string{why});
}

// Does every set of parts that matches `a` from here on match `b`?
bool part_of(const std::vector<segment>& a, const std::vector<segment>& b) noexcept {
  for (std::size_t i = 0;; ++i) {
    if (i == a.size() || i == b.size()) return a.size() == b.size();
    if (b[i].kind == kind::rest) return true;
    if (a[i].kind == kind::rest) return false;
    if (b[i].kind == kind::one ? a[i].kind == kind::literal && a[i].text == "/"
                               : a[i].kind == kind::one || a[i].text != b[i].text) {
      return false;
    }
  }
}

bool overlap(const std::vector<segment>& a, const std::vector<segment>& b) noexcept {
  for (std::size_t i = 0;; ++i) {
    if (i == a.size() || i == b.size()) return a.size() == b.size();
    if (a[i].kind == kind::rest || b[i].kind == kind::rest) return true;
    if (a[i].kind == kind::literal && b[i].kind == kind::literal) {
      if (a[i].text != b[i].text) return false;
    } else if ((a[i].kind == kind::literal && a[i].text == "/") ||
               (b[i].kind == kind::literal && b[i].text == "/")) {
      return false;
    }
  }
}

bool method_part_of(const std::string& a, const std::string& b) noexcept {
  return b.empty() || a == b || (a == "HEAD" && b == "GET");
}

}  // namespace

result<pattern> pattern::parse(std::string_view source) {
  pattern made;
  made.source = source;
  std::string_view left = source;
  if (const auto blank = left.find_first_of(" \t"); blank != left.npos) {
    made.method = left.substr(0, blank);
    if (!is_token(made.method)) return malformed(source, "the method is no token");
    left.remove_prefix(std::min(left.find_first_not_of(" \t", blank), left.size()));
  }
  const auto slash = left.find('/');
  if (slash == left.npos) return malformed(source, "there is no path; it begins with a slash");
  made.host = left.substr(0, slash);
  if (made.host.find_first_of("{} ") != std::string::npos) {
    return malformed(source, "a host has no wildcards; is a leading slash missing?");
  }
  std::ranges::transform(made.host, made.host.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  left.remove_prefix(slash);

  while (!left.empty()) {
    left.remove_prefix(1);  // The slash.
    if (left.empty()) {
      made.segments.push_back({kind::rest, ""});
      break;
    }
    const std::string_view text = left.substr(0, left.find('/'));
    left.remove_prefix(text.size());
    if (text.find_first_of("{}") == text.npos) {
      auto decoded = percent_decode(text);
      if (!decoded) return malformed(source, "a '%' is not followed by two hex digits");
      made.segments.push_back({kind::literal, std::move(*decoded)});
      continue;
    }
    if (!text.starts_with('{') || !text.ends_with('}')) {
      return malformed(source, "a wildcard must be a whole segment");
    }
    std::string_view name = text.substr(1, text.size() - 2);
    if (name == "$") {
      if (!left.empty()) return malformed(source, "{$} must be at the end");
      made.segments.push_back({kind::literal, "/"});
      continue;
    }
    kind matched = kind::one;
    if (name.ends_with("...")) {
      name.remove_suffix(3);
      matched = kind::rest;
      if (!left.empty()) return malformed(source, "a {name...} wildcard must be at the end");
    }
    if (!is_name(name)) {
      return malformed(source, "a wildcard's name must be letters, digits and underscores");
    }
    for (const segment& other : made.segments) {
      if (other.kind != kind::literal && other.text == name) {
        return malformed(source, "two wildcards have the same name");
      }
    }
    made.segments.push_back({matched, std::string{name}});
  }
  return made;
}

bool conflict(const pattern& a, const pattern& b) noexcept {
  if (a.host != b.host) return false;  // Disjoint, or the one with a host is more specific.
  const bool a_method = method_part_of(a.method, b.method);
  const bool b_method = method_part_of(b.method, a.method);
  if ((!a_method && !b_method) || !overlap(a.segments, b.segments)) return false;
  const bool a_in_b = a_method && part_of(a.segments, b.segments);
  const bool b_in_a = b_method && part_of(b.segments, a.segments);
  return a_in_b == b_in_a;
}

void split_path(std::string_view path, std::vector<std::string_view>& parts) {
  parts.clear();
  while (!path.empty()) {
    path.remove_prefix(1);  // The slash.
    if (path.empty()) {
      parts.push_back("/");
      return;
    }
    parts.push_back(path.substr(0, path.find('/')));
    path.remove_prefix(parts.back().size());
  }
}

std::string clean_path(std::string_view path) {
  if (path.starts_with('/') && !path.contains("//") && !path.contains("/.")) return {};
  std::vector<std::string_view> kept;
  bool directory = path.empty() || path.ends_with('/');
  for (std::string_view left = path; !left.empty();) {
    const std::string_view part = left.substr(0, left.find('/'));
    left.remove_prefix(std::min(part.size() + 1, left.size()));
    const bool last = left.empty();
    if (part.empty()) continue;
    if (part == "." || part == "..") {
      if (part == ".." && !kept.empty()) kept.pop_back();
      directory |= last;
      continue;
    }
    kept.push_back(part);
  }
  std::string clean;
  for (const std::string_view part : kept) clean.append("/").append(part);
  if (directory || clean.empty()) clean += '/';
  return clean == path ? std::string{} : clean;
}

}  // namespace exeunt::http
