// SPDX-License-Identifier: Apache-2.0

#include "options.hpp"

#include <limits>

#include <CLI/CLI.hpp>

namespace service {

namespace {

std::chrono::nanoseconds seconds(double count) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>{count});
}

}  // namespace

std::optional<int> parse(int argc, char** argv, options& into) {
  constexpr double longest = 24 * 60 * 60;
  double shutdown_timeout = std::chrono::duration<double>{into.shutdown_timeout}.count();
  double drain = std::chrono::duration<double>{into.drain}.count();

  CLI::App app{
      "An API server, a debug server and a tracker of events: one exits, all exit.\n"
      "SIGINT (^C) or SIGTERM stops it and loses no request; a second one ends it at once, with a\n"
      "report of what was in flight; SIGQUIT (^\\) prints every fiber and ends it with status 2."};
  app.get_formatter()->column_width(34);
  app.option_defaults()->always_capture_default();
  app.add_option("--app", into.app, "Where the API server listens, host:port or :port")
      ->type_name("ADDR");
  app.add_option("--debug", into.debug, "Where the debug server listens, host:port or :port")
      ->type_name("ADDR");
  app.add_option("--workers", into.workers, "Threads that run fibers; 0: as many as there are CPUs")
      ->type_name("N")
      ->check(CLI::Range(0U, 1024U).description(""));
  app.add_option("--shutdown-timeout", shutdown_timeout,
                 "The bound of a stop: what is not done by then is cut, and the status is 1")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.0, longest).description(""));
  app.add_option("--drain", drain, "How long a stop keeps idle connections readable")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.0, longest).description(""));
  app.add_option("--body-limit", into.body_limit, "The longest body of a request; beyond it 413")
      ->type_name("BYTES");
  app.add_option("--header-limit", into.header_limit,
                 "The longest head of a request; beyond it 431")
      ->type_name("BYTES")
      ->check(
          CLI::Range(std::uint32_t{64}, std::numeric_limits<std::uint32_t>::max()).description(""));
  app.add_flag("--access-log", into.access_log, "Log a line for each request");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& stopped) {
    return app.exit(stopped) == 0 ? 0 : 2;
  }
  into.shutdown_timeout = seconds(shutdown_timeout);
  into.drain = seconds(drain);
  return std::nullopt;
}

}  // namespace service
