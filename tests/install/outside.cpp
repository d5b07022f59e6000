// SPDX-License-Identifier: Apache-2.0
// Built against the installed package: its headers are complete, its libraries link, and a server
// of them answers.

#include <cstdio>
#include <string>
#include <string_view>

#include <exeunt/exeunt.hpp>

namespace ex = exeunt;

namespace {

ex::result<std::string> ask(const ex::context& ctx, const ex::net::address& at) {
  auto conn = ex::net::dial(ctx, "tcp", at.to_string());
  if (!conn) return ex::fail(conn.error());
  constexpr std::string_view question =
      "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  if (auto sent = conn->write(ctx, question); !sent) return ex::fail(sent.error());
  std::string answer;
  char piece[512];
  while (true) {
    const auto count = conn->read(ctx, piece);
    if (!count) return ex::fail(count.error());
    if (*count == 0) return answer;
    answer.append(piece, *count);
  }
}

ex::result<> serve_and_ask() {
  ex::http::server server{{.address = "127.0.0.1:0", .handler = ex::app::debug_handler()}};
  if (auto bound = server.listen(); !bound) return bound;
  ex::errgroup group{ex::context::background(), {.cancel_on = ex::cancel_on::first_exit}};
  group.go([&](ex::context ctx) { return server.serve(ctx); });
  group.go([&](ex::context ctx) -> ex::result<> {
    const auto answer = ask(ctx, server.address());
    if (!answer) return ex::fail(answer.error());
    if (!answer->starts_with("HTTP/1.1 200 ")) return ex::fail(ex::errc::malformed, *answer);
    return {};
  });
  if (auto ended = group.wait(); !ended) return ended;
  std::puts("1 passed, 0 failed");
  return {};
}

}  // namespace

int main() { return ex::run(serve_and_ask); }
