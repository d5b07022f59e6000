// SPDX-License-Identifier: Apache-2.0
// Reads tests/http1/cases/*.md: the parser's specification as text.
//
// A case is a section "## name" with prose, an optional line "limits: name=number ...", a block
// ```request and a block ```events. In a request the file's line ends mean nothing; \r \n \t \\ and
// \xHH are what they say, and {{text*N}} is text N times. Events are as record() writes them.

#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <exeunt/http1/limits.hpp>

namespace exeunt::http1 {

struct wire_case {
  std::string file;
  std::string name;
  std::string request;
  std::string events;
  limits bounds;
};

inline std::string unescape(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    if (text.starts_with("{{")) {
      const std::size_t end = text.find("}}");
      const std::size_t star = text.rfind('*', end);
      if (end == std::string_view::npos || star < 2) throw std::runtime_error{"bad repetition"};
      const std::string what = unescape(text.substr(2, star - 2));
      const auto times = std::stoul(std::string{text.substr(star + 1, end - star - 1)});
      for (unsigned long i = 0; i < times; ++i) out += what;
      text.remove_prefix(end + 2);
      continue;
    }
    const char c = text.front();
    text.remove_prefix(1);
    if (c == '\n') continue;
    if (c != '\\') {
      out += c;
      continue;
    }
    const char kind = text.empty() ? '?' : text.front();
    text.remove_prefix(text.empty() ? 0 : 1);
    switch (kind) {
      case 'r':
        out += '\r';
        break;
      case 'n':
        out += '\n';
        break;
      case 't':
        out += '\t';
        break;
      case '\\':
        out += '\\';
        break;
      case 'x':
        out += static_cast<char>(std::stoi(std::string{text.substr(0, 2)}, nullptr, 16));
        text.remove_prefix(2);
        break;
      default:
        throw std::runtime_error{"unknown escape"};
    }
  }
  return out;
}

inline void set_limit(limits& bounds, std::string_view setting) {
  const std::size_t equals = setting.find('=');
  const std::string_view name = setting.substr(0, equals);
  const unsigned long value = std::stoul(std::string{setting.substr(equals + 1)});
  if (name == "body_bytes") {
    bounds.body_bytes = value;
    return;
  }
  const auto small = static_cast<std::uint32_t>(value);
  if (name == "head_bytes") {
    bounds.head_bytes = small;
  } else if (name == "target_bytes") {
    bounds.target_bytes = small;
  } else if (name == "fields") {
    bounds.fields = small;
  } else if (name == "trailer_bytes") {
    bounds.trailer_bytes = small;
  } else {
    throw std::runtime_error{"unknown limit"};
  }
}

inline void load_case_file(const std::filesystem::path& path, std::vector<wire_case>& cases) {
  std::ifstream in{path};
  std::string line;
  std::string* block = nullptr;
  while (std::getline(in, line)) {
    if (line.starts_with("## ")) {
      cases.push_back({path.filename().string(), line.substr(3), {}, {}, {}});
    } else if (line == "```request" && !cases.empty()) {
      block = &cases.back().request;
    } else if (line == "```events" && !cases.empty()) {
      block = &cases.back().events;
    } else if (line == "```") {
      block = nullptr;
    } else if (block != nullptr) {
      *block += line + '\n';
    } else if (line.starts_with("limits: ") && !cases.empty()) {
      std::string_view rest = std::string_view{line}.substr(8);
      while (!rest.empty()) {
        const std::size_t blank = std::min(rest.find(' '), rest.size());
        set_limit(cases.back().bounds, rest.substr(0, blank));
        rest.remove_prefix(std::min(blank + 1, rest.size()));
      }
    }
  }
}

inline std::vector<wire_case> load_cases(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator{directory}) {
    if (entry.path().extension() == ".md") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<wire_case> cases;
  for (const auto& path : paths) load_case_file(path, cases);
  for (wire_case& one : cases) one.request = unescape(one.request);
  return cases;
}

}  // namespace exeunt::http1
