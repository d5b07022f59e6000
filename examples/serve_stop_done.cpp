// SPDX-License-Identifier: Apache-2.0
// The life of a service in one file: two servers serve, a signal comes, both drain, done. Here the
// program is its own client and sends the signal to itself, while its request is under way.
//
// Try:  build/release/examples/serve_stop_done

#include <csignal>
#include <cstdio>
#include <string>

#include <exeunt/exeunt.hpp>

namespace ex = exeunt;

namespace {

/// Asks for "/" and returns all that comes.
ex::result<std::string> get(const ex::context& ctx, const ex::net::address& where) {
  auto conn = ex::net::dial(ctx, where);
  if (!conn) return ex::fail(conn.error());
  if (auto sent = conn->write(ctx, "GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
      !sent) {
    return ex::fail(sent.error());
  }
  std::string reply;
  char some[512];
  while (true) {
    const auto count = conn->read(ctx, some);
    if (!count) return ex::fail(count.error());
    if (*count == 0) return reply;
    reply.append(some, *count);
  }
}

ex::result<> serve_stop_done() {
  const auto [signals, stop] =
      ex::signal::notify_context(ex::context::background(), {SIGINT, SIGTERM});

  ex::chan<void> stopping;  // Closed when the first server knows that it has to stop.
  ex::http::server first{{
      .address = "127.0.0.1:0",
      .handler =
          [&](ex::http::request&, ex::http::response& response) {
            std::raise(SIGTERM);
            static_cast<void>(stopping.recv());
            response.text("answered, although the stop had begun\n");
          },
      .name = "first",
  }};
  first.on_shutdown([&] { stopping.close(); });
  ex::http::server second{{
      .address = "127.0.0.1:0",
      .handler = [](ex::http::request&, ex::http::response& response) { response.text("hello\n"); },
      .name = "second",
  }};
  for (ex::http::server* const server : {&first, &second}) {
    if (auto bound = server->listen(); !bound) return bound;
  }

  ex::errgroup group{signals, {.cancel_on = ex::cancel_on::first_exit}};
  group.go({.name = "first"}, [&](ex::context ctx) { return first.serve(ctx); });
  group.go({.name = "second"}, [&](ex::context ctx) { return second.serve(ctx); });

  for (ex::http::server* const server : {&second, &first}) {
    const auto reply = get(ex::context::background(), server->address());
    if (!reply) return ex::fail(reply.error());
    std::printf("%s\n", reply->c_str());
  }
  const ex::result<> done = group.wait();
  std::puts("done");
  return done;
}

}  // namespace

int main() { return ex::run(serve_stop_done); }
