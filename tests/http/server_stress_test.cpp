// SPDX-License-Identifier: Apache-2.0
// Many clients at once, and stops in the middle of it.
#include <exeunt/http/server.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include <exeunt/sync/wait_group.hpp>

#include "support/http_client.hpp"
#include "support/on_workers.hpp"

namespace exeunt::http {
namespace {

using namespace std::chrono_literals;
using test::http_client;
using test::http_reply;
using test::running_server;

class server_stress : public test::on_workers {};
EXEUNT_ON_WORKERS(server_stress);

// Goal:   a stop under load loses no request, whatever each connection is doing just then.
// Method: clients ask until they are told to close; a request that was sent and not answered whole
//         is lost. Some connections make one request each, so that some wait at the door.
TEST_P(server_stress, a_stop_under_load_loses_no_request) {
  constexpr int rounds = 6;
  constexpr int clients = 24;
  run([] {
    for (int round = 0; round < rounds; ++round) {
      std::atomic<int> answered{0};
      std::atomic<int> lost{0};
      wait_group group;
      {
        running_server server{{.handler = [](request& req, response& res) -> result<> {
                                 if (req.path() == "/watch") {
                                   if (req.context().err()) return fail(errc::canceled, "");
                                   yield();
                                 }
                                 auto body = req.read_all();
                                 if (!body) return fail(body.error());
                                 res.body(std::move(*body));
                                 return {};
                               },
                               .drain = 300ms}};
        const net::address where = server->address();
        for (int c = 0; c < clients; ++c) {
          group.go([&, c, where] {
            while (true) {
              auto dialed = net::dial(context::background(), where);
              if (!dialed) return;
              http_client client{std::move(*dialed)};
              bool closing = false;
              for (int i = 0; !closing; ++i) {
                const std::string body(static_cast<std::size_t>(c * 100 + i % 7), 'x');
                const http_reply reply = client.post(c % 2 == 0 ? "/" : "/watch", body);
                if (reply.status != 200 || !reply.whole || reply.body != body) {
                  ++lost;
                  return;
                }
                ++answered;
                closing = reply.says_close();
                if (c % 3 == 0) break;
                if (c % 5 == 0) sleep(100us);
              }
              client.close();
              if (closing) return;
            }
          });
        }
        while (answered < 200 + 50 * round) yield();
        EXPECT_TRUE(server.stop());
      }
      group.wait();
      EXPECT_EQ(lost, 0);
      EXPECT_GE(answered, 200);
    }
  });
}

TEST_P(server_stress, connections_come_and_go) {
  run([] {
    std::atomic<int> calls{0};
    running_server server{{.handler =
                               [&](request& req, response& res) {
                                 const context ctx = req.context();
                                 ++calls;
                                 res.text("x");
                               },
                           .idle_timeout = 2ms}};
    wait_group group;
    for (int c = 0; c < 20; ++c) {
      group.go([&, c] {
        for (int i = 0; i < 30; ++i) {
          auto client = server.client();
          if (c % 4 == 0) continue;
          client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
          if (c % 4 == 1) continue;
          EXPECT_EQ(client.reply().status, 200);
          if (c % 4 == 2) {
            EXPECT_TRUE(client.ended());
          }
        }
      });
    }
    group.wait();
    while (server->connections() > 0) sleep(1ms);
    EXPECT_GE(calls, 300);
  });
}

}  // namespace
}  // namespace exeunt::http
