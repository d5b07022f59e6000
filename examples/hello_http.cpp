// SPDX-License-Identifier: Apache-2.0
// Answers on 127.0.0.1:8080 until SIGINT or SIGTERM, then lets requests in flight finish.
//
// Try:  curl -i 127.0.0.1:8080/ada      then press ^C while a request is running.

#include <exeunt/exeunt.hpp>
#include <exeunt/http/server.hpp>

namespace ex = exeunt;
using namespace std::chrono_literals;

// [main]
int main() {
  auto [ctx, stop] = ex::signal::notify_context(ex::context::background(), {SIGINT, SIGTERM});

  ex::http::server server{{
      .address = "127.0.0.1:8080",
      .handler =
          [](ex::http::request& request, ex::http::response& response) {
            response.text("hello, ", request.path().substr(1), "\n");
          },
      .shutdown_timeout = 10s,
      .read_header_timeout = 5s,
      .idle_timeout = 60s,
  }};
  // Binds here, so that a taken port is reported before anything is served.
  if (auto bound = server.listen(); !bound) return ex::exit_code(bound);

  // Whichever ends first, the signal's context or a member, ends all.
  ex::errgroup group{ctx, {.cancel_on = ex::cancel_on::first_exit}};
  group.go([&](ex::context group_ctx) { return server.serve(group_ctx); });
  return ex::exit_code(group.wait());
}
// [main]
