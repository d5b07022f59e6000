// SPDX-License-Identifier: Apache-2.0
// Bodies of requests: read, not read, too long, too slow, and promised.
#include <exeunt/http/server.hpp>

#include <gtest/gtest.h>

#include <string>

#include "support/http_client.hpp"
#include "support/on_workers.hpp"
#include "support/until_parked.hpp"

namespace exeunt::http {
namespace {

using namespace std::chrono_literals;
using test::http_client;
using test::http_reply;
using test::running_server;

class body_test : public test::on_workers {};
EXEUNT_ON_WORKERS(body_test);

result<> echo(request& req, response& res) {
  auto body = req.read_all();
  if (!body) return fail(body.error());
  res.body(std::move(*body));
  return {};
}

void ignore(request&, response& res) { res.text("ignored"); }

std::string head_of_post(std::string_view more) {
  return "POST / HTTP/1.1\r\nHost: a\r\n" + std::string{more} + "\r\n\r\n";
}

TEST_P(body_test, of_all_sizes_comes_back) {
  run([] {
    running_server server{{.handler = echo}};
    auto client = server.client();
    for (const std::size_t size : {0UZ, 1UZ, 1000UZ, 16'384UZ, 20'000UZ, 1'000'000UZ}) {
      std::string body(size, 'x');
      for (std::size_t i = 0; i < size; i += 7) body[i] = static_cast<char>('a' + i % 26);
      const http_reply reply = client.post("/", body);
      EXPECT_EQ(reply.status, 200);
      EXPECT_TRUE(reply.body == body) << size;
    }
    client.close();
  });
}

TEST_P(body_test, streams_both_ways) {
  run([] {
    running_server server{{.handler = [](request& req, response& res) -> result<> {
      if (req.path() == "/chunked") {
        EXPECT_EQ(req.content_length(), std::nullopt);
      }
      char bytes[100];
      while (true) {
        const auto count = req.read(bytes);
        if (!count) return fail(count.error());
        if (*count == 0) return {};
        if (auto sent = res.write({bytes, *count}); !sent) return sent;
        if (auto sent = res.flush(); !sent) return sent;
      }
    }}};
    auto client = server.client();
    client.send("POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("3\r\nabc\r\n");
    // The first part comes back before the second one is sent.
    char answer[4096];
    std::string got;
    while (got.find("abc\r\n") == std::string::npos) {
      const auto count = client.conn().read(answer);
      ASSERT_TRUE(count && *count > 0);
      got.append(answer, *count);
    }
    client.send("4\r\ndefg\r\n0\r\n\r\n");
    while (got.find("0\r\n\r\n") == std::string::npos) {
      const auto count = client.conn().read(answer);
      ASSERT_TRUE(count && *count > 0);
      got.append(answer, *count);
    }
    EXPECT_NE(got.find("3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"), std::string::npos) << got;
    EXPECT_EQ(client.post("/", "").status, 200) << "the connection goes on";
    client.close();
  });
}

// HL-03: an error only for what is longer than the caller's limit.
TEST_P(body_test, is_bounded_by_its_reader) {
  run([] {
    running_server server{{.handler = [](request& req, response& res) -> result<> {
      const auto body = req.read_all(100);
      if (!body) return fail(body.error());
      res.text(body->size());
      return {};
    }}};
    for (const char* framing : {"length", "chunked"}) {
      for (const std::size_t size : {99UZ, 100UZ, 101UZ, 5000UZ}) {
        auto client = server.client();
        const std::string body(size, 'x');
        if (std::string_view{framing} == "length") {
          client.send(head_of_post("Content-Length: " + std::to_string(size)) + body);
        } else {
          char hex[16];
          const auto end = std::to_chars(hex, hex + sizeof hex, size, 16).ptr;
          client.send(head_of_post("Transfer-Encoding: chunked") + std::string(hex, end) + "\r\n" +
                      body + "\r\n0\r\n\r\n");
        }
        const http_reply reply = client.reply();
        EXPECT_EQ(reply.status, size <= 100 ? 200 : 413) << framing << " " << size;
        client.close();
      }
    }
  });
}

TEST_P(body_test, beyond_the_limit_is_refused_where_it_shows) {
  run([] {
    running_server server{{.handler = echo, .body_limit = 1000}};
    auto client = server.client();
    client.send(head_of_post("Transfer-Encoding: chunked") + "3e8\r\n" + std::string(1000, 'x') +
                "\r\n1\r\ny\r\n0\r\n\r\n");
    const http_reply reply = client.reply();
    EXPECT_EQ(reply.status, 413);
    EXPECT_TRUE(reply.says_close());
    EXPECT_TRUE(client.ended());
  });
}

TEST_P(body_test, with_broken_framing_fails_the_read) {
  run([] {
    running_server server{{.handler = echo}};
    auto client = server.client();
    client.send(head_of_post("Transfer-Encoding: chunked") + "zz\r\n");
    EXPECT_EQ(client.reply().status, 400);
    EXPECT_TRUE(client.ended());

    auto short_one = server.client();
    short_one.send(head_of_post("Content-Length: 10") + "12345");
    short_one.end_writing();
    EXPECT_EQ(short_one.reply().status, 400);
  });
}

// HT-02: the stalled read fails, the handler can still answer.
TEST_P(body_test, that_stalls_fails_at_the_read_timeout) {
  run([] {
    running_server server{{.handler = [](request& req, response& res) -> result<> {
                             const auto body = req.read_all();
                             EXPECT_FALSE(body);
                             EXPECT_TRUE(body.error().is(errc::deadline_exceeded));
                             if (req.path() == "/own") {
                               res.text("my own answer");
                               return {};
                             }
                             return fail(body.error());
                           },
                           .read_timeout = 50ms}};
    auto client = server.client();
    client.send("POST /own HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345");
    const http_reply own = client.reply();
    EXPECT_EQ(own.body, "my own answer");
    EXPECT_TRUE(own.says_close());

    auto other = server.client();
    other.send(head_of_post("Content-Length: 10") + "12345");
    EXPECT_EQ(other.reply().status, 408);
  });
}

// A body that stalls is ended though no time was set for the whole of it, and one that only is slow
// is not.
TEST_P(body_test, that_stalls_fails_at_the_idle_timeout) {
  run([] {
    test::semaphore waits;
    running_server server{{.handler = [&](request& req, response& res) -> result<> {
                             std::string body;
                             char bytes[16];
                             while (true) {
                               waits.post();
                               const auto count = req.read(bytes);
                               if (!count) return fail(count.error());
                               if (*count == 0) break;
                               body.append(bytes, *count);
                             }
                             res.text(body);
                             return {};
                           },
                           .body_idle_timeout = 500ms}};
    auto slow = server.client();
    const auto since = clock::now();
    slow.send(head_of_post("Content-Length: 6"));
    for (const char* const byte : {"a", "b", "c", "d", "e", "f"}) {
      waits.wait();
      sleep(100ms);  // The client's pace; all of them together are longer than a pause may be.
      slow.send(byte);
    }
    EXPECT_EQ(slow.reply().body, "abcdef");
    EXPECT_GE(clock::now() - since, 600ms);
    slow.close();

    auto stalls = server.client();
    stalls.send(head_of_post("Content-Length: 10") + "12345");
    EXPECT_EQ(stalls.reply().status, 408);
  });
}

// HK-06, HK-08: a small body nobody reads is dropped and the connection goes on; of a large one
// nothing is waited for.
TEST_P(body_test, nobody_reads_is_dropped_or_ends_the_connection) {
  run([] {
    running_server server{{.handler = ignore, .body_limit = 1U << 30U}};
    auto client = server.client();
    for (const std::size_t size : {1UZ, 100'000UZ}) {
      const http_reply reply = client.post("/", std::string(size, 'x'));
      EXPECT_EQ(reply.body, "ignored");
      EXPECT_FALSE(reply.says_close()) << size;
    }
    client.send(head_of_post("Transfer-Encoding: chunked") + "5\r\n12345\r\n0\r\n\r\n");
    EXPECT_FALSE(client.reply().says_close());

    client.send(head_of_post("Content-Length: 300000"));
    const http_reply last = client.reply();
    EXPECT_EQ(last.body, "ignored");
    EXPECT_TRUE(last.says_close());
    EXPECT_TRUE(client.ended());
  });
}

// HE-02: the promise is asked for when the handler reads, not before, and stays visible.
TEST_P(body_test, promised_is_asked_for_when_it_is_read) {
  run([] {
    running_server server{{.handler = [](request& req, response& res) -> result<> {
      EXPECT_EQ(req.header("Expect"), "100-continue");
      return echo(req, res);
    }}};
    auto client = server.client();
    client.send(head_of_post("Content-Length: 3\r\nExpect: 100-continue"));
    EXPECT_EQ(client.reply().status, 100);
    client.send("abc");
    EXPECT_EQ(client.reply().body, "abc");
    // Sent without waiting: nobody has to ask.
    client.send(head_of_post("Content-Length: 3\r\nExpect: 100-continue") + "def");
    EXPECT_EQ(client.reply().body, "def");
    client.close();
  });
}

TEST_P(body_test, promised_is_not_asked_for_by_who_does_not_read) {
  run([] {
    running_server server{{.handler = ignore}};
    auto client = server.client();
    client.send(head_of_post("Content-Length: 3\r\nExpect: 100-continue"));
    const http_reply reply = client.reply();
    EXPECT_EQ(reply.status, 200);
    EXPECT_TRUE(reply.says_close()) << "nobody knows whether the body comes";
    EXPECT_TRUE(client.ended());
  });
}

// HE-04: whoever answers first and reads then does not hang.
TEST_P(body_test, promised_is_not_read_once_the_response_has_begun) {
  run([] {
    running_server server{{.handler = [](request& req, response& res) {
      EXPECT_TRUE(res.write("early"));
      EXPECT_TRUE(res.flush());
      char byte = 0;
      EXPECT_TRUE(req.read({&byte, 1}).error().is(errc::closed));
    }}};
    auto client = server.client();
    client.send(head_of_post("Content-Length: 3\r\nExpect: 100-continue"));
    const http_reply reply = client.reply();
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.body, "early");
  });
}

// Goal:   a client that sends all of a body that was refused before it reads gets the refusal.
// Method: several times more than any buffer on the way holds; the sending itself fails if the
//         server closes before it has read all.
TEST_P(body_test, that_is_refused_may_be_sent_to_its_end) {
  run([] {
    running_server server{{.handler = ignore, .linger = 10s, .body_limit = 1000}};
    auto client = server.client();
    const std::string piece(65'536, 'x');
    constexpr int pieces = 512;
    client.send(head_of_post("Content-Length: " + std::to_string(pieces * piece.size())));
    int sent = 0;
    while (sent < pieces && client.send(piece)) ++sent;
    EXPECT_EQ(sent, pieces);
    EXPECT_EQ(client.reply().status, 413);
    client.close();
  });
}

// Without a time to linger nobody waits for the rest of a body that was not read.
TEST_P(body_test, nobody_reads_is_not_waited_for_without_linger) {
  run([] {
    running_server server{{.handler = ignore, .linger = 0s}};
    auto client = server.client();
    client.send(head_of_post("Content-Length: 9") + "12");
    const http_reply reply = client.reply();
    EXPECT_EQ(reply.body, "ignored");
    EXPECT_TRUE(reply.says_close());
    char byte = 0;
    const auto end = client.conn().read({&byte, 1});
    EXPECT_TRUE(!end || *end == 0);
    EXPECT_FALSE(!end && end.error().is(errc::deadline_exceeded));
  });
}

// A request that was answered is over, whatever its body still does.
TEST_P(body_test, that_nobody_reads_does_not_keep_its_request_in_flight) {
  run([] {
    running_server server{{.handler = ignore, .linger = 10s}};
    auto client = server.client();
    client.send(head_of_post("Content-Length: 9") + "12");
    EXPECT_EQ(client.reply().body, "ignored");
    test::until_parked(1, detail::wait_reason::io_read);
    EXPECT_TRUE(server->in_flight().empty());
    client.send("3456789");
    EXPECT_EQ(client.get("/").body, "ignored");
    client.close();
  });
}

}  // namespace
}  // namespace exeunt::http
