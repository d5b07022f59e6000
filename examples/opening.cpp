// SPDX-License-Identifier: Apache-2.0
// Two servers under one errgroup: a signal, or the end of either, ends both.
//
// Try:  curl 127.0.0.1:8080/hello/ada, and 127.0.0.1:8081/debug/fibers; then press ^C.

// [example]
#include <exeunt/exeunt.hpp>
namespace ex = exeunt;

int main() {
  auto [ctx, stop] = ex::signal::notify_context(ex::context::background(), {SIGINT, SIGTERM},
                                                {.second = ex::signal::second::exit_with_report});

  ex::http::router api;
  api.handle("GET /hello/{name}", [](ex::http::request& req, ex::http::response& res) {
    res.text("hello, ", req.path_value("name"), "\n");
  });
  ex::http::server app{{.address = ":8080", .handler = api}};
  ex::http::server debug{{.address = "127.0.0.1:8081", .handler = ex::app::debug_handler()}};

  // Both serve until the context ends, then drain. Whichever ends first, ends all.
  ex::errgroup group{ctx, {.cancel_on = ex::cancel_on::first_exit}};
  group.go([&](ex::context group_ctx) { return app.serve(group_ctx); });
  group.go([&](ex::context group_ctx) { return debug.serve(group_ctx); });
  return ex::exit_code(group.wait());
}
// [example]
