// SPDX-License-Identifier: Apache-2.0
// A service: an API server, a debug server and a tracker of events in one group. Whichever of
// them ends, or a signal, ends all, in this order: the API server drains, the tracker finishes
// what it has accepted, both under one deadline, and the debug server, which shows it, goes last.
//
// Try:  build/release/examples/service, then curl 127.0.0.1:8080/hello/you, then ^C.

#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <utility>

#include <exeunt/exeunt.hpp>

#include "crasher.hpp"
#include "options.hpp"
#include "routes.hpp"
#include "tracker.hpp"

namespace ex = exeunt;

namespace service {
namespace {

constexpr std::size_t event_buffer = 256;
// It stops after all else, when there is nothing more to be seen.
constexpr std::chrono::nanoseconds debug_drain = std::chrono::milliseconds{100};

void log_access(const ex::http::access_record& one) {
  char figures[64];
  std::snprintf(figures, sizeof figures, " %d %llu B %.3f ms ", one.status,
                static_cast<unsigned long long>(one.body_bytes),
                std::chrono::duration<double, std::milli>{one.took}.count());
  std::string line{one.method};
  line.append(" ").append(one.target).append(figures);
  if (one.remote != nullptr) line += one.remote->to_string();
  ex::log_line(line);
}

/// Waits for a signal, and says which it was, or for the end of the group by another component.
ex::result<> await_signal(const ex::context& signals, const ex::context& group) {
  ex::select(ex::on_done(signals,
                         [&] {
                           const int number = ex::cause(signals)->signal().value_or(0);
                           const char* const name = ::sigabbrev_np(number);
                           ex::log_line(std::string{"stop requested by SIG"} + (name ? name : "?"));
                         }),
             ex::on_done(group, [] {}));
  return {};
}

/// Says that a component stops the service, if it is the first to end. It is said before the group
/// learns of it, so that it stands before what the others then say.
class end_of_component {
 public:
  end_of_component(std::string name, ex::context group)
      : name_{std::move(name)}, group_{std::move(group)} {}
  ~end_of_component() {
    if (!said_) say("has thrown an exception");
  }
  end_of_component(const end_of_component&) = delete;
  end_of_component& operator=(const end_of_component&) = delete;

  ex::result<> operator()(ex::result<> how) {
    say(how ? "has ended" : "has failed: " + how.error().message());
    return how;
  }

 private:
  void say(const std::string& what) {
    said_ = true;
    if (!group_.err()) ex::log_line("stop: " + name_ + " " + what);
  }

  std::string name_;
  ex::context group_;
  bool said_ = false;
};

int serve(const options& given, const ex::context& signals) {
  ex::log_line("starting (pid " + std::to_string(::getpid()) + ", " +
               std::to_string(ex::runtime::current().stats().workers) + " workers)");
  tracker events{event_buffer};
  crasher crash;
  // [servers]
  ex::http::server api{{
      .address = given.app,
      .handler = api_routes(events, crash),
      .name = "api",
      .drain = given.drain,
      .shutdown_timeout = given.shutdown_timeout,
      .header_limit = given.header_limit,
      .body_limit = given.body_limit,
      .access_log =
          given.access_log ? log_access : std::function<void(const ex::http::access_record&)>{},
  }};
  // [servers]
  ex::http::server debug{{
      .address = given.debug,
      .handler = ex::app::debug_handler({.ready = [&api] { return !api.draining(); }}),
      .name = "debug",
      .drain = std::min(given.drain, debug_drain),
      .shutdown_timeout = given.shutdown_timeout,
  }};
  // Both before either serves: what cannot be bound is known before anything was answered.
  for (ex::http::server* const server : {&api, &debug}) {
    if (const auto bound = server->listen(); !bound) return ex::exit_code(bound);
  }

  // [group]
  ex::chan<void> api_has_drained;
  auto [shown, all_else_has_stopped] = ex::with_cancel(ex::context::background());
  // The signals are a component like the others, so that their line comes before the drain's.
  ex::errgroup group{ex::context::background(), {.cancel_on = ex::cancel_on::first_exit}};
  group.go({.name = "signals"}, [&](ex::context ctx) { return await_signal(signals, ctx); });
  group.go({.name = "api"}, [&](ex::context ctx) {
    const ex::close_on_exit drained{api_has_drained};
    return end_of_component{"api", ctx}(api.serve(ctx));
  });
  group.go({.name = "debug"}, [&, &until = shown](ex::context ctx) {
    return end_of_component{"debug", ctx}(debug.serve(until));
  });
  group.go({.name = "crasher"}, [&](ex::context ctx) {
    end_of_component end{"crasher", ctx};
    return end(crash.run(ctx));
  });
  // The debug server goes on until this task, and with it the function that ends it, is gone.
  group.go({.name = "tracker"}, [&, end_debug = std::move(all_else_has_stopped)](ex::context ctx) {
    ctx.wait();
    // What is left of the one deadline when the last request has been answered, is the tracker's.
    const auto deadline = ex::deadline_after(given.shutdown_timeout);
    static_cast<void>(api_has_drained.recv());
    return events.shutdown(ex::with_deadline(ex::context::background(), deadline));
  });
  // [group]
  if (!signals.err()) {
    ex::log_line("ready: http://localhost:" + std::to_string(api.address().port()) +
                 "/hello/you, http://localhost:" + std::to_string(debug.address().port()) +
                 "/debug/fibers; ^C stops");
  }
  const ex::result<> outcome = group.wait();
  ex::log_line("components stopped");
  return ex::exit_code(outcome);
}

}  // namespace
}  // namespace service

int main(int argc, char** argv) {
  // First of all: whenever a signal comes from here on, it is an orderly stop.
  const auto [signals, restore_signals] =
      ex::signal::notify_context(ex::context::background(), {SIGINT, SIGTERM},
                                 {.second = ex::signal::second::exit_with_report});
  const ex::signal::quit_dumps dump_on_quit;

  service::options given;
  if (const auto status = service::parse(argc, argv, given)) return *status;
  const int status = ex::run([&, &stop = signals] { return service::serve(given, stop); },
                             {.procs = given.workers, .signal_dumps = true});
  ex::log_line("exit with status " + std::to_string(status));
  return status;
}
