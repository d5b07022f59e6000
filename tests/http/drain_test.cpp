// SPDX-License-Identifier: Apache-2.0
// The stop: nobody is lost, and it ends in time.
#include <exeunt/http/server.hpp>

#include <gtest/gtest.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "chan/parked.hpp"
#include "support/http_client.hpp"
#include "support/on_workers.hpp"

namespace exeunt::http {
namespace {

using namespace std::chrono_literals;
using test::http_client;
using test::http_reply;
using test::running_server;

class drain_test : public test::on_workers {};
EXEUNT_ON_WORKERS(drain_test);

constexpr std::string_view get_request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

// Posts when the server says that it drains, and keeps what it says.
struct listening_log {
  std::function<void(std::string_view)> sink() {
    return [this](std::string_view line) {
      lines.emplace_back(line);
      if (line.find("draining") != std::string_view::npos) draining.post();
      if (line.find("wait at the door") != std::string_view::npos) at_the_door.post();
    };
  }
  test::semaphore draining;
  test::semaphore at_the_door;
  std::vector<std::string> lines;
};

void hello(request&, response& res) { res.text("hello"); }

TEST_P(drain_test, ends_at_once_when_nobody_is_there) {
  run([] {
    listening_log log;
    running_server server{{.handler = hello, .drain = 10s, .log = log.sink()}};
    auto client = server.client();
    EXPECT_EQ(client.get("/").status, 200);
    client.close();
    while (server->connections() > 0) yield();
    const auto since = clock::now();
    EXPECT_TRUE(server.stop());
    EXPECT_LT(clock::now() - since, 5s);
    ASSERT_EQ(log.lines.size(), 3U);
    EXPECT_EQ(log.lines[0], "http: listening on " + server->address().to_string());
    EXPECT_EQ(log.lines[1], "http: draining (0 requests)");
    EXPECT_EQ(log.lines[2], "http: stopped");
  });
}

TEST_P(drain_test, answers_an_idle_connection_and_closes_it) {
  run([] {
    listening_log log;
    running_server server{{.handler = hello, .drain = 10s, .log = log.sink()}};
    auto client = server.client();
    EXPECT_FALSE(client.get("/").says_close());
    server.begin_stop();
    log.draining.wait();
    EXPECT_TRUE(server->draining());
    const http_reply reply = client.get("/");
    EXPECT_EQ(reply.body, "hello");
    EXPECT_TRUE(reply.says_close());
    EXPECT_TRUE(client.ended());
    client.close();
    // The last one has left, so it ends before the ten seconds.
    EXPECT_TRUE(server.wait());
    EXPECT_EQ(log.lines.back(), "http: stopped");
  });
}

TEST_P(drain_test, closes_who_stays_idle_when_the_time_is_over) {
  run([] {
    listening_log log;
    running_server server{{.handler = hello, .drain = 50ms, .log = log.sink()}};
    auto used = server.client();
    EXPECT_EQ(used.get("/").status, 200);
    auto silent = server.client();
    while (server->connections() < 2) yield();
    EXPECT_TRUE(server.stop());
    EXPECT_TRUE(used.ended());
    EXPECT_TRUE(silent.ended());
    EXPECT_EQ(log.lines.back(),
              "http: stopped; closed 2 idle connections and 0 connections with half a head");
  });
}

TEST_P(drain_test, takes_in_who_waits_at_the_door) {
  run([] {
    // Connections that were never accepted when the stop began: serve() starts with an ended
    // context.
    server late{{.address = "127.0.0.1:0", .handler = hello, .log = [](std::string_view) {}}};
    ASSERT_TRUE(late.listen());
    std::vector<http_client> clients;
    for (int i = 0; i < 5; ++i) {
      clients.emplace_back(late.address());
      clients.back().send(get_request);
    }
    auto [ctx, stop] = with_cancel(context::background());
    stop();
    test::semaphore served;
    go([&] {
      EXPECT_TRUE(late.serve(ctx));
      served.post();
    });
    for (auto& client : clients) {
      const http_reply reply = client.reply();
      EXPECT_EQ(reply.body, "hello");
      EXPECT_TRUE(reply.says_close());
      client.close();
    }
    served.wait();
    EXPECT_FALSE(net::dial(context::background(), late.address()));
  });
}

// The descriptor that listens at this address, found among all of this process; -1 if none does.
int listening_descriptor(const net::address& where) {
  for (int fd = 3; fd < 1024; ++fd) {
    int listening = 0;
    socklen_t size = sizeof listening;
    if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || listening == 0) {
      continue;
    }
    sockaddr_storage own{};
    size = sizeof own;
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size);
    if (net::address::from_native(&own, size) == where) return fd;
  }
  return -1;
}

// Goal:   who has asked for a connection before the stop, and completes the handshake after it
//         began, is served.
// Method: a listener that defers takes an ACK without data for none, so the handshake is under way
//         until the client sends its request. It does when the door is seen to wait.
TEST_P(drain_test, waits_for_handshakes_under_way) {
  run([] {
    listening_log log;
    running_server server{{.handler = hello, .drain = 10s, .log = log.sink()}};
    const int door = listening_descriptor(server->address());
    ASSERT_GE(door, 0);
    const int seconds = 10;
    ASSERT_EQ(::setsockopt(door, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof seconds), 0);
    auto client = server.client();
    server.begin_stop();
    log.draining.wait();
    while (test::parked(runtime::current(), detail::wait_reason::io_accept) == 0) {
      ASSERT_GE(listening_descriptor(server->address()), 0) << "the door was closed";
      yield();
    }
    client.send(get_request);
    const http_reply reply = client.reply();
    EXPECT_EQ(reply.body, "hello");
    EXPECT_TRUE(reply.says_close());
    client.close();
    EXPECT_TRUE(server.wait());
    EXPECT_EQ(log.lines.back(), "http: stopped");
  });
}

// Handshakes that never complete do not keep the door open for longer than its bound.
TEST_P(drain_test, does_not_wait_for_a_handshake_longer_than_the_drain) {
  run([] {
    listening_log log;
    running_server server{{.handler = hello, .drain = 10ms, .log = log.sink()}};
    const int seconds = 10;
    ASSERT_EQ(::setsockopt(listening_descriptor(server->address()), IPPROTO_TCP, TCP_DEFER_ACCEPT,
                           &seconds, sizeof seconds),
              0);
    auto client = server.client();
    EXPECT_TRUE(server.stop());
    EXPECT_NE(std::ranges::find(log.lines, "http: 1 handshake did not complete in time"),
              log.lines.end());
  });
}

// Lets this process open no descriptor more, until it is lifted.
class no_more_descriptors {
 public:
  no_more_descriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const int lowest_free = ::dup(STDIN_FILENO);
    ::close(lowest_free);
    rlimit now = before_;
    now.rlim_cur = static_cast<rlim_t>(lowest_free);
    ::setrlimit(RLIMIT_NOFILE, &now);
  }
  ~no_more_descriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  no_more_descriptors(const no_more_descriptors&) = delete;
  no_more_descriptors& operator=(const no_more_descriptors&) = delete;

 private:
  rlimit before_{};
};

// A connection to the server whose descriptor was got before they became scarce.
class socket_of_before {
 public:
  socket_of_before() : fd_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)} {}
  http_client connect(const net::address& to) {
    sockaddr_storage native{};
    const auto size = static_cast<socklen_t>(to.to_native(&native));
    EXPECT_EQ(::connect(fd_, reinterpret_cast<const sockaddr*>(&native), size), 0);
    return http_client{net::conn::adopt(fd_).value()};
  }

 private:
  int fd_;
};

// Goal:   who waits at the door for want of descriptors is taken in as soon as one comes free.
TEST_P(drain_test, takes_in_who_waits_for_a_descriptor) {
  run([] {
    listening_log log;
    running_server server{{.handler = hello, .drain = 10s, .log = log.sink()}};
    auto idle = server.client();
    EXPECT_EQ(idle.get("/").status, 200);
    socket_of_before one;
    socket_of_before another;
    const no_more_descriptors none_left;
    auto first = one.connect(server->address());
    auto second = another.connect(server->address());
    first.send(get_request);
    second.send(get_request);
    server.begin_stop();
    log.at_the_door.wait();
    idle.close();  // Two descriptors: its own, and the server's.
    EXPECT_EQ(first.reply().body, "hello");
    EXPECT_EQ(second.reply().body, "hello");
    first.close();
    second.close();
    EXPECT_TRUE(server.wait());
  });
}

TEST_P(drain_test, makes_room_at_the_door_when_the_drain_is_over) {
  run([] {
    listening_log log;
    running_server server{{.handler = hello, .drain = 20ms, .log = log.sink()}};
    auto idle = server.client();
    EXPECT_EQ(idle.get("/").status, 200);
    socket_of_before one;
    const no_more_descriptors none_left;
    auto waits = one.connect(server->address());
    waits.send(get_request);
    server.begin_stop();
    EXPECT_EQ(waits.reply().body, "hello") << "in place of the one that was idle";
    EXPECT_TRUE(idle.ended());
    waits.close();
    EXPECT_TRUE(server.wait());
  });
}

TEST_P(drain_test, names_the_clients_that_it_lost_at_the_door) {
  run([] {
    test::semaphore running;
    test::semaphore ended;
    listening_log log;
    running_server server{{.handler =
                               [&](request& req, response&) {
                                 running.post();
                                 req.context().wait();
                                 ended.post();
                               },
                           .drain = 10ms,
                           .shutdown_timeout = 30ms,
                           .log = log.sink()}};
    auto client = server.client();
    client.send(get_request);
    running.wait();
    socket_of_before one;
    const no_more_descriptors none_left;
    auto waits = one.connect(server->address());
    const auto stopped = server.stop();
    ASSERT_FALSE(stopped);
    const std::string text = stopped.error().message();
    EXPECT_NE(text.find("1 client lost at the door: accept tcp"), std::string::npos) << text;
    EXPECT_NE(text.find("1 request cut: GET /"), std::string::npos) << text;
    EXPECT_NE(log.lines.back().find("1 client lost at the door"), std::string::npos);
    EXPECT_EQ(waits.reply().status, 0);
    ended.wait();
  });
}

// Goal:   bounds that are too long to be added to a point in time are none.
TEST_P(drain_test, has_no_bound_if_the_longest_is_asked_for) {
  run([] {
    listening_log log;
    test::semaphore running;
    test::semaphore finish;
    running_server server{{.handler =
                               [&](request& req, response& res) {
                                 const context ctx = req.context();
                                 running.post();
                                 finish.wait();
                                 EXPECT_FALSE(ctx.err());
                                 res.text("hello");
                               },
                           .drain = clock::duration::max(),
                           .shutdown_timeout = clock::duration::max(),
                           .log = log.sink()}};
    auto client = server.client();
    client.send(get_request);
    running.wait();
    server.begin_stop();
    log.draining.wait();
    test::until_parked(1, detail::wait_reason::drain);
    finish.post();
    EXPECT_EQ(client.reply().body, "hello");
    client.close();
    EXPECT_TRUE(server.wait());
  });
}

TEST_P(drain_test, lets_a_handler_finish_and_decides_late_to_close) {
  run([] {
    listening_log log;
    test::semaphore running;
    test::semaphore finish;
    running_server server{{.handler =
                               [&](request& req, response& res) {
                                 running.post();
                                 finish.wait();
                                 EXPECT_FALSE(req.context().err());
                                 res.text("hello");
                               },
                           .drain = 10ms,
                           .log = log.sink()}};
    auto client = server.client();
    client.send(get_request);
    running.wait();
    EXPECT_EQ(server->in_flight().size(), 1U);
    server.begin_stop();
    log.draining.wait();
    EXPECT_EQ(log.lines.back(), "http: draining (1 request)");
    sleep(20ms);
    finish.post();
    const http_reply reply = client.reply();
    EXPECT_EQ(reply.body, "hello");
    EXPECT_TRUE(reply.says_close());
    client.close();
    EXPECT_TRUE(server.wait());
  });
}

TEST_P(drain_test, gives_half_a_head_the_time_of_the_drain) {
  run([] {
    listening_log log;
    running_server server{{.handler = hello, .drain = 100ms, .log = log.sink()}};
    auto completes = server.client();
    auto stays_half = server.client();
    completes.send(get_request.substr(0, 20));
    stays_half.send(get_request.substr(0, 20));
    while (server->connections() < 2) yield();
    server.begin_stop();
    log.draining.wait();
    completes.send(get_request.substr(20));
    const http_reply reply = completes.reply();
    EXPECT_EQ(reply.body, "hello");
    EXPECT_TRUE(reply.says_close());
    completes.close();
    EXPECT_EQ(stays_half.reply().status, 408);
    EXPECT_TRUE(stays_half.ended());
    stays_half.close();
    EXPECT_TRUE(server.wait()) << "a head that was never complete is no request";
    EXPECT_NE(log.lines.back().find("1 connection with half a head"), std::string::npos);
  });
}

TEST_P(drain_test, answers_what_was_pipelined_before_it_closes) {
  run([] {
    listening_log log;
    test::semaphore running;
    test::semaphore finish;
    running_server server{{.handler =
                               [&](request& req, response& res) {
                                 if (req.path() == "/1") {
                                   running.post();
                                   finish.wait();
                                 }
                                 res.text(req.path());
                               },
                           .log = log.sink()}};
    auto client = server.client();
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
        "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n");
    running.wait();
    server.begin_stop();
    log.draining.wait();
    finish.post();
    EXPECT_EQ(client.reply().body, "/1");
    EXPECT_EQ(client.reply().body, "/2");
    const http_reply last = client.reply();
    EXPECT_EQ(last.body, "/3");
    EXPECT_TRUE(last.says_close());
    EXPECT_TRUE(client.ended());
    client.close();
    EXPECT_TRUE(server.wait());
  });
}

TEST_P(drain_test, ends_who_does_not_leave_after_the_last_response) {
  run([] {
    listening_log log;
    running_server server{{.handler = hello, .linger = 50ms, .log = log.sink()}};
    auto client = server.client();
    EXPECT_EQ(client.get("/").status, 200);
    server.begin_stop();
    log.draining.wait();
    EXPECT_EQ(client.get("/").status, 200);
    EXPECT_TRUE(server.wait()) << "while the client holds its end open";
    client.close();
  });
}

TEST_P(drain_test, cuts_and_names_what_is_left_at_the_bound) {
  run([] {
    test::semaphore running;
    test::semaphore ended;
    listening_log log;
    running_server server{{.handler =
                               [&](request& req, response&) {
                                 const context ctx = req.context();
                                 running.post();
                                 ctx.wait();
                                 EXPECT_TRUE(ctx.err()->is(errc::canceled));
                                 EXPECT_TRUE(cause(ctx)->is(errc::shutting_down));
                                 ended.post();
                               },
                           .drain = 20ms,
                           .shutdown_timeout = 80ms,
                           .log = log.sink()}};
    auto client = server.client();
    client.send("GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    running.wait();
    auto idle = server.client();
    const auto since = clock::now();
    const auto stopped = server.stop();
    EXPECT_GE(clock::now() - since, 80ms);
    ASSERT_FALSE(stopped);
    EXPECT_TRUE(stopped.error().is(errc::deadline_exceeded));
    const std::string text = stopped.error().message();
    EXPECT_NE(text.find("1 request cut: GET /never from 127.0.0.1:"), std::string::npos) << text;
    ended.wait();
    EXPECT_EQ(client.reply().status, 0);
    EXPECT_TRUE(idle.ended());
  });
}

// With a drain as long as the bound, everybody is cut there; each is told of once.
TEST_P(drain_test, tells_of_idle_connections_and_half_heads_it_cut_at_the_bound) {
  run([] {
    listening_log log;
    running_server server{
        {.handler = hello, .drain = 10s, .shutdown_timeout = 50ms, .log = log.sink()}};
    auto silent = server.client();
    auto idle = server.client();
    EXPECT_EQ(idle.get("/").status, 200);
    auto half = server.client();
    half.send(get_request.substr(0, 20));
    test::until_parked(1, detail::wait_reason::io_read);
    while (server->connections() < 3) yield();
    EXPECT_TRUE(server.stop());
    EXPECT_EQ(log.lines.back(),
              "http: stopped; closed 2 idle connections and 1 connection with half a head");
  });
}

// A handler that nothing can move loses its client, and keeps nobody from stopping.
TEST_P(drain_test, does_not_wait_for_a_handler_that_ignores_its_context) {
  run([] {
    test::semaphore running;
    test::semaphore release;
    test::semaphore left;
    {
      running_server server{{.handler =
                                 [&](request&, response& res) {
                                   running.post();
                                   release.wait();
                                   res.text("too late");
                                   left.post();
                                 },
                             .drain = 10ms,
                             .shutdown_timeout = 30ms}};
      auto client = server.client();
      client.send(get_request);
      running.wait();
      EXPECT_TRUE(server.stop().error().is(errc::deadline_exceeded));
      EXPECT_EQ(client.reply().status, 0);
    }
    release.post();
    left.wait();
  });
}

// A request whose body never comes is one that was cut.
TEST_P(drain_test, counts_half_a_body_as_a_cut_request) {
  run([] {
    test::semaphore running;
    test::semaphore ended;
    running_server server{{.handler = [&](request& req, response&) -> result<> {
                             running.post();
                             const auto body = req.read_all();
                             ended.post();
                             return body ? result<>{} : fail(body.error());
                           },
                           .drain = 10ms,
                           .shutdown_timeout = 30ms}};
    auto client = server.client();
    client.send("POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345");
    running.wait();
    const auto stopped = server.stop();
    ASSERT_FALSE(stopped);
    EXPECT_NE(stopped.error().message().find("POST /half"), std::string::npos);
    ended.wait();
  });
}

TEST_P(drain_test, goes_on_as_before_during_the_delay) {
  run([] {
    listening_log log;
    test::semaphore told;
    running_server server{
        {.handler = hello, .drain_delay = 100ms, .drain = 10ms, .log = log.sink()}};
    server->on_shutdown([&] { told.post(); });
    EXPECT_FALSE(server->draining());
    server.begin_stop();
    told.wait();
    EXPECT_TRUE(server->draining());
    auto client = server.client();
    const http_reply reply = client.get("/");
    EXPECT_EQ(reply.body, "hello");
    EXPECT_FALSE(reply.says_close());
    EXPECT_TRUE(server.wait());
    EXPECT_TRUE(client.ended());
  });
}

TEST_P(drain_test, can_be_asked_for_by_shutdown) {
  run([] {
    running_server server{{.handler = hello, .drain = 10ms}};
    auto client = server.client();
    EXPECT_EQ(client.get("/").status, 200);
    EXPECT_TRUE(server->shutdown(context::background()));
    EXPECT_TRUE(server.wait());
    EXPECT_TRUE(client.ended());
    EXPECT_TRUE(server->shutdown(context::background())) << "again: what it came to";
  });
}

TEST_P(drain_test, is_cut_short_by_the_context_of_shutdown) {
  run([] {
    test::semaphore running;
    test::semaphore ended;
    running_server server{{.handler =
                               [&](request& req, response&) {
                                 running.post();
                                 req.context().wait();
                                 ended.post();
                               },
                           .shutdown_timeout = 1h}};
    auto client = server.client();
    client.send(get_request);
    running.wait();
    const auto stopped = server->shutdown(with_timeout(context::background(), 30ms));
    ASSERT_FALSE(stopped);
    EXPECT_TRUE(stopped.error().is(errc::deadline_exceeded));
    EXPECT_FALSE(server.wait());
    ended.wait();
  });
}

TEST_P(drain_test, does_not_happen_on_close) {
  run([] {
    test::semaphore running;
    test::semaphore ended;
    running_server server{{.handler = [&](request& req, response&) {
      running.post();
      req.context().wait();
      ended.post();
    }}};
    auto client = server.client();
    client.send(get_request);
    running.wait();
    server->close();
    EXPECT_TRUE(server.wait().error().is(errc::closed));
    EXPECT_EQ(client.reply().status, 0);
    ended.wait();
  });
}

}  // namespace
}  // namespace exeunt::http
