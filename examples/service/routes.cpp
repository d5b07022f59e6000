// SPDX-License-Identifier: Apache-2.0
// The routes: some as in any service, some slow, some bad on purpose.

#include "routes.hpp"

#include <charconv>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <exeunt/http/request.hpp>
#include <exeunt/http/response.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/time/sleep.hpp>

namespace service {

namespace ex = exeunt;
using ex::http::request;
using ex::http::response;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds longest_wait_for_room{500};

/// A JSON document of exactly 1 KiB.
const std::string& json_document() {
  static const std::string document = [] {
    std::string text = R"({"message":"Hello, World!","padding":")";
    text.append(1024 - text.size() - 2, '.');
    return text + "\"}";
  }();
  return document;
}

const std::string& large_document() {
  static const std::string document(65536, 'x');
  return document;
}

/// The number in the query, or `otherwise` if the query does not have the name.
ex::result<std::uint32_t> number(request& req, std::string_view name, std::uint32_t otherwise) {
  const auto text = req.query_value(name);
  if (!text) return otherwise;
  std::uint32_t value = 0;
  const char* const end = text->data() + text->size();
  const auto read = std::from_chars(text->data(), end, value);
  if (read.ec != std::errc{} || read.ptr != end) {
    return ex::fail(ex::errc::malformed, std::string{name} + " is not a number");
  }
  return value;
}

void add_usual(ex::http::router& api) {
  // [routes]
  api.handle("GET /{$}", [](request&, response& res) { res.text("Hello, World!"); });
  api.handle("GET /hello/{name}", [](request& req, response& res) {
    res.text("hello, ", req.path_value("name"), "\n");
  });
  // [routes]
  api.handle("GET /json", [](request&, response& res) {
    res.header("Content-Type", "application/json");
    res.body_view(json_document());
  });
  api.handle("GET /64k", [](request&, response& res) {
    res.header("Content-Type", "text/plain; charset=utf-8");
    res.body_view(large_document());
  });
  api.handle("GET /status", [](request& req, response& res) -> ex::result<> {
    const auto code = number(req, "code", 200);
    if (!code || *code < 200 || *code > 999) {
      return ex::fail(ex::errc::malformed, "code is not within 200 to 999");
    }
    res.status(static_cast<int>(*code)).text("status ", *code, "\n");
    return {};
  });
  // [echo]
  api.handle("POST /echo", [](request& req, response& res) -> ex::result<> {
    auto body = req.read_all();
    if (!body) return ex::fail(body.error());
    res.header("Content-Type", req.header("Content-Type").value_or("application/octet-stream"));
    res.body(std::move(*body));
    return {};
  });
  // [echo]
}

void add_slow(ex::http::router& api) {
  // [slow]
  api.handle("GET /slow", [](request& req, response& res) -> ex::result<> {
    const auto ms = number(req, "ms", 1000);
    if (!ms) return ex::fail(ms.error());
    const auto began = ex::clock::now();
    // Cut short when the client has gone, or when a stop has reached its bound.
    static_cast<void>(ex::sleep(req.context(), milliseconds{*ms}));
    const auto slept = std::chrono::duration_cast<milliseconds>(ex::clock::now() - began);
    res.text("slept for ", slept.count(), " ms\n");
    return {};
  });
  // [slow]
  // Heeds no context, so that a stop has to cut it.
  api.handle("GET /never",
             [](request&, response&) { static_cast<void>(ex::chan<void>{nullptr}.recv()); });
}

void add_events(ex::http::router& api, tracker& events) {
  // [events]
  api.handle("POST /events", [&events](request& req, response& res) -> ex::result<> {
    const auto ms = number(req, "ms", 0);
    if (!ms) return ex::fail(ms.error());
    auto payload = req.read_all();
    if (!payload) return ex::fail(payload.error());
    const auto taken = events.track(ex::with_timeout(req.context(), longest_wait_for_room),
                                    {.payload = std::move(*payload), .takes = milliseconds{*ms}});
    if (taken) {
      res.status(202).text("accepted\n");
    } else {
      res.error(503, "too many events wait");
      res.header("Retry-After", "1");
    }
    return {};
  });
  // [events]
}

void add_bad(ex::http::router& api, crasher& crash) {
  api.handle("GET /throw",
             [](request&, response&) { throw std::runtime_error{"the handler of /throw throws"}; });
  api.handle("GET /go-throw", [](request&, response& res) {
    ex::go({.name = "go-throw"},
           [] { throw std::runtime_error{"a fiber that nobody waits for throws"}; });
    res.status(202).text("started a fiber that throws\n");
  });
  api.handle("GET /leak-fiber", [](request&, response& res) {
    ex::go({.name = "leak"}, [] { static_cast<void>(ex::chan<void>{nullptr}.recv()); });
    res.status(202).text("started a fiber that never ends\n");
  });
  const auto crash_by = [&](std::string_view pattern, crasher::way how) {
    api.handle(pattern, [&crash, how](request&, response& res) {
      crash.order(how);
      res.status(202).text("as you like\n");
    });
  };
  crash_by("GET /crash-component", crasher::way::throws);
  crash_by("GET /fail-component", crasher::way::fails);
  crash_by("GET /stop-component", crasher::way::returns);
}

}  // namespace

ex::http::router api_routes(tracker& events, crasher& crash) {
  ex::http::router api;
  add_usual(api);
  add_slow(api);
  add_events(api, events);
  add_bad(api, crash);
  return api;
}

}  // namespace service
