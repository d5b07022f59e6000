// SPDX-License-Identifier: Apache-2.0

#include <exeunt/net/conn.hpp>

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <exeunt/chan/chan.hpp>
#include <exeunt/net/stream.hpp>
#include <exeunt/sched/go.hpp>

#include "net/pair.hpp"
#include "support/on_workers.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using test::conn_pair;
using test::tcp_pair;

class net_conn_stress : public test::on_workers {};

TEST_P(net_conn_stress, many_echoes_at_once) {
  run([] {
    constexpr int conns = 32;
    constexpr int rounds = 200;
    auto door = net::listen("127.0.0.1:0");
    ASSERT_TRUE(door.has_value());
    chan<void> closed;
    go([&] {
      while (auto made = door->accept()) {
        go([with = std::move(*made)]() mutable {
          static_cast<void>(net::copy(context::background(), with, with));
        });
      }
      closed.send();
    });
    chan<int> done{conns};
    for (int c = 0; c < conns; ++c) {
      go([&, c] {
        auto made = net::dial("tcp", door->local_address().to_string());
        int good = 0;
        const auto length = static_cast<std::size_t>(c) * 37 + 1;
        const std::string sent(length, static_cast<char>('a' + c % 26));
        std::string back(sent.size(), '\0');
        for (int r = 0; made && r < rounds; ++r) {
          if (!made->write(sent)) break;
          if (!net::read_full(context::background(), *made, back)) break;
          good += sent == back ? 1 : 0;
        }
        done.send(good);
      });
    }
    int total = 0;
    for (int c = 0; c < conns; ++c) total += *done.recv();
    EXPECT_EQ(total, conns * rounds);
    door->close();
    EXPECT_TRUE(closed.recv());  // The acceptor has let go of the listener.
  });
}

// Goal: no edge is lost between a read that emptied the socket and the start of a fiber.
TEST_P(net_conn_stress, every_request_starts_its_fiber) {
  run([] {
    constexpr int conns = 16;
    constexpr int rounds = 300;
    struct session {
      conn_pair pair = tcp_pair();
      void serve() {
        std::array<char, 64> bytes;
        const auto count = pair.server.read(bytes);
        if (!count || *count == 0) return;
        EXPECT_TRUE(pair.server.write(net::const_buffer{bytes.data(), *count}).has_value());
        pair.server.when_readable([this] { serve(); });
      }
    };
    std::vector<session> sessions(conns);
    chan<void> done{conns};
    for (session& one : sessions) {
      one.pair.server.when_readable([&one] { one.serve(); });
      go([&] {
        std::array<char, 1> back;
        for (int r = 0; r < rounds; ++r) {
          EXPECT_TRUE(one.pair.client.write("r").has_value());
          EXPECT_EQ(one.pair.client.read(back).value(), 1U);
        }
        done.send();
      });
    }
    for (int i = 0; i < conns; ++i) EXPECT_TRUE(done.recv());
    for (session& one : sessions) {
      // Taken back, unless the last reply's fiber has yet to arm it.
      while (!one.pair.server.cancel_when_readable()) yield();
    }
  });
}

// NE-06: concurrent changes of deadlines leave the timers in order.
TEST_P(net_conn_stress, deadlines_from_many_fibers) {
  run([] {
    constexpr int fibers = 8;
    constexpr int tries = 100;
    std::vector<conn_pair> pairs;
    for (int i = 0; i < 10; ++i) pairs.push_back(tcp_pair());
    chan<void> done{fibers};
    chan<void> ended{pairs.size()};
    for (conn_pair& pair : pairs) {
      go([&] {
        std::array<char, 8> bytes;
        EXPECT_TRUE(pair.server.read(bytes).error().is(errc::deadline_exceeded));
        ended.send();
      });
    }
    for (int f = 0; f < fibers; ++f) {
      go([&] {
        for (int t = 0; t < tries; ++t) {
          for (conn_pair& pair : pairs) {
            pair.server.set_read_deadline(deadline_after(2h - std::chrono::minutes{t}));
          }
        }
        done.send();
      });
    }
    for (int f = 0; f < fibers; ++f) EXPECT_TRUE(done.recv());
    for (conn_pair& pair : pairs) pair.server.set_read_deadline(clock::now());
    for (std::size_t i = 0; i < pairs.size(); ++i) EXPECT_TRUE(ended.recv());
  });
}

// Goal: close() while others read, write and start: all of them end, and the number is not reused
//       under anybody.
TEST_P(net_conn_stress, close_at_any_time) {
  run([] {
    for (int round = 0; round < 200; ++round) {
      conn_pair pair = tcp_pair();
      chan<void> done{3};
      go([&] {
        std::array<char, 8> bytes;
        while (pair.client.read(bytes)) {
        }
        done.send();
      });
      go([&] {
        while (pair.client.write("to and fro")) {
        }
        done.send();
      });
      go([&] {
        pair.client.close();
        done.send();
      });
      for (int i = 0; i < 3; ++i) EXPECT_TRUE(done.recv());
    }
  });
}

EXEUNT_ON_WORKERS(net_conn_stress);

}  // namespace
}  // namespace exeunt
