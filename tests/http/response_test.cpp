// SPDX-License-Identifier: Apache-2.0
// Responses on the wire.
#include <exeunt/http/response.hpp>

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <string>

#include <exeunt/base/error.hpp>
#include <exeunt/http/server.hpp>
#include <exeunt/sched/runtime.hpp>

#include "support/http_client.hpp"
#include "support/on_workers.hpp"

namespace exeunt::http {
namespace {

using namespace std::chrono_literals;
using test::http_client;
using test::http_reply;
using test::running_server;

class response_test : public test::on_workers {};
EXEUNT_ON_WORKERS(response_test);

// HR-01: length is known, the type is what was said.
TEST_P(response_test, has_length_and_type) {
  run([] {
    running_server server{{.handler = [](request& req, response& res) {
      if (req.path() == "/json") res.json(R"({"a":1})");
      if (req.path() == "/own") {
        res.header("content-type", "text/html");
        res.text("<p>");
      }
      if (req.path() == "/body") res.body(std::string(3, 'b'));
      if (req.path() == "/view") res.body_view("constant");
      if (req.path() == "/404") res.status(404).header("X-A", "1");
    }}};
    auto client = server.client();
    http_reply reply = client.get("/json");
    EXPECT_EQ(reply.field("Content-Type"), "application/json");
    EXPECT_EQ(reply.body, R"({"a":1})");
    reply = client.get("/own");
    EXPECT_EQ(reply.field("Content-Type"), "text/html");
    EXPECT_EQ(reply.head.find("text/plain"), std::string::npos);
    reply = client.get("/body");
    EXPECT_EQ(reply.body, "bbb");
    EXPECT_EQ(reply.field("Content-Type"), std::nullopt);
    EXPECT_EQ(client.get("/view").body, "constant");
    reply = client.get("/404");
    EXPECT_EQ(reply.status, 404);
    EXPECT_EQ(reply.field("Content-Length"), "0");
    EXPECT_EQ(reply.field("X-A"), "1");
    client.close();
  });
}

// Goal:   no byte beyond the announced length is sent, as the client would take it for the next
//         response.
TEST_P(response_test, never_sends_more_than_it_announced) {
  run([] {
    running_server server{{.handler = [](request& req, response& res) {
      res.content_length(5);
      if (req.path() == "/begun") {
        EXPECT_TRUE(res.write("012"));
        EXPECT_TRUE(res.flush());
        res.text("34HTTP/1.1 200 OK\r\n");
        EXPECT_TRUE(res.flush());
        return;
      }
      res.text("01234HTTP/1.1 200 OK\r\n");
      const auto flushed = res.flush();
      EXPECT_FALSE(flushed);
      EXPECT_TRUE(flushed.error().is(errc::limit_exceeded));
      EXPECT_FALSE(res.begun());
    }}};
    auto client = server.client();
    const http_reply reply = client.get("/");
    EXPECT_EQ(reply.status, 500);
    EXPECT_TRUE(reply.says_close());
    EXPECT_TRUE(client.ended());
    auto begun = server.client();
    begun.send("GET /begun HTTP/1.1\r\nHost: a\r\n\r\n");
    const auto got = begun.rest();
    ASSERT_TRUE(got);
    EXPECT_TRUE(got->ends_with("\r\n\r\n012")) << *got;
  });
}

// 205 has no body, and says so.
TEST_P(response_test, with_205_has_no_body) {
  run([] {
    running_server server{{.handler = [](request& req, response& res) {
      res.status(205).text("body");
      if (req.path() == "/streamed") {
        EXPECT_TRUE(res.flush());
        EXPECT_TRUE(res.write("more"));
      }
    }}};
    auto client = server.client();
    for (const char* const path : {"/", "/streamed"}) {
      const http_reply reply = client.get(path);
      EXPECT_EQ(reply.status, 205);
      EXPECT_EQ(reply.field("Content-Length"), "0");
      EXPECT_EQ(reply.field("Transfer-Encoding"), std::nullopt);
      EXPECT_EQ(reply.field("Content-Type"), std::nullopt);
      EXPECT_EQ(reply.body, "");
    }
    client.close();
  });
}

// Goal:   the last response arrives whole though the client, which asked for the end, sends an
//         empty line after its request.
// Method: a client with little room, so that most of the response is not with it yet when the
//         server is done; the line then meets a socket that is closed, unless it lingers.
TEST_P(response_test, lingers_for_who_asked_for_the_end_and_has_not_got_all) {
  run([] {
    running_server server{
        {.handler = [](request&, response& res) { res.body(std::string(65'536, 'x')); },
         .linger = 10s}};
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int little = 4096;
    ASSERT_EQ(::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof little), 0);
    sockaddr_storage native{};
    const auto size = static_cast<socklen_t>(server->address().to_native(&native));
    ASSERT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&native), size), 0);
    http_client client{net::conn::adopt(fd).value()};
    while (server->connections() == 0) yield();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    const auto& workers = runtime::current();
    char first = 0;
    ASSERT_EQ(client.conn().read({&first, 1}), 1U);
    while (workers.stats().fibers_alive > 2) yield();
    client.send("\r\n");
    const auto rest = client.rest();
    ASSERT_TRUE(rest) << "the end of the response was destroyed";
    EXPECT_TRUE(rest->ends_with(std::string(65'536, 'x')));
    client.close();
  });
}

TEST_P(response_test, replaces_or_adds_fields) {
  run([] {
    running_server server{{.handler = [](request&, response& res) {
      res.header("A", "1").header("a", "2").add_header("B", "3").add_header("B", "4");
    }}};
    auto client = server.client();
    const http_reply reply = client.get("/");
    EXPECT_EQ(reply.field("A"), "2");
    EXPECT_EQ(reply.head.find("1\r\n"), reply.head.rfind("1\r\n"));
    EXPECT_NE(reply.head.find("B: 3\r\nB: 4\r\n"), std::string::npos);
    client.close();
  });
}

TEST_P(response_test, refuses_fields_that_would_break_the_head) {
  run([] {
    running_server server{{.handler = [](request&, response& res) {
      EXPECT_THROW(res.header("X", "a\r\nY: b"), panic_error);
      EXPECT_THROW(res.header("X Y", "a"), panic_error);
      EXPECT_THROW(res.add_header("", "a"), panic_error);
      EXPECT_THROW(res.status(42), panic_error);
      EXPECT_THROW(res.header("Content-Length", "ten"), panic_error);
      res.header("Transfer-Encoding", "gzip").header("Connection", "upgrade");
    }}};
    auto client = server.client();
    const http_reply reply = client.get("/");
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.field("Transfer-Encoding"), std::nullopt);
    EXPECT_EQ(reply.field("Connection"), std::nullopt);
    client.close();
  });
}

// HK-02, HR-03: no body, no length, and the connection goes on.
TEST_P(response_test, without_a_body_keeps_the_connection) {
  run([] {
    running_server server{{.handler = [](request& req, response& res) {
      res.status(req.path() == "/204" ? 204 : 304);
      EXPECT_TRUE(res.write("not sent"));
      if (req.query() == "flush") {
        EXPECT_TRUE(res.flush());
      }
    }}};
    auto client = server.client();
    for (const char* target : {"/204", "/304", "/204?flush", "/304?flush"}) {
      const http_reply reply = client.get(target);
      EXPECT_EQ(reply.status, std::string_view{target}.starts_with("/204") ? 204 : 304);
      EXPECT_EQ(reply.field("Content-Length"), std::nullopt) << target;
      EXPECT_EQ(reply.field("Transfer-Encoding"), std::nullopt) << target;
    }
    client.close();
  });
}

// HR-04: the head of a GET, without its body.
TEST_P(response_test, to_head_has_no_body) {
  run([] {
    running_server server{{.handler = [](request& req, response& res) {
      if (req.path() == "/big") {
        EXPECT_TRUE(res.write(std::string(100'000, 'x')));
      } else if (req.path() == "/declared") {
        res.content_length(12345);
      } else {
        res.text("0123456789");
      }
    }}};
    auto client = server.client();
    for (const char* path : {"/", "/big", "/declared", "/"}) {
      client.send(std::string{"HEAD "} + path + " HTTP/1.1\r\nHost: a\r\n\r\n");
      const http_reply reply = client.reply(true);
      EXPECT_EQ(reply.status, 200);
      EXPECT_EQ(reply.field("Transfer-Encoding"), std::nullopt);
      if (path == std::string_view{"/"}) {
        EXPECT_EQ(reply.field("Content-Length"), "10");
      }
      if (path == std::string_view{"/declared"}) {
        EXPECT_EQ(reply.field("Content-Length"), "12345");
      }
    }
    EXPECT_EQ(client.get("/").body, "0123456789");
    client.close();
  });
}

// HR-06, HK-04: small writes after a flush become one chunk; the last one leaves at once.
TEST_P(response_test, is_chunked_when_it_is_flushed) {
  run([] {
    running_server server{{.handler = [](request&, response& res) {
      EXPECT_FALSE(res.begun());
      EXPECT_TRUE(res.flush());
      EXPECT_TRUE(res.begun());
      for (const char* piece : {"a", "b", "c"}) EXPECT_TRUE(res.write(std::string_view{piece}));
      res.status(500).header("Late", "1");
    }}};
    auto client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    const auto all = client.rest();
    ASSERT_TRUE(all);
    EXPECT_NE(all->find("200 OK"), std::string::npos);
    EXPECT_NE(all->find("Transfer-Encoding: chunked"), std::string::npos);
    EXPECT_TRUE(all->ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n")) << *all;
    EXPECT_EQ(all->find("Late"), std::string::npos);
  });
}

TEST_P(response_test, that_outgrows_its_buffer_is_streamed) {
  run([] {
    running_server server{{.handler = [](request& req, response& res) {
      if (req.query() == "length") res.content_length(100'000);
      for (int i = 0; i < 100; ++i) {
        EXPECT_TRUE(res.write(std::string(1000, static_cast<char>('a' + i % 26))));
      }
    }}};
    std::string expected;
    for (int i = 0; i < 100; ++i) expected += std::string(1000, static_cast<char>('a' + i % 26));
    auto client = server.client();
    http_reply reply = client.get("/");
    EXPECT_EQ(reply.field("Transfer-Encoding"), "chunked");
    EXPECT_TRUE(reply.whole && reply.body == expected);
    reply = client.get("/?length");
    EXPECT_EQ(reply.field("Content-Length"), "100000");
    EXPECT_TRUE(reply.whole && reply.body == expected);
    client.close();
    // HTTP/1.0 knows no chunks: the end of the connection ends the body.
    auto old = server.client();
    old.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    reply = old.reply();
    EXPECT_TRUE(reply.whole && reply.body == expected);
    EXPECT_TRUE(reply.says_close());
  });
}

TEST_P(response_test, keeps_to_its_announced_length) {
  run([] {
    running_server server{{.handler = [](request& req, response& res) {
      res.content_length(5);
      if (req.path() == "/long") {
        const auto written = res.write("123456");
        EXPECT_TRUE(!written && written.error().is(errc::limit_exceeded));
        EXPECT_TRUE(res.write("12345"));
      } else {
        EXPECT_TRUE(res.write("1234"));
        if (req.path() == "/late") {
          EXPECT_TRUE(res.flush());
        }
      }
    }}};
    auto client = server.client();
    EXPECT_EQ(client.get("/long").body, "12345");
    EXPECT_EQ(client.get("/short").status, 500) << "nothing was sent yet, so it can be said";
    client.close();
    auto late = server.client();
    EXPECT_FALSE(late.get("/late").whole);
  });
}

// HE-06: interim responses before the final one, with the fields so far.
TEST_P(response_test, can_be_preceded_by_interim_ones) {
  run([] {
    running_server server{{.handler = [](request&, response& res) {
      res.add_header("Link", "</a>");
      EXPECT_TRUE(res.inform(103));
      res.add_header("Link", "</b>");
      EXPECT_TRUE(res.inform(103));
      res.text("done");
    }}};
    auto client = server.client();
    http_reply reply = client.get("/");
    EXPECT_EQ(reply.status, 103);
    EXPECT_NE(reply.head.find("Link: </a>\r\n\r\n"), std::string::npos);
    reply = client.reply();
    EXPECT_NE(reply.head.find("Link: </a>\r\nLink: </b>\r\n\r\n"), std::string::npos);
    reply = client.reply();
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.body, "done");
    EXPECT_NE(reply.head.find("Link: </b>"), std::string::npos);
    client.close();
  });
}

// HR-07: an error drops what was prepared.
TEST_P(response_test, of_an_error_is_plain_text) {
  run([] {
    running_server server{{.handler = [](request& req, response& res) {
      if (req.path() == "/moved") return res.redirect(307, "/there");
      res.content_length(1000).header("Content-Type", "image/png").text("pixels");
      res.error(418, "I'm a teapot");
    }}};
    auto client = server.client();
    http_reply reply = client.get("/");
    EXPECT_EQ(reply.status, 418);
    EXPECT_EQ(reply.body, "I'm a teapot\n");
    EXPECT_EQ(reply.field("Content-Type"), "text/plain; charset=utf-8");
    EXPECT_EQ(reply.field("X-Content-Type-Options"), "nosniff");
    reply = client.get("/moved");
    EXPECT_EQ(reply.status, 307);
    EXPECT_EQ(reply.field("Location"), "/there");
    client.close();
  });
}

// HT-03: the write to a client that takes nothing fails at the limit, and ends the handler.
TEST_P(response_test, to_a_client_that_takes_nothing_fails_at_the_write_timeout) {
  run([] {
    test::semaphore failed;
    running_server server{{.handler =
                               [&](request&, response& res) {
                                 const std::string block(100'000, 'x');
                                 result<> written;
                                 while (written) written = res.write(block);
                                 EXPECT_TRUE(written.error().is(errc::deadline_exceeded));
                                 failed.post();
                               },
                           .write_timeout = 100ms}};
    auto client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    failed.wait();
    EXPECT_FALSE(client.reply().whole);
  });
}

}  // namespace
}  // namespace exeunt::http
