// SPDX-License-Identifier: Apache-2.0
// An HTTP server that says hello. It prints its port and serves until killed.

#include <cstdio>

#include <exeunt/http/request.hpp>
#include <exeunt/http/response.hpp>
#include <exeunt/http/router.hpp>
#include <exeunt/http/server.hpp>
#include <exeunt/sched/runtime.hpp>

#include "harness.hpp"

namespace {

exeunt::result<> serve() {
  exeunt::http::router routes;
  routes.handle("GET /{$}", [](exeunt::http::request&, exeunt::http::response& response) {
    response.header("Content-Type", "text/plain");
    response.body_view("Hello, World!");
  });
  exeunt::http::server server{{
      .address = "127.0.0.1:0",
      .handler = routes,
      .log = [](std::string_view) {},
  }};
  if (auto bound = server.listen(); !bound) return bound;
  std::printf("%u\n", unsigned{server.address().port()});
  std::fflush(stdout);
  return server.serve(exeunt::context::background());
}

}  // namespace

int main(int argc, char** argv) {
  const rivals::harness bench{argc, argv};
  return exeunt::run([] { return serve(); }, {.procs = bench.workers()});
}
