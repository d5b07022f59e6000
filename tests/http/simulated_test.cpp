// SPDX-License-Identifier: Apache-2.0
// The server on a network in memory: its time-outs in virtual time, and its drain under many
// schedules, with wires that delay and cut.

#include <exeunt/http/server.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <string_view>
#include <utility>

#include <exeunt/context/context.hpp>
#include <exeunt/net/conn.hpp>
#include <exeunt/sim/gtest.hpp>
#include <exeunt/sim/network.hpp>
#include <exeunt/sync/wait_group.hpp>
#include <exeunt/time/sleep.hpp>

namespace exeunt::http {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view address = "10.0.0.1:80";
constexpr std::string_view get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

// A server that runs until end(); its outcome is expected to be success.
class served {
 public:
  explicit served(config how) : server_{std::move(how)} {
    EXPECT_TRUE(server_.listen());
    group_.go([this] { EXPECT_TRUE(server_.serve(life_.ctx)); });
  }
  void begin_end() { life_.cancel(); }
  void end() {
    begin_end();
    group_.wait();
  }
  server* operator->() { return &server_; }

 private:
  cancelable_context<cancel_func> life_ = with_cancel(context::background());
  server server_;
  wait_group group_;
};

void write(net::conn& to, std::string_view text) {
  EXPECT_TRUE(to.write(net::const_buffer{text.data(), text.size()}));
}

// Until the server closes.
std::string read_all(net::conn& from) {
  std::string text;
  char bytes[512];
  while (true) {
    const auto count = from.read(bytes);
    if (!count || *count == 0) return text;
    text.append(bytes, *count);
  }
}

config serving(handler serve) {
  return {.address = std::string{address}, .handler = std::move(serve), .log = [](auto) {}};
}

// [idle]
EXEUNT_SIM_TEST(http_simulated, an_idle_connection_is_closed_after_a_minute) {
  const sim::network wires;
  served app{serving([](request&, response& res) { res.text("hello"); })};
  auto client = net::dial("tcp", address);
  ASSERT_TRUE(client);
  write(*client, get);
  const auto since = clock::now();
  EXPECT_NE(read_all(*client).find("hello"), std::string::npos);
  EXPECT_EQ(clock::now() - since, 60s);
  client->close();
  app.end();
}
// [idle]

EXEUNT_SIM_TEST(http_simulated, a_head_that_does_not_end_is_given_up_after_ten_seconds) {
  const sim::network wires;
  served app{serving([](request&, response& res) { res.text("hello"); })};
  auto client = net::dial("tcp", address);
  ASSERT_TRUE(client);
  write(*client, "GET / HTTP/1.1\r\nHo");
  const auto since = clock::now();
  EXPECT_TRUE(read_all(*client).starts_with("HTTP/1.1 408"));
  EXPECT_GE(clock::now() - since, 10s);
  EXPECT_LT(clock::now() - since, 11s);
  client->close();
  app.end();
}

EXEUNT_SIM_TEST(http_simulated, a_request_that_takes_long_outlives_the_drain) {
  const sim::network wires;
  served app{serving([](request&, response& res) {
    sleep(9s);
    res.text("done");
  })};
  auto client = net::dial("tcp", address);
  ASSERT_TRUE(client);
  write(*client, get);
  sim::advance(1s);
  app.begin_end();
  const std::string reply = read_all(*client);
  EXPECT_NE(reply.find("done"), std::string::npos) << reply;
  EXPECT_NE(reply.find("Connection: close"), std::string::npos) << reply;
  client->close();
  app.end();
  EXPECT_LT(clock::now() - sim::epoch, 10s);
}

// Goal:   whoever was let in is answered, whenever the stop comes: no client that has a connection
//         sees it end without a reply.
// Method: two clients and a stop, over wires that delay up to 20 ms and cut.
EXEUNT_EXPLORE_TEST(http_simulated, a_stop_loses_no_request, .schedules = 300) {
  const sim::network wires{{.delay_max = 20ms, .cuts = 3}};
  served app{serving([](request&, response& res) {
    sleep(5ms);
    res.text("hello");
  })};
  wait_group clients;
  for (int i = 0; i < 2; ++i) {
    clients.go([] {
      auto client = net::dial("tcp", address);
      if (!client) return;  // The door was closed.
      write(*client, get);
      const std::string reply = read_all(*client);
      EXPECT_TRUE(reply.starts_with("HTTP/1.1 200")) << "'" << reply << "'";
      EXPECT_TRUE(reply.ends_with("hello")) << "'" << reply << "'";
    });
  }
  sleep(30ms);
  app.begin_end();
  clients.wait();
  app.end();
}

// Goal:   whoever asks and shuts its side is answered, whole, though its context ends: a half-close
//         is not the end of the connection.
EXEUNT_EXPLORE_TEST(http_simulated, a_half_close_is_answered, .schedules = 200) {
  const sim::network wires{{.delay_max = 20ms, .cuts = 3}};
  served app{serving([](request&, response& res) {
    sleep(5ms);
    res.text("hello");
  })};
  auto client = net::dial("tcp", address);
  ASSERT_TRUE(client) << client.error().message();
  write(*client, get);
  EXPECT_TRUE(client->shutdown_write());
  const std::string reply = read_all(*client);
  EXPECT_TRUE(reply.starts_with("HTTP/1.1 200")) << "'" << reply << "'";
  EXPECT_TRUE(reply.ends_with("hello")) << "'" << reply << "'";
  client->close();
  app.end();
}

// Goal:   a server that is short of descriptors answers all who wait, later.
TEST(http_simulated, accepts_that_fail_lose_no_request) {
  bool at_once = false;
  bool later = false;
  sim::expect_explored({.schedules = 50}, [&] {
    const sim::network wires{{.accept_failures = 2}};
    served app{serving([](request&, response& res) { res.text("hello"); })};
    wait_group clients;
    for (int i = 0; i < 2; ++i) {
      clients.go([] {
        auto client = net::dial("tcp", address);
        ASSERT_TRUE(client) << client.error().message();
        write(*client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        EXPECT_TRUE(read_all(*client).ends_with("hello"));
      });
    }
    clients.wait();
    (clock::now() == sim::epoch ? at_once : later) = true;
    app.end();
  });
  EXPECT_TRUE(at_once);
  EXPECT_TRUE(later) << "no accept has failed";
}

// Goal:   connections that are reset, while asking or while answered, are the loss of their clients
//         only: what a client has got is the beginning of a right answer; the next client is
//         served; and a stop ends well.
TEST(http_simulated, resets_cost_nobody_else_anything) {
  std::atomic<int> whole{0};
  std::atomic<int> lost{0};
  sim::expect_explored({.schedules = 200}, [&] {
    sim::network wires{{.delay_max = 20ms, .cuts = 3, .resets = 3}};
    served app{serving([](request&, response& res) {
      sleep(5ms);
      res.text("hello");
    })};
    wait_group clients;
    for (int i = 0; i < 2; ++i) {
      clients.go([&] {
        auto client = net::dial("tcp", address);
        if (!client || !client->write(net::const_buffer{get.data(), get.size()})) {
          ++lost;
          return;
        }
        const std::string reply = read_all(*client);
        constexpr std::string_view status = "HTTP/1.1 200";
        EXPECT_EQ(reply.substr(0, status.size()), status.substr(0, reply.size()));
        ++(reply.ends_with("hello") ? whole : lost);
      });
    }
    clients.wait();
    wires.set({});
    auto client = net::dial("tcp", address);
    ASSERT_TRUE(client) << client.error().message();
    write(*client, get);
    EXPECT_TRUE(read_all(*client).ends_with("hello"));
    client->close();
    app.end();
  });
  EXPECT_GT(whole, 0);
  EXPECT_GT(lost, 0);
}

}  // namespace
}  // namespace exeunt::http
