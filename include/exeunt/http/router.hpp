// SPDX-License-Identifier: Apache-2.0
// Chooses a handler by method, host and path.

#pragma once

#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

#include <exeunt/base/export.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/http/handler.hpp>

namespace exeunt::http {

/// A table of patterns and handlers, itself a handler. The rules are those of Go 1.22's ServeMux.
///
/// A pattern is "[METHOD ][HOST]/path":
/// - a literal segment matches itself, after percent-decoding;
/// - `{name}` matches one segment, which request::path_value(name) then gives, decoded;
/// - `{name...}` as the last segment matches all that remains, with its slashes;
/// - a trailing slash matches whatever follows it, and `{$}` after it just the slash;
/// - GET stands for HEAD, too; no method stands for all.
///
/// Of the patterns that match, the most specific one wins, whatever the order of registration; one
/// with a host wins over one without. Requests that match none get 404; if they would with another
/// method, 405 with Allow. A path with empty, "." or ".." segments is redirected to its clean form
/// (301), and "/dir" to "/dir/" if only that is registered (307).
///
/// Copies share one table, so a router may be given to a server and extended afterwards.
/// Threads: all members, any thread, also while requests are routed.
/// Cost:    of a look-up, one step for each segment of the path; registration is O(patterns). The
///          first look-up after a registration makes a new table of all patterns; the old one is
///          kept, as requests may use it. So extending is for now and then.
class EXEUNT_API router {
 public:
  /// Throws: std::bad_alloc.
  router();

  /// Adds `h` for `pattern`.
  ///
  /// Throws: panic_error if the pattern is malformed, if `h` is empty, or if the pattern conflicts
  ///         with one that is there: both match some request, and neither is more specific. The
  ///         message names both and where they were registered.
  router& handle(std::string_view pattern, handler h,
                 std::source_location where = std::source_location::current());

  /// Routes one request.
  result<> operator()(request& req, response& res) const;

 private:
  class registry;
  std::shared_ptr<registry> routes_;
};

}  // namespace exeunt::http
