// SPDX-License-Identifier: Apache-2.0
#include <exeunt/http/server.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>

#include <exeunt/sched/runtime.hpp>

#include "support/http_client.hpp"
#include "support/on_workers.hpp"
#include "support/until_parked.hpp"

namespace exeunt::http {
namespace {

using namespace std::chrono_literals;
using test::http_client;
using test::http_reply;
using test::running_server;

class server_test : public test::on_workers {};
EXEUNT_ON_WORKERS(server_test);

void hello(request&, response& res) { res.text("Hello, World!"); }

// Says what it was asked, and reads the body if there is one.
result<> mirror(request& req, response& res) {
  const auto body = req.read_all();
  if (!body) return fail(body.error());
  res.text(req.method(), " ", req.path(), " ", *body);
  return {};
}

TEST(server_config_test, refuses_limits_that_a_pool_refuses) {
  const auto with = [](pool_limits spare) {
    server{{.handler = [](request&, response&) {}, .spare = spare}};
  };
  EXPECT_THROW(with({.per_worker = 257}), panic_error);
  EXPECT_THROW(with({.tick = clock::duration::zero()}), panic_error);
  EXPECT_NO_THROW(with({.per_worker = 0, .common = 0}));
}

TEST_P(server_test, answers_with_the_exact_bytes) {
  run([] {
    running_server server{{.handler = hello}};
    auto client = server.client();
    const http_reply reply = client.get("/");
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.body, "Hello, World!");
    EXPECT_EQ(reply.field("Content-Length"), "13");
    EXPECT_EQ(reply.field("Content-Type"), "text/plain; charset=utf-8");
    EXPECT_EQ(reply.field("Connection"), std::nullopt);
    ASSERT_TRUE(reply.field("Date"));
    EXPECT_EQ(reply.field("Date")->size(), 29U);
    EXPECT_EQ(client.get("/").status, 200);
    client.close();
  });
}

TEST_P(server_test, shows_the_request_to_its_handler) {
  run([] {
    running_server server{{.handler = [](request& req, response& res) {
      EXPECT_EQ(req.method(), "GET");
      EXPECT_EQ(req.target(), "/a%20b?x=1&y=%41+%42&z");
      EXPECT_EQ(req.path(), "/a%20b");
      EXPECT_EQ(req.query(), "x=1&y=%41+%42&z");
      EXPECT_EQ(req.query_value("x"), "1");
      EXPECT_EQ(req.query_value("y"), "A B");
      EXPECT_EQ(req.query_value("z"), "");
      EXPECT_EQ(req.query_value("w"), std::nullopt);
      EXPECT_EQ(req.host(), "example.org:80");
      EXPECT_EQ(req.version_minor(), 1);
      EXPECT_EQ(req.header("x-Thing"), "some thing");
      EXPECT_EQ(req.header("y"), std::nullopt);
      EXPECT_EQ(req.headers().size(), 2U);
      EXPECT_EQ(req.content_length(), 0U);
      EXPECT_EQ(req.remote_address().host(), "127.0.0.1");
      EXPECT_NE(req.local_address().port(), 0);
      req.set_path_value("id", "7");
      EXPECT_EQ(req.path_value("id"), "7");
      EXPECT_EQ(req.path_value("no"), "");
      res.status(201).header("X-A", "1").text("n=", 42, ' ', true, " ", 1.5);
    }}};
    auto client = server.client();
    client.send(
        "GET /a%20b?x=1&y=%41+%42&z HTTP/1.1\r\nHost: example.org:80\r\n"
        "X-Thing:  some thing \r\n\r\n");
    const http_reply reply = client.reply();
    EXPECT_EQ(reply.status, 201);
    EXPECT_EQ(reply.field("X-A"), "1");
    EXPECT_EQ(reply.body, "n=42 true 1.5");
    client.close();
  });
}

// HK-03, HK-13: each pipelined request is answered, in order; empty lines between are skipped.
TEST_P(server_test, answers_pipelined_requests_in_order) {
  run([] {
    running_server server{{.handler = mirror}};
    auto client = server.client();
    client.send(
        "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        "\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
        "POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "2\r\nde\r\n0\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    EXPECT_EQ(client.reply().body, "POST /1 abc");
    EXPECT_EQ(client.reply().body, "GET /2 ");
    EXPECT_EQ(client.reply().body, "POST /3 de");
    const http_reply last = client.reply();
    EXPECT_EQ(last.body, "GET /4 ");
    EXPECT_TRUE(last.says_close());
    EXPECT_TRUE(client.ended());
  });
}

TEST_P(server_test, finds_requests_however_they_are_cut) {
  run([] {
    running_server server{{.handler = mirror, .header_limit = 1024}};
    auto client = server.client();
    const std::string filler(700, 'f');
    std::string all;
    for (int i = 0; i < 20; ++i) {
      all += "POST /" + std::to_string(i) + " HTTP/1.1\r\nHost: a\r\nX: " + filler +
             "\r\nContent-Length: 600\r\n\r\n" + std::string(600, 'b');
    }
    test::semaphore sent;
    go([&] {
      for (std::size_t at = 0; at < all.size(); at += 997) {
        client.send(std::string_view{all}.substr(at, 997));
        yield();
      }
      sent.post();
    });
    for (int i = 0; i < 20; ++i) {
      EXPECT_EQ(client.reply().body, "POST /" + std::to_string(i) + " " + std::string(600, 'b'));
    }
    sent.wait();
    client.close();
  });
}

// HK-01, HK-14: HTTP/1.0 ends after one response unless it asks; "close" ends, by either side.
TEST_P(server_test, ends_the_connection_as_agreed) {
  run([] {
    running_server server{{.handler = [](request& req, response& res) {
      if (req.path() == "/close") res.close_connection();
      res.text("x");
    }}};
    struct row {
      const char* request;
      std::optional<std::string> connection;
      bool ends;
    };
    const row rows[] = {
        {"GET / HTTP/1.0\r\n\r\n", std::nullopt, true},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "keep-alive", false},
        {"GET /close HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "close", true},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "close", true},
        {"GET /close HTTP/1.1\r\nHost: a\r\n\r\n", "close", true},
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", std::nullopt, false},
    };
    for (const row& one : rows) {
      auto client = server.client();
      client.send(one.request);
      const http_reply reply = client.reply();
      EXPECT_EQ(reply.body, "x") << one.request;
      EXPECT_EQ(reply.field("Connection"), one.connection) << one.request;
      if (one.ends) {
        EXPECT_TRUE(client.ended()) << one.request;
      } else {
        client.send(one.request);
        EXPECT_EQ(client.reply().body, "x") << one.request;
      }
      client.close();
    }
  });
}

// HL-01, HP-01, HP-02, HP-04, HP-07, HP-08: refused with a text, and the reply is not destroyed by
// what the client goes on sending.
TEST_P(server_test, refuses_what_it_must) {
  run([] {
    std::atomic<int> calls{0};
    running_server server{{.handler = [&](request&, response&) { ++calls; },
                           .header_limit = 2048,
                           .max_header_fields = 8,
                           .body_limit = 100}};
    const std::string host = "Host: a\r\n";
    const std::pair<std::string, int> rows[] = {
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" + host + host + "\r\n", 400},
        {"G(T / HTTP/1.1\r\n" + host + "\r\n", 400},
        {"GET / HTTP/1.1\r\n" + host + "a b: c\r\n\r\n", 400},
        {"GET / HTTP/2.0\r\n" + host + "\r\n", 505},
        {"GET /" + std::string(1500, 'p') + " HTTP/1.1\r\n" + host + "\r\n", 414},
        {"GET / HTTP/1.1\r\n" + host + "X: " + std::string(3000, 'x') + "\r\n\r\n", 431},
        {"GET / HTTP/1.1\r\n" + host +
             "A: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1\r\nF: 1\r\nG: 1\r\n"
             "H: 1\r\nI: 1\r\n\r\n",
         431},
        {"POST / HTTP/1.1\r\n" + host + "Content-Length: 101\r\n\r\n", 413},
        {"POST / HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip\r\n\r\n", 501},
        {"GET / HTTP/1.1\r\n" + host + "Expect: miracles\r\n\r\n", 417},
        {"GET * HTTP/1.1\r\n" + host + "\r\n", 400},
    };
    for (const auto& [text, status] : rows) {
      auto client = server.client();
      client.send(text + std::string(20'000, 'z'));
      const http_reply reply = client.reply();
      EXPECT_EQ(reply.status, status) << text.substr(0, 60);
      EXPECT_TRUE(reply.says_close());
      EXPECT_FALSE(reply.body.empty());
      EXPECT_TRUE(client.ended());
      client.close();
    }
    EXPECT_EQ(calls, 0);
  });
}

// HP-15: "OPTIONS *" is not for handlers.
TEST_P(server_test, answers_options_for_the_server_as_a_whole) {
  run([] {
    running_server server{{.handler = [](request&, response& res) { res.error(404); }}};
    auto client = server.client();
    client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    const http_reply reply = client.reply();
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.field("Content-Length"), "0");
    EXPECT_EQ(client.get("/").status, 404);
    client.close();
  });
}

TEST_P(server_test, answers_failures_by_their_code) {
  run([] {
    running_server server{{.handler = [](request& req, response& res) -> result<> {
      res.text("half an answer");
      const std::string_view path = req.path();
      if (path == "/malformed") return fail(errc::malformed, "secret");
      if (path == "/limit") return fail(errc::limit_exceeded, "secret");
      if (path == "/deadline") return fail(errc::deadline_exceeded, "secret");
      if (path == "/stopping") return fail(errc::shutting_down, "secret");
      return fail(error{std::errc::no_such_file_or_directory}.wrap("secret"));
    }}};
    auto client = server.client();
    const std::pair<const char*, int> rows[] = {
        {"/malformed", 400}, {"/limit", 413}, {"/deadline", 503}, {"/stopping", 503}, {"/x", 500}};
    for (const auto& [path, status] : rows) {
      const http_reply reply = client.get(path);
      EXPECT_EQ(reply.status, status) << path;
      EXPECT_EQ(reply.body.find("secret"), std::string::npos);
      EXPECT_EQ(reply.body.find("half"), std::string::npos);
    }
    client.close();
  });
}

// HS-15: one handler's exception is answered and counted, and hurts nobody else.
TEST_P(server_test, answers_an_exception_with_500_and_goes_on) {
  run([] {
    running_server server{{.handler = [](request& req, response& res) {
      if (req.path() == "/throw") throw std::runtime_error{"a handler's bug"};
      res.text("fine");
    }}};
    auto other = server.client();
    EXPECT_EQ(other.get("/").status, 200);
    auto client = server.client();
    const auto before = runtime::current().stats().panics;
    const http_reply reply = client.get("/throw");
    EXPECT_EQ(reply.status, 500);
    EXPECT_TRUE(reply.says_close());
    EXPECT_EQ(reply.body.find("bug"), std::string::npos);
    EXPECT_TRUE(client.ended());
    EXPECT_EQ(runtime::current().stats().panics, before + 1);
    EXPECT_EQ(server->panics(), 1U);
    EXPECT_EQ(other.get("/").body, "fine");
    other.close();
    client.close();
  });
}

TEST_P(server_test, cuts_the_response_that_had_begun_before_the_exception) {
  run([] {
    running_server server{{.handler = [](request& req, response& res) {
      EXPECT_TRUE(res.write(std::string_view{"part"}));
      EXPECT_TRUE(res.flush());
      if (req.version_minor() == 1) throw std::runtime_error{"late"};
      throw std::runtime_error{"late, too"};
    }}};
    auto chunked = server.client();
    const http_reply half = chunked.get("/");
    EXPECT_EQ(half.body, "part");
    EXPECT_FALSE(half.whole);
    // Without framing only a reset says that this is not the end.
    auto old = server.client();
    old.send("GET / HTTP/1.0\r\n\r\n");
    EXPECT_EQ(old.reply().whole, false);
  });
}

// HK-13: a connection that ends without a byte is nobody's fault.
TEST_P(server_test, closes_silently_on_a_silent_end) {
  run([] {
    running_server server{{.handler = hello}};
    auto client = server.client();
    client.end_writing();
    EXPECT_TRUE(client.ended());
  });
}

TEST_P(server_test, answers_a_client_that_ended_its_writing) {
  run([] {
    running_server server{{.handler = hello}};
    auto client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.end_writing();
    EXPECT_EQ(client.reply().body, "Hello, World!");
    EXPECT_TRUE(client.ended());

    auto half = server.client();
    half.send("GET / HTTP/1.1\r\nHo");
    half.end_writing();
    EXPECT_EQ(half.reply().status, 400);
  });
}

TEST_P(server_test, records_each_response_in_the_access_log) {
  run([] {
    std::vector<std::string> lines;
    {
      running_server server{{.handler = mirror, .access_log = [&](const access_record& r) {
                               EXPECT_GE(r.took, clock::duration::zero());
                               EXPECT_EQ(r.remote->host(), "127.0.0.1");
                               lines.push_back(std::string{r.method} + " " + std::string{r.target} +
                                               " " + std::to_string(r.status) + " " +
                                               std::to_string(r.body_bytes));
                             }}};
      auto client = server.client();
      client.post("/p?q", "abc");
      client.send("GET / HTTP/1.1\r\n\r\n");
      client.reply();
      client.close();
    }
    EXPECT_EQ(lines, (std::vector<std::string>{"POST /p?q 200 11", "GET / 400 0"}));
  });
}

TEST_P(server_test, says_what_cannot_be_bound) {
  run([] {
    running_server first{{.handler = hello}};
    const std::string taken = first->address().to_string();
    server second{{.address = taken, .handler = hello}};
    const auto bound = second.listen();
    ASSERT_FALSE(bound);
    EXPECT_EQ(bound.error().message(), "listen tcp " + taken + ": address already in use");
    EXPECT_TRUE(bound.error().is(std::errc::address_in_use));
    const auto served = second.serve(context::background());
    ASSERT_FALSE(served);
    EXPECT_TRUE(served.error().is(std::errc::address_in_use));
  });
}

// Goal:   beyond the most connections newcomers wait, and come in when one ends, or at the stop.
TEST_P(server_test, lets_newcomers_wait_when_it_is_full) {
  run([] {
    running_server server{{.handler = hello, .max_connections = 2}};
    auto first = server.client();
    auto second = server.client();
    EXPECT_EQ(first.get("/").status, 200);
    EXPECT_EQ(second.get("/").status, 200);
    auto third = server.client();
    third.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    test::until_parked(1, detail::wait_reason::io_accept);
    EXPECT_EQ(server->connections(), 2U);
    first.close();
    EXPECT_EQ(third.reply().status, 200);
    auto fourth = server.client();
    fourth.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    server.begin_stop();
    EXPECT_EQ(fourth.reply().status, 200);
    second.close();
    third.close();
    fourth.close();
    EXPECT_TRUE(server.wait());
  });
}

// HS-03, HS-04: what never served can be stopped, twice, and does not serve afterwards.
TEST_P(server_test, stays_closed_if_it_was_closed_before_it_served) {
  run([] {
    server stopped{{.address = "127.0.0.1:0", .handler = hello}};
    ASSERT_TRUE(stopped.listen());
    const net::address where = stopped.address();
    EXPECT_TRUE(stopped.shutdown(context::background()));
    EXPECT_TRUE(stopped.shutdown(context::background()));
    const auto served = stopped.serve(context::background());
    ASSERT_FALSE(served);
    EXPECT_TRUE(served.error().is(errc::closed));
    EXPECT_FALSE(net::dial(context::background(), where));

    server closed{{.address = "127.0.0.1:0", .handler = hello}};
    closed.close();
    closed.close();
    EXPECT_TRUE(closed.listen().error().is(errc::closed));
  });
}

// HS-05: of two serve() on one server one serves.
TEST_P(server_test, serves_once) {
  run([] {
    running_server server{{.handler = hello}};
    auto client = server.client();
    EXPECT_EQ(client.get("/").status, 200);
    EXPECT_TRUE(server->serve(context::background()).error().is(errc::closed));
    client.close();
    EXPECT_TRUE(server.stop());
    EXPECT_TRUE(server->serve(context::background()).error().is(errc::closed));
  });
}

// A server that is no proxy opens no tunnels: what follows the head is not for it to read.
TEST_P(server_test, refuses_to_be_a_tunnel) {
  run([] {
    std::atomic<int> handled{0};
    running_server server{{.handler = [&](request&, response&) { ++handled; }}};
    auto client = server.client();
    client.send(
        "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\nGET /inside HTTP/1.1\r\nHost: b\r\n\r\n");
    const http_reply reply = client.reply();
    EXPECT_EQ(reply.status, 501);
    EXPECT_TRUE(reply.says_close());
    EXPECT_TRUE(client.ended());
    EXPECT_EQ(handled, 0);
  });
}

// Goal:   what the user's own call-backs throw is reported, and ends neither the process nor the
//         connection nor the stop.
TEST_P(server_test, outlives_logs_that_throw) {
  run([] {
    running_server server{
        {.handler = [](request&, response&) -> result<> { return fail(errc::closed, "no"); },
         .access_log = [](const access_record&) { throw std::runtime_error{"disk full"}; },
         .log = [](std::string_view) { throw std::runtime_error{"no log"}; }}};
    auto client = server.client();
    const auto before = runtime::current().stats().panics;
    EXPECT_EQ(client.get("/").status, 500);
    EXPECT_EQ(client.get("/").status, 500);
    client.send("nonsense\r\n\r\n");
    EXPECT_EQ(client.reply().status, 400);
    client.close();
    EXPECT_TRUE(server->shutdown(context::background()));
    EXPECT_TRUE(server.wait());
    // Twice for each of the failed, once for the refused, and three lines of the stop's.
    EXPECT_GE(runtime::current().stats().panics - before, 7U);
  });
}

TEST(server_on_a_unix_socket, answers) {
  test::run_on(2, [] {
    // An abstract name needs no file.
    server by_name{{.address = "@exeunt-http-server-test-" +
                               std::to_string(clock::now().time_since_epoch().count()),
                    .handler = hello,
                    .log = [](std::string_view) {}}};
    ASSERT_TRUE(by_name.listen());
    auto [ctx, stop] = with_cancel(context::background());
    test::semaphore served;
    go([&] {
      EXPECT_TRUE(by_name.serve(ctx));
      served.post();
    });
    {
      http_client client{by_name.address()};
      EXPECT_EQ(client.get("/").body, "Hello, World!");
    }
    stop();
    served.wait();
  });
}

}  // namespace
}  // namespace exeunt::http
