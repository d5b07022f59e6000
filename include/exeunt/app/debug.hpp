// SPDX-License-Identifier: Apache-2.0
// Pages about the running program: is it well, is it ready, what do its fibers do.

#pragma once

#include <functional>

#include <exeunt/base/export.hpp>
#include <exeunt/http/router.hpp>

namespace exeunt::app {

struct debug_options {
  /// What /readyz asks. Called by many fibers at once. Empty: the answer is always yes.
  std::function<bool()> ready = {};
};

/// A router with the pages of a debug server, to which more can be added:
///
///   GET /healthz              200 "ok": the program runs and answers
///   GET /readyz               200 "ready", or 503 "not ready": whether to send requests here
///   GET /debug/fibers         every fiber of all runtimes: number, name, state, what it waits for
///                             and for how long, the line that started it; one line each
///   GET /debug/fibers?format=json   the same as JSON, of the runtime that serves the page
///   GET /debug/stats          counts of that runtime, in Prometheus' text format
///
/// The pages show names and source lines of the program: do not serve them to the world.
///
/// Throws: std::bad_alloc.
[[nodiscard]] EXEUNT_API http::router debug_handler(debug_options options = {});

}  // namespace exeunt::app
