// SPDX-License-Identifier: Apache-2.0
// An HTTP/1.1 server that stops without losing a request, within a bound.

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/http/handler.hpp>
#include <exeunt/http/request.hpp>
#include <exeunt/http/response.hpp>
#include <exeunt/net/address.hpp>
#include <exeunt/sync/pool.hpp>

namespace exeunt::detail {
class http_core;
}

namespace exeunt::http {

/// One answered request, for access logs. Views are valid during the call.
struct access_record {
  std::string_view method;
  std::string_view target;
  int status = 0;
  std::uint64_t body_bytes = 0;  ///< of the response, before framing
  clock::duration took{};        ///< from the complete head to the last byte handed to the system
  const net::address* remote = nullptr;
};

/// A time of 0 or less means no limit, but for the four of a stop, where it means none at all.
struct config {
  /// "host:port", ":port", or a unix socket as net::listen() takes it. Port 0: the system chooses.
  std::string address = ":8080";
  http::handler handler = {};
  /// What log lines call this server.
  std::string name = "http";

  // Stopping; see serve().
  clock::duration drain_delay = clock::duration::zero();
  clock::duration drain = std::chrono::seconds{1};
  clock::duration linger = std::chrono::milliseconds{500};
  clock::duration shutdown_timeout = std::chrono::seconds{10};

  /// For a whole head, from its first byte (on a new connection, from its beginning): then 408, or
  /// just the end if nothing was received. Dripping does not extend it.
  clock::duration read_header_timeout = std::chrono::seconds{10};
  /// How long a handler that reads a body waits for the next byte of it: then reading fails, and
  /// 408 is the answer to the failure. A slow body that comes on is not ended by this.
  clock::duration body_idle_timeout = std::chrono::seconds{60};
  /// For a whole request with its body, from its first byte: then reading the body fails.
  clock::duration read_timeout = clock::duration::zero();
  /// From the complete head to the response's last byte: then writing fails.
  clock::duration write_timeout = clock::duration::zero();
  /// How long a connection may stay without a request before it is closed.
  clock::duration idle_timeout = std::chrono::seconds{60};

  /// Connections that are open at once; 0: any number. Beyond it newcomers are not accepted until
  /// one ends: they wait in the system's queue. A stop takes them in nonetheless.
  std::size_t max_connections = 100'000;
  /// Request line and fields, in bytes: then 431; 414 for a target of more than half of it.
  std::uint32_t header_limit = 16 * 1024;
  std::uint32_t max_header_fields = 100;
  /// Body, in bytes: then 413, at once if Content-Length says so.
  std::uint64_t body_limit = 1024 * 1024;
  /// What is kept of that which a connection needs while it is not idle, for the next one: a buffer
  /// of header_limit and 4 KiB more, room for max_header_fields, the response's texts. One that has
  /// none makes it anew. Limits that a pool refuses, the server's constructor does: panic_error.
  pool_limits spare = {.per_worker = 16, .common = 64};

  /// Called after each response by the fiber that wrote it, so by many at once. Empty: off. What
  /// this one or the next throws is reported as a panic, and changes nothing else.
  std::function<void(const access_record&)> access_log = {};
  /// Takes the server's own lines, without line ends: listening, draining, stopped. Empty:
  /// exeunt::log_line().
  std::function<void(std::string_view)> log = {};
};

/// Serves HTTP/1.1 and 1.0. An idle connection holds neither a fiber nor a buffer; a request runs
/// in one fiber from its first byte to the last of its response. Pipelined requests are answered in
/// order. Not restartable: one server serves once.
///
/// A handler that throws is answered with 500, reported as a panic with fiber and stack, and the
/// others go on.
///
/// Threads: all members, concurrently; serve() once. From fibers and plain threads.
class EXEUNT_API server {
 public:
  /// Asserts: options.handler is not empty.
  explicit server(config options);
  /// close(). Handlers that still run are not waited for.
  ~server();
  server(const server&) = delete;
  server& operator=(const server&) = delete;

  /// Binds, unless that has been done: so that what cannot be bound is known before anything is
  /// served.
  ///
  /// Returns: "listen tcp 127.0.0.1:8081: address already in use" and the like; errc::closed after
  ///          close(), also if that came while it was under way; errc::canceled or
  ///          errc::deadline_exceeded when `ctx` ends first.
  /// Blocks:  while a name is looked up, and while another listen() of this server does; not for
  ///          an address in numbers.
  [[nodiscard]] result<> listen(const context& ctx);
  [[nodiscard]] result<> listen();

  /// Where it listens, with the port that the system chose; none before listen(). Never blocks.
  [[nodiscard]] net::address address() const;

  /// Binds if need be, as listen(ctx) does, and serves until `ctx` ends, shutdown() or close() is
  /// called, or accepting fails. Then stops, in this order, all within config::shutdown_timeout:
  ///
  /// - `drain_delay`: goes on as before, while draining() is already true for readiness pages.
  /// - The door: takes in all that the system has accepted, and those whose handshake is under way
  ///   and completes within `drain`, at most 300 ms; then closes the listener. Who cannot be
  ///   accepted for want of descriptors is as connections end.
  /// - `drain`: idle connections stay readable this long. What still comes is answered, with
  ///   "Connection: close" decided when the head is written. A head that began has the same time to
  ///   complete, else 408. Ends early when no connection is left.
  /// - `linger`: after its last response a connection is read until the client closes, so that no
  ///   reset destroys the response.
  /// - Requests whose head is complete may use all of `shutdown_timeout`. Then their contexts end
  ///   with the cause errc::shutting_down and their connections are cut.
  ///
  /// Returns: success after a stop that lost nobody; errc::deadline_exceeded with the names of the
  ///          requests it cut; what the system was short of, with the number of clients lost at the
  ///          door; errc::closed after close() or a second serve(); what listen() or accepting
  ///          failed with.
  /// Blocks:  until the stop is complete. Handlers that outlive the cut are not waited for.
  [[nodiscard]] result<> serve(const context& ctx);

  /// Makes serve() stop as above and waits for its end. If `ctx` ends before, cuts at once.
  /// A server that does not serve is closed.
  ///
  /// Returns: what the stop came to, as serve() does.
  /// Blocks:  until serve() returns: up to config::shutdown_timeout, or until `ctx` ends, and a
  ///          moment for handlers that obey their contexts.
  result<> shutdown(const context& ctx);

  /// Cuts all at once: listener, connections, contexts of requests. serve() returns errc::closed,
  /// and so does a listen() that looks up a name. Never blocks.
  void close() noexcept;

  /// `f` is called once, in a fiber of its own, when the stop begins; it is not waited for.
  void on_shutdown(unique_function<void()> f);

  /// Whether the stop has begun.
  [[nodiscard]] bool draining() const noexcept;

  /// The requests whose handlers run: "GET /never from 127.0.0.1:4242, 3.2 s".
  [[nodiscard]] std::vector<std::string> in_flight() const;
  /// How many connections are open, idle ones included.
  [[nodiscard]] std::size_t connections() const noexcept;
  /// How many handlers have thrown.
  [[nodiscard]] std::uint64_t panics() const noexcept;

 private:
  detail::http_core* core_;  // Owns one reference.
};

}  // namespace exeunt::http
