// SPDX-License-Identifier: Apache-2.0
// Runs the request parser as a server would, and writes down what it said.

#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <exeunt/http1/parser.hpp>

namespace exeunt::http1 {

// Memory whose last byte is followed by a page that cannot be touched: reading past the end of an
// input placed here ends the test.
class guarded_memory {
 public:
  explicit guarded_memory(std::size_t size) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    usable_ = (size + page) / page * page;
    void* const memory =
        ::mmap(nullptr, usable_ + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    begin_ = static_cast<char*>(memory);
    mapped_ = usable_ + page;
    if (::mprotect(begin_ + usable_, page, PROT_NONE) != 0) std::abort();
  }
  guarded_memory(const guarded_memory&) = delete;
  guarded_memory& operator=(const guarded_memory&) = delete;
  ~guarded_memory() { ::munmap(begin_, mapped_); }

  // A copy of `bytes` that ends where the forbidden page begins.
  std::span<const char> place(std::string_view bytes) {
    char* const at = begin_ + usable_ - bytes.size();
    if (!bytes.empty()) std::memcpy(at, bytes.data(), bytes.size());
    return {at, bytes.size()};
  }

 private:
  char* begin_ = nullptr;
  std::size_t usable_ = 0;
  std::size_t mapped_ = 0;
};

// Text with all that is not plain shown as an escape; long text by its size.
inline std::string shown(std::string_view text) {
  if (text.size() > 100) return '<' + std::to_string(text.size()) + " bytes>";
  std::string out;
  for (const char c : text) {
    if (c == '\r') {
      out += "\\r";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\\') {
      out += "\\\\";
    } else if (c < 0x20 || c == 0x7f) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\x%02x", static_cast<unsigned>(c) & 0xff);
      out += escape;
    } else {
      out += c;
    }
  }
  return out;
}

inline std::string shown(const request_head& head) {
  std::string out = "head " + shown(head.method) + ' ' + shown(head.target) + " HTTP/1." +
                    std::to_string(head.http_minor);
  constexpr std::array<std::string_view, 4> forms{"origin", "absolute", "authority", "asterisk"};
  out += ", ";
  out += forms[static_cast<std::size_t>(head.form)];
  out += ", path=" + shown(head.path);
  if (head.has_query) out += ", query=" + shown(head.query);
  out += ", host=" + shown(head.host);
  if (head.body == body_framing::length) out += ", length=" + std::to_string(head.content_length);
  if (head.body == body_framing::chunked) out += ", chunked";
  out += head.keep_alive ? ", keep-alive" : ", close";
  if (head.expects_continue) out += ", expects-continue";
  if (head.expects_other) out += ", expects-other";
  if (!head.upgrade.empty()) out += ", upgrade=" + shown(head.upgrade);
  for (const field& f : head.fields) {
    out += "\n  " + shown(f.name) + (f.value.empty() ? ":" : ": ") + shown(f.value);
  }
  return out;
}

// What is fed to the parser between two reads: a prefix of the connection's bytes up to each cut.
using cuts = std::vector<std::size_t>;

// The events of one connection that carries `bytes`, arriving in the pieces that `at` says; `at` is
// sorted. One line an event, body data joined. The recorder stops after an error, and after a
// message that does not keep the connection. With a `memory`, every input ends at its forbidden
// page; else the inputs are parts of `bytes`.
inline std::string record(std::string_view bytes, const cuts& at, const limits& bounds = {},
                          guarded_memory* memory = nullptr) {
  std::array<field, 128> slots;
  request_parser parser{slots, bounds};
  std::string out;
  std::string body;
  const auto flush_body = [&] {
    if (!body.empty()) out += "body " + shown(body) + '\n';
    body.clear();
  };
  const auto broken = [&](const char* why) {
    out += std::string{"BROKEN: "} + why + '\n';
    return out;
  };

  std::size_t done = 0;
  for (std::size_t piece = 0; piece <= at.size(); ++piece) {
    const std::size_t have = piece < at.size() ? at[piece] : bytes.size();
    for (;;) {
      const std::string_view unread = bytes.substr(done, have - done);
      const std::span<const char> input =
          memory != nullptr ? memory->place(unread) : std::span{unread.data(), unread.size()};
      const step s = parser.parse(input);
      if (s.consumed > input.size()) return broken("consumed more than there was");
      done += s.consumed;
      switch (s.what) {
        case event::need_more:
          break;
        case event::head:
          out += shown(parser.head()) + '\n';
          break;
        case event::body:
          if (s.body.empty()) return broken("empty body data");
          if (s.body.data() < input.data() ||
              s.body.data() + s.body.size() > input.data() + input.size()) {
            return broken("body data outside of the input");
          }
          body.append(s.body.data(), s.body.size());
          break;
        case event::end:
          flush_body();
          out += "end";
          if (s.trailers != 0) out += ", trailers=" + std::to_string(s.trailers);
          out += '\n';
          if (!parser.head().keep_alive) return out += "stop\n";
          break;
        case event::error:
          flush_body();
          out += "error " + std::to_string(s.error.status) + ' ' + std::string{s.error.reason} +
                 " @" + std::to_string(s.error.where) + '\n';
          if (parser.where() != phase::failed || parser.parse(input).what != event::error) {
            return broken("went on after an error");
          }
          return out;
      }
      if (s.what == event::need_more) break;
    }
  }
  flush_body();
  constexpr std::array<std::string_view, 4> phases{"idle", "head", "body", "failed"};
  return out +=
         "input ends, " + std::string{phases[static_cast<std::size_t>(parser.where())]} + '\n';
}

// Numbers that look random and are the same everywhere (SplitMix64).
class seeded {
 public:
  explicit seeded(std::uint64_t seed) : state_{seed} {}
  std::uint64_t below(std::uint64_t bound) {
    state_ += 0x9e3779b97f4a7c15;
    std::uint64_t x = state_;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return (x ^ (x >> 31)) % bound;
  }

  // A few sorted cuts of `size` bytes.
  cuts some_cuts(std::size_t size) {
    cuts at(1 + below(6));
    for (std::size_t& cut : at) cut = below(size + 1);
    std::sort(at.begin(), at.end());
    return at;
  }

 private:
  std::uint64_t state_;
};

}  // namespace exeunt::http1
