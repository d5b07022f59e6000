// SPDX-License-Identifier: Apache-2.0
// What the service is told on its command line.

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace service {

struct options {
  std::string app = ":8080";
  std::string debug = "127.0.0.1:8081";
  unsigned workers = 0;
  std::chrono::nanoseconds shutdown_timeout = std::chrono::seconds{10};
  std::chrono::nanoseconds drain = std::chrono::seconds{1};
  std::uint64_t body_limit = 1024 * 1024;
  std::uint32_t header_limit = 16 * 1024;
  bool access_log = false;
};

/// Fills `into` from the command line.
///
/// Returns: nothing to go on; else the status to exit with, after help or a complaint was printed.
[[nodiscard]] std::optional<int> parse(int argc, char** argv, options& into);

}  // namespace service
