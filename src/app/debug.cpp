// SPDX-License-Identifier: Apache-2.0
// The debug pages. No state: each page is made of what the runtime says at that moment.
//
// Tests: debug_test.cpp.

#include <exeunt/app/debug.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <exeunt/http/request.hpp>
#include <exeunt/http/response.hpp>
#include <exeunt/sched/runtime.hpp>

namespace exeunt::app {

namespace {

std::string_view to_string(fiber_info::run_state state) {
  switch (state) {
    case fiber_info::run_state::ready:
      return "ready";
    case fiber_info::run_state::running:
      return "running";
    case fiber_info::run_state::parked:
      return "parked";
  }
  return "unknown";
}

void append_json(std::string& to, std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  to += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      (to += '\\') += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      ((to += "\\u00") += digits[byte >> 4]) += digits[byte & 0xf];
    } else {
      to += c;
    }
  }
  to += '"';
}

std::string fibers_as_json() {
  std::string text = "[";
  for (const fiber_info& fiber : runtime::current().fibers()) {
    if (text.size() > 1) text += ',';
    text += "\n{\"id\":" + std::to_string(fiber.id) + ",\"name\":";
    append_json(text, fiber.name);
    text += ",\"state\":";
    append_json(text, to_string(fiber.state));
    if (fiber.state == fiber_info::run_state::parked) {
      const auto since = std::chrono::duration_cast<std::chrono::milliseconds>(fiber.since);
      text += ",\"waits_for\":";
      append_json(text, fiber.waits_for);
      text += ",\"since_ms\":" + std::to_string(since.count());
    }
    text += ",\"file\":";
    append_json(text, fiber.started_at.file_name());
    text += ",\"line\":" + std::to_string(fiber.started_at.line()) + "}";
  }
  return text += "\n]\n";
}

void append_metric(std::string& to, std::string_view name, std::string_view type,
                   std::string_view help, std::uint64_t value) {
  to.append("# HELP ").append(name).append(" ").append(help).append("\n");
  to.append("# TYPE ").append(name).append(" ").append(type).append("\n");
  to.append(name).append(" ").append(std::to_string(value)).append("\n");
}

std::string stats_as_prometheus() {
  const runtime_stats now = runtime::current().stats();
  std::string text;
  append_metric(text, "exeunt_workers", "gauge", "Worker threads.", now.workers);
  append_metric(text, "exeunt_fibers", "gauge", "Fibers alive.", now.fibers_alive);
  append_metric(text, "exeunt_fibers_started_total", "counter", "Fibers started.",
                now.fibers_started);
  append_metric(text, "exeunt_panics_total", "counter",
                "Exceptions that left fibers for which nobody waits.", now.panics);
  append_metric(text, "exeunt_steals_total", "counter",
                "Thefts from other workers, each of up to 128 fibers.", now.steals);
  append_metric(text, "exeunt_worker_parks_total", "counter", "Workers going to sleep.", now.parks);
  append_metric(text, "exeunt_worker_withdrawals_total", "counter",
                "Workers leaving their work to others for a while.", now.withdrawals);
  append_metric(text, "exeunt_blocking_threads", "gauge", "Threads for blocking calls.",
                now.blocking_threads);
  append_metric(text, "exeunt_blocking_threads_idle", "gauge",
                "Threads for blocking calls that have none to run.", now.blocking_threads_idle);
  append_metric(text, "exeunt_blocking_queued", "gauge", "Blocking calls that wait for a thread.",
                now.blocking_queued);
  append_metric(text, "exeunt_blocking_completed_total", "counter",
                "Blocking calls that have run to their end.", now.blocking_completed);
  return text;
}

}  // namespace

http::router debug_handler(debug_options options) {
  http::router pages;
  pages.handle("GET /healthz", [](http::request&, http::response& res) { res.text("ok\n"); });
  pages.handle("GET /readyz",
               [ready = std::move(options.ready)](http::request&, http::response& res) {
                 if (!ready || ready()) {
                   res.text("ready\n");
                 } else {
                   res.status(503).text("not ready\n");
                 }
               });
  pages.handle("GET /debug/fibers", [](http::request& req, http::response& res) {
    if (req.query_value("format") == "json") {
      res.json(fibers_as_json());
    } else {
      res.text(dump_fibers());
    }
  });
  pages.handle("GET /debug/stats", [](http::request&, http::response& res) {
    res.header("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
    res.text(stats_as_prometheus());
  });
  return pages;
}

}  // namespace exeunt::app
