// SPDX-License-Identifier: Apache-2.0
// Connections without a request: what they cost, how long they stay, how one sees that they go.
#include <exeunt/http/server.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <vector>

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

class idle_test : public test::on_workers {};
EXEUNT_ON_WORKERS(idle_test);

void hello(request&, response& res) { res.text("hello"); }

// Goal:   an idle connection holds no fiber, whether it has spoken or not.
// Method: the number of fibers comes back to what it was before; yield until it does.
TEST_P(idle_test, holds_no_fiber) {
  run([] {
    running_server server{{.handler = hello}};
    auto first = server.client();
    EXPECT_EQ(first.get("/").status, 200);
    const auto alive = [] { return runtime::current().stats().fibers_alive; };
    std::vector<http_client> clients;
    for (int i = 0; i < 50; ++i) {
      clients.push_back(server.client());
      if (i % 2 == 0) {
        EXPECT_EQ(clients.back().get("/").status, 200);
      }
    }
    // This one and the one that accepts.
    while (alive() > 2 || server->connections() < 51) yield();
    EXPECT_EQ(server->connections(), 51U);
    for (auto& client : clients) EXPECT_EQ(client.get("/").status, 200);
    while (alive() > 2) yield();
    clients.clear();
    first.close();
  });
}

// HT-01: closed without a byte, and the handler was not called.
TEST_P(idle_test, ends_a_silent_connection_at_the_header_timeout) {
  run([] {
    running_server server{{.handler = hello, .read_header_timeout = 50ms}};
    const auto since = clock::now();
    auto client = server.client();
    EXPECT_TRUE(client.ended());
    EXPECT_GE(clock::now() - since, 40ms);
  });
}

// HT-07: an idle connection is closed, and not before its time.
TEST_P(idle_test, ends_an_idle_connection_at_the_idle_timeout) {
  run([] {
    running_server server{{.handler = hello, .read_header_timeout = 10s, .idle_timeout = 50ms}};
    auto client = server.client();
    EXPECT_EQ(client.get("/").status, 200);
    EXPECT_EQ(client.get("/").status, 200);
    const auto since = clock::now();
    EXPECT_TRUE(client.ended());
    EXPECT_GE(clock::now() - since, 40ms);
  });
}

// A head that drips is ended by the clock of the whole head.
TEST_P(idle_test, answers_408_to_a_head_that_drips) {
  run([] {
    running_server server{{.handler = hello, .read_header_timeout = 100ms}};
    auto client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n");
    std::atomic<bool> over{false};
    test::semaphore dripped;
    go([&] {
      while (!over && client.send("X: y\r\n")) sleep(10ms);
      dripped.post();
    });
    const http_reply reply = client.reply();
    over = true;
    EXPECT_EQ(reply.status, 408);
    EXPECT_TRUE(reply.says_close());
    dripped.wait();
    client.close();
  });
}

// Empty lines are no request: they extend neither the time for the first head nor the idle time.
TEST_P(idle_test, is_not_kept_open_by_empty_lines) {
  run([] {
    running_server server{{.handler = hello, .read_header_timeout = 100ms, .idle_timeout = 150ms}};
    for (const bool used : {false, true}) {
      auto client = server.client();
      if (used) {
        EXPECT_EQ(client.get("/").status, 200);
      }
      std::atomic<bool> over{false};
      test::semaphore dripped;
      go([&] {
        while (!over && client.send("\r\n")) sleep(5ms);
        dripped.post();
      });
      char byte = 0;
      const auto end = client.conn().read({&byte, 1});
      EXPECT_TRUE(!end || *end == 0);
      EXPECT_FALSE(!end && end.error().is(errc::deadline_exceeded)) << "it would go on for ever";
      over = true;
      dripped.wait();
      client.close();
    }
  });
}

// Nor may there be any number of them, however they are cut.
TEST_P(idle_test, refuses_too_many_empty_lines) {
  run([] {
    running_server server{{.handler = hello, .header_limit = 128}};
    auto client = server.client();
    const auto& workers = runtime::current();
    while (server->connections() == 0) yield();
    for (int i = 0; i < 64; ++i) {
      const auto before = workers.stats().fibers_started;
      client.send("\r\n");
      while (workers.stats().fibers_started == before || workers.stats().fibers_alive > 2) yield();
    }
    client.send("\r\n");
    EXPECT_EQ(client.reply().status, 400);
    client.close();
  });
}

// HT-09, HT-12: the time for a head begins with its first byte, and idling cancels nothing.
TEST_P(idle_test, does_not_count_idle_time_against_the_head) {
  run([] {
    running_server server{{.handler =
                               [](request& req, response& res) {
                                 EXPECT_FALSE(req.context().err());
                                 res.text("hello");
                               },
                           .read_header_timeout = 30ms}};
    auto client = server.client();
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(client.get("/").status, 200);
      sleep(45ms);
    }
    client.close();
  });
}

// HT-04, HT-06: the write timeout begins anew with each request, and ends the connection.
TEST_P(idle_test, limits_each_request_on_its_own) {
  run([] {
    running_server server{{.handler =
                               [](request& req, response& res) {
                                 if (req.path() == "/slow") sleep(120ms);
                                 res.text("hello");
                               },
                           .write_timeout = 80ms}};
    auto client = server.client();
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(client.get("/").status, 200);
      sleep(50ms);
    }
    EXPECT_EQ(client.get("/slow").status, 0);
  });
}

// The context of a request ends when its client goes, and says so.
TEST_P(idle_test, tells_a_handler_that_its_client_went) {
  run([] {
    test::semaphore running;
    test::semaphore told;
    running_server server{{.handler = [&](request& req, response&) {
      const context ctx = req.context();
      EXPECT_FALSE(ctx.err());
      running.post();
      ctx.wait();
      EXPECT_TRUE(ctx.err()->is(errc::canceled));
      EXPECT_TRUE(cause(ctx)->is(errc::closed));
      told.post();
    }}};
    {
      auto client = server.client();
      client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
      running.wait();
      client.close();
      told.wait();
    }
    {
      // Ended in order, with a reset: both are seen.
      auto client = server.client();
      client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
      running.wait();
      client.conn().abort();
      told.wait();
    }
  });
}

TEST_P(idle_test, tells_a_handler_that_began_to_listen_before_it_read_the_body) {
  run([] {
    test::semaphore running;
    test::semaphore told;
    running_server server{{.handler = [&](request& req, response&) {
      const context ctx = req.context();
      EXPECT_EQ(req.read_all(), "abc");
      running.post();
      ctx.wait();
      told.post();
    }}};
    auto client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    running.wait();
    client.close();
    told.wait();
  });
}

// Whether the client is seen to go, however its request came in: such a readiness is left over when
// the watch begins, and says nothing.
TEST_P(idle_test, tells_of_the_client_however_its_request_came) {
  run([] {
    test::semaphore asked;
    test::semaphore running;
    test::semaphore told;
    running_server server{{.handler = [&](request& req, response&) {
      const context ctx = req.context();
      if (req.path() == "/all") {
        asked.post();
        EXPECT_EQ(req.read_all(), "abc");
      }
      if (req.path() == "/exact") {
        asked.post();
        char bytes[3];
        for (std::size_t size = 0; size < sizeof bytes;) {
          const auto count = req.read({bytes + size, sizeof bytes - size});
          EXPECT_TRUE(count && *count > 0);
          if (!count || *count == 0) return;
          size += *count;
        }
      }
      running.post();
      const auto patient = with_timeout(ctx, 10s);
      patient.ctx.wait();
      EXPECT_TRUE(ctx.err()) << req.path() << ": nobody told";
      told.post();
    }}};
    {
      auto client = server.client();
      client.send("GET /halves HTTP/1.1\r\nHo");
      test::until_parked(1, detail::wait_reason::io_read);
      client.send("st: a\r\n\r\n");
      running.wait();
      client.close();
      told.wait();
    }
    for (const std::string path : {"/all", "/exact"}) {
      auto client = server.client();
      client.send("POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
      asked.wait();
      test::until_parked(1, detail::wait_reason::io_read);
      client.send("abc");
      running.wait();
      client.close();
      told.wait();
      auto together = server.client();
      together.send("POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
      asked.wait();
      running.wait();
      together.close();
      told.wait();
    }
    {
      // A request that is already there for the time after this one hides nothing.
      auto client = server.client();
      client.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
      running.wait();
      client.send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n");
      client.close();
      told.wait();
      running.wait();
      told.wait();
    }
  });
}

// Goal:   further requests that come while a handler watches its client are neither taken for its
//         end nor lost.
TEST_P(idle_test, does_not_lose_requests_that_come_during_a_watch) {
  run([] {
    test::semaphore running;
    test::semaphore sent;
    running_server server{{.handler = [&](request& req, response& res) {
      const context ctx = req.context();
      if (req.path() == "/first") {
        running.post();
        sent.wait();
        EXPECT_FALSE(ctx.err());
      }
      res.text(req.path());
    }}};
    for (int i = 0; i < 20; ++i) {
      auto client = server.client();
      client.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
      running.wait();
      client.send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n");
      sent.post();
      EXPECT_EQ(client.reply().body, "/first");
      EXPECT_EQ(client.reply().body, "/second");
      client.send("GET /third HTTP/1.1\r\nHost: a\r\n\r\n");
      EXPECT_EQ(client.reply().body, "/third");
      client.close();
    }
  });
}

// HS-13: the context ends with the handler. HS-12: it has the values that serve() was given.
TEST_P(idle_test, ends_the_context_with_the_handler) {
  run([] {
    struct key {
      using type = int;
    };
    std::optional<context> kept;
    server with_values{{.address = "127.0.0.1:0",
                        .handler =
                            [&](request& req, response&) {
                              kept.emplace(req.context());
                              EXPECT_FALSE(kept->err());
                              ASSERT_NE(kept->value<key>(), nullptr);
                              EXPECT_EQ(*kept->value<key>(), 7);
                            },
                        .log = [](std::string_view) {}}};
    ASSERT_TRUE(with_values.listen());
    auto [ctx, stop] = with_cancel(context::background());
    test::semaphore served;
    go([&] {
      EXPECT_TRUE(with_values.serve(with_value<key>(ctx, 7)));
      served.post();
    });
    {
      http_client client{with_values.address()};
      EXPECT_EQ(client.get("/").status, 200);
      EXPECT_TRUE(kept->err());
    }
    stop();
    served.wait();
  });
}

}  // namespace
}  // namespace exeunt::http
