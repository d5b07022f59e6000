// SPDX-License-Identifier: Apache-2.0
#include <exeunt/sim/network.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <exeunt/context/context.hpp>
#include <exeunt/net/conn.hpp>
#include <exeunt/net/listener.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sim/gtest.hpp>
#include <exeunt/sync/wait_group.hpp>
#include <exeunt/time/sleep.hpp>

#include "support/abandons.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;

// Serves one client, which gets back what it sends.
void echo_once(net::listener& door) {
  auto peer = door.accept();
  ASSERT_TRUE(peer) << peer.error().message();
  char bytes[256];
  while (true) {
    const auto count = peer->read(bytes);
    if (!count || *count == 0) return;
    if (!peer->write(net::const_buffer{bytes, *count})) return;
  }
}

std::string exchange(net::conn& peer, std::string_view text) {
  EXPECT_TRUE(peer.write(net::const_buffer{text.data(), text.size()}));
  std::string back(text.size(), ' ');
  std::size_t got = 0;
  while (got < back.size()) {
    const auto count = peer.read(net::buffer{back.data() + got, back.size() - got});
    if (!count || *count == 0) break;
    got += *count;
  }
  back.resize(got);
  return back;
}

EXEUNT_SIM_TEST(network, carries_both_ways) {
  const sim::network wires;
  auto door = net::listen("10.0.0.1:80");
  ASSERT_TRUE(door) << door.error().message();
  wait_group group;
  group.go([&] { echo_once(*door); });
  {
    auto peer = net::dial("tcp", "10.0.0.1:80");
    ASSERT_TRUE(peer) << peer.error().message();
    EXPECT_EQ(peer->remote_address().to_string(), "10.0.0.1:80");
    EXPECT_EQ(exchange(*peer, "hello"), "hello");
    EXPECT_EQ(clock::now(), sim::epoch);
  }
  group.wait();
  door->close();
  EXPECT_EQ(wires.open_sockets(), 0U);
}

// Goal:   a delay is virtual time: to connect takes one each way, an exchange the same.
EXEUNT_SIM_TEST(network, delays_what_it_carries) {
  const sim::network wires{{.delay_min = 10ms, .delay_max = 10ms}};
  auto door = net::listen("10.0.0.1:80");
  wait_group group;
  group.go([&] { echo_once(*door); });
  {
    auto peer = net::dial("tcp", "10.0.0.1:80");
    ASSERT_TRUE(peer);
    EXPECT_EQ(clock::now() - sim::epoch, 20ms);
    EXPECT_EQ(exchange(*peer, "hello"), "hello");
    EXPECT_EQ(clock::now() - sim::epoch, 40ms);
  }
  group.wait();
}

// Goal:   whatever is cut arrives whole and in order, under many schedules.
EXEUNT_EXPLORE_TEST(network, cuts_and_delays_lose_nothing, .schedules = 300) {
  const sim::network wires{{.delay_max = 5ms, .cuts = 2, .window = 16}};
  auto door = net::listen("[::]:80");
  wait_group group;
  group.go([&] { echo_once(*door); });
  {
    auto peer = net::dial("tcp", "127.0.0.1:80");
    ASSERT_TRUE(peer);
    const std::string text = "the quick brown fox jumps over it";
    std::string back;
    wait_group both;
    both.go([&] {
      EXPECT_TRUE(peer->write(net::const_buffer{text.data(), text.size()}));
      EXPECT_TRUE(peer->shutdown_write());
    });
    char bytes[8];
    while (true) {
      const auto count = peer->read(bytes);
      ASSERT_TRUE(count) << count.error().message();
      if (*count == 0) break;
      back.append(bytes, *count);
    }
    both.wait();
    EXPECT_EQ(back, text);
  }
  group.wait();
}

EXEUNT_SIM_TEST(network, a_half_close_leaves_the_other_direction) {
  const sim::network wires;
  auto door = net::listen("10.0.0.1:80");
  wait_group group;
  group.go([&] {
    auto peer = door->accept();
    char bytes[16];
    EXPECT_EQ(peer->read(bytes), 0U);
    EXPECT_TRUE(peer->write(net::const_buffer{"late", 4}));
  });
  auto peer = net::dial("tcp", "10.0.0.1:80");
  ASSERT_TRUE(peer);
  EXPECT_TRUE(peer->shutdown_write());
  char bytes[16];
  EXPECT_EQ(peer->read(bytes), 4U);
  EXPECT_EQ(peer->read(bytes), 0U);
  group.wait();
}

EXEUNT_SIM_TEST(network, an_abort_is_a_reset_for_the_peer) {
  const sim::network wires;
  auto door = net::listen("10.0.0.1:80");
  wait_group group;
  group.go([&] {
    auto peer = door->accept();
    peer->abort();
  });
  auto peer = net::dial("tcp", "10.0.0.1:80");
  ASSERT_TRUE(peer);
  char bytes[16];
  const auto count = peer->read(bytes);
  ASSERT_FALSE(count);
  EXPECT_TRUE(count.error().is(std::errc::connection_reset)) << count.error().message();
  group.wait();
}

EXEUNT_SIM_TEST(network, where_nobody_listens_refuses) {
  const sim::network wires{{.delay_min = 1ms, .delay_max = 1ms}};
  const auto peer = net::dial("tcp", "10.0.0.1:80");
  ASSERT_FALSE(peer);
  EXPECT_TRUE(peer.error().is(std::errc::connection_refused)) << peer.error().message();
  EXPECT_EQ(clock::now() - sim::epoch, 2ms);
  auto door = net::listen("10.0.0.1:80");
  const auto second = net::listen("0.0.0.0:80");
  ASSERT_FALSE(second);
  EXPECT_TRUE(second.error().is(std::errc::address_in_use));
}

// Goal:   a read gives up when its context ends, in virtual time.
EXEUNT_SIM_TEST(network, a_silent_peer_costs_no_time) {
  const sim::network wires;
  auto door = net::listen("10.0.0.1:80");
  auto peer = net::dial("tcp", "10.0.0.1:80");
  ASSERT_TRUE(peer);
  const auto ended = with_timeout(context::background(), 1h);
  char bytes[16];
  const auto count = peer->read(ended.ctx, bytes);
  ASSERT_FALSE(count);
  EXPECT_TRUE(count.error().is(errc::deadline_exceeded));
  EXPECT_EQ(clock::now() - sim::epoch, 1h);
}

// Goal:   an accept that fails for want of descriptors is tried again, and no client is lost.
EXEUNT_EXPLORE_TEST(network, failing_accepts_lose_no_client, .schedules = 200) {
  const sim::network wires{{.accept_failures = 2}};
  auto door = net::listen("10.0.0.1:80");
  wait_group group;
  for (int i = 0; i < 2; ++i) group.go([&] { echo_once(*door); });
  for (int i = 0; i < 2; ++i) {
    group.go([&] {
      auto peer = net::dial("tcp", "10.0.0.1:80");
      ASSERT_TRUE(peer);
      EXPECT_EQ(exchange(*peer, "x"), "x");
    });
  }
  group.wait();
}

// Goal:   with resets each call ends, with an error or a result.
EXEUNT_EXPLORE_TEST(network, resets_end_every_call, .schedules = 500) {
  const sim::network wires{{.delay_max = 1ms, .resets = 3}};
  auto door = net::listen("10.0.0.1:80");
  wait_group group;
  group.go([&] {
    auto peer = door->accept();
    char bytes[16];
    while (peer) {
      const auto count = peer->read(bytes);
      if (!count || *count == 0 || !peer->write(net::const_buffer{bytes, *count})) break;
    }
  });
  if (auto peer = net::dial("tcp", "10.0.0.1:80")) {
    char bytes[16];
    for (int i = 0; i < 5; ++i) {
      if (!peer->write(net::const_buffer{"x", 1})) break;
      if (const auto count = peer->read(bytes); !count || *count == 0) break;
    }
  }
  group.wait();
}

TEST(network, a_socket_that_is_left_open_is_a_failure) {
  try {
    sim::bubble([] {
      const sim::network wires;
      static net::listener left;
      left = *net::listen("10.0.0.1:80");
    });
    ADD_FAILURE();
  } catch (const sim::failure& failed) {
    EXPECT_EQ(failed.why(), sim::failure::reason::left);
    EXPECT_NE(std::string_view{failed.what()}.find("listener at 10.0.0.1:80"),
              std::string_view::npos)
        << failed.what();
  }
}

EXEUNT_SIM_TEST(network, without_one_there_are_no_sockets) {
  const auto door = net::listen("10.0.0.1:80");
  ASSERT_FALSE(door);
  EXPECT_TRUE(door.error().is(std::errc::operation_not_supported)) << door.error().message();
  const sim::network one;
  EXPECT_THROW(sim::network{}, std::logic_error);
}

}  // namespace
}  // namespace exeunt
