// SPDX-License-Identifier: Apache-2.0
// A plain HTTP client for tests, and a server to talk to: both in fibers of the same runtime.

#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <exeunt/context/context.hpp>
#include <exeunt/http/server.hpp>
#include <exeunt/http1/parser.hpp>
#include <exeunt/net/conn.hpp>
#include <exeunt/sched/go.hpp>

#include "support/semaphore.hpp"

namespace exeunt::test {

/// What came back for one request.
struct http_reply {
  int status = 0;    ///< 0: the connection ended before a whole head
  std::string head;  ///< with its last empty line
  std::string body;
  bool whole = false;  ///< the body is complete by its framing

  [[nodiscard]] std::optional<std::string> field(std::string_view name) const {
    std::string_view rest = head;
    while (!rest.empty()) {
      const std::string_view line = rest.substr(0, rest.find("\r\n"));
      rest.remove_prefix(std::min(rest.size(), line.size() + 2));
      const std::size_t colon = line.find(": ");
      if (colon == std::string_view::npos) continue;
      if (http1::equal_ignoring_case(line.substr(0, colon), name)) {
        return std::string{line.substr(colon + 2)};
      }
    }
    return std::nullopt;
  }
  [[nodiscard]] bool says_close() const { return field("Connection") == "close"; }
};

/// One connection. Whatever hangs fails after ten seconds.
class http_client {
 public:
  explicit http_client(const net::address& server) {
    auto dialed = net::dial(context::background(), server);
    EXPECT_TRUE(dialed) << dialed.error().message();
    if (dialed) conn_ = std::move(*dialed);
    conn_.set_deadline(deadline_after(patience));
  }
  explicit http_client(net::conn&& dialed) : conn_{std::move(dialed)} {
    conn_.set_deadline(deadline_after(patience));
  }

  /// Returns: whether the system took it.
  bool send(std::string_view bytes) { return conn_.write(bytes).has_value(); }
  http_reply get(std::string_view target) {
    send("GET " + std::string{target} + " HTTP/1.1\r\nHost: a\r\n\r\n");
    return reply();
  }
  http_reply post(std::string_view target, std::string_view body) {
    send("POST " + std::string{target} + " HTTP/1.1\r\nHost: a\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + std::string{body});
    return reply();
  }

  /// The next reply; `to_head` if it answers a HEAD.
  http_reply reply(bool to_head = false) {
    http_reply got;
    std::size_t end = 0;
    while ((end = waiting_.find("\r\n\r\n")) == std::string::npos) {
      if (!fill()) return got;
    }
    got.head = take(end + 4);
    got.status =
        static_cast<int>(number(std::string_view{got.head}.substr(got.head.find(' ') + 1)));
    if (to_head || got.status < 200 || got.status == 204 || got.status == 304) {
      got.whole = true;
    } else if (const auto length = got.field("Content-Length")) {
      const auto size = number(*length);
      while (waiting_.size() < size && fill()) {
      }
      got.whole = waiting_.size() >= size;
      got.body = take(std::min(size, waiting_.size()));
    } else if (got.field("Transfer-Encoding") == "chunked") {
      read_chunks(got);
    } else {
      while (fill()) {
      }
      got.whole = !failed_;
      got.body = take(waiting_.size());
    }
    return got;
  }

  /// All bytes up to the end of the connection; nothing if it did not end in order.
  std::optional<std::string> rest() {
    while (fill()) {
    }
    if (failed_) return std::nullopt;
    return take(waiting_.size());
  }
  /// Whether the server ended the connection in order and without another byte.
  bool ended() { return rest() == ""; }

  net::conn& conn() noexcept { return conn_; }
  void end_writing() { EXPECT_TRUE(conn_.shutdown_write()); }
  void close() { conn_.close(); }

 private:
  // std::stoi would use errno, which fibers of one thread share.
  static std::size_t number(std::string_view text, int base = 10) {
    std::size_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value, base);
    return value;
  }
  bool fill() {
    char bytes[4096];
    const auto count = conn_.read(bytes);
    if (!count) failed_ = true;
    if (!count || *count == 0) return false;
    waiting_.append(bytes, *count);
    return true;
  }
  std::string take(std::size_t count) {
    std::string taken = waiting_.substr(0, count);
    waiting_.erase(0, count);
    return taken;
  }
  void read_chunks(http_reply& got) {
    while (true) {
      std::size_t end = 0;
      while ((end = waiting_.find("\r\n")) == std::string::npos) {
        if (!fill()) return;
      }
      const std::string line = take(end + 2);
      const std::size_t size = number(line, 16);
      while (waiting_.size() < size + 2) {
        if (!fill()) {
          got.body += take(std::min(size, waiting_.size()));
          return;
        }
      }
      got.body += take(size);
      take(2);
      if (size == 0) {
        got.whole = true;
        return;
      }
    }
  }

  static constexpr clock::duration patience = std::chrono::seconds{10};

  net::conn conn_;
  std::string waiting_;
  bool failed_ = false;
};

/// A server on a free port of this host, serving in a fiber from construction on.
class running_server {
 public:
  explicit running_server(http::config options) : server_{silent(std::move(options))} {
    const auto bound = server_.listen();
    EXPECT_TRUE(bound) << bound.error().message();
    go([this] {
      outcome_ = server_.serve(held_.ctx);
      served_.post();
    });
  }
  ~running_server() {
    if (!over_) {
      EXPECT_TRUE(stop());
    }
  }

  http_client client() { return http_client{server_.address()}; }
  http::server& operator*() noexcept { return server_; }
  http::server* operator->() noexcept { return &server_; }

  /// Ends the context; serve() then drains.
  void begin_stop() { held_.cancel(); }
  /// Waits for serve() to return.
  result<> wait() {
    served_.wait();
    over_ = true;
    return outcome_;
  }
  result<> stop() {
    begin_stop();
    return wait();
  }

 private:
  static http::config silent(http::config options) {
    options.address = "127.0.0.1:0";
    if (!options.log) options.log = [](std::string_view) {};
    return options;
  }

  with_cancel_result held_ = with_cancel(context::background());
  http::server server_;
  semaphore served_;
  result<> outcome_;
  bool over_ = false;
};

}  // namespace exeunt::test
