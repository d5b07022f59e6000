// SPDX-License-Identifier: Apache-2.0
// The faults of a network: how often, and that they happen at all.

#include <exeunt/sim/network.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <exeunt/base/random.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/net/conn.hpp>
#include <exeunt/net/listener.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sim/gtest.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "sim/choices.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view address = "10.0.0.1:80";

// --- the choice

// Goal:   one in N, not one in N + 1.
// Method: the same generator is drawn from beside it; of each N numbers that it may give, one
//         counts. And among many seeds, which are always the same ones, it is one in N, too.
TEST(faults, one_in_so_many_is_what_it_says) {
  for (const std::uint32_t one_in : {2U, 3U, 10U}) {
    sim::choices chosen;
    chosen.plan_default();
    detail::random_source drawn{1};
    for (int i = 0; i < 10'000; ++i) {
      ASSERT_EQ(chosen.happens(one_in), drawn.below(one_in) == 0) << one_in << ", " << i;
    }
    constexpr int seeds = 20'000;
    int count = 0;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
      chosen.plan_random(seed, 0, 3);
      count += chosen.happens(one_in) ? 1 : 0;
    }
    // One in N + 1 would be count * N == seeds * N / (N + 1): for N == 10 already less than this.
    EXPECT_GT(count * static_cast<int>(one_in + 1), seeds + seeds / 200) << one_in;
    EXPECT_NEAR(count, seeds / static_cast<int>(one_in), 150) << one_in;
  }
}

TEST(faults, never_and_always_are_no_choices) {
  sim::choices some;
  ASSERT_TRUE(some.plan_next(0));
  EXPECT_FALSE(some.happens(0));
  EXPECT_TRUE(some.happens(1));
  EXPECT_TRUE(some.made().empty());
  EXPECT_FALSE(some.plan_next(0));
}

// Goal:   a replay takes it as it was, whatever its rate.
TEST(faults, are_replayed) {
  sim::choices some;
  some.plan_replay({1, 0, 1});
  EXPECT_TRUE(some.happens(1'000'000));
  EXPECT_FALSE(some.happens(2));
  EXPECT_TRUE(some.happens(1'000'000));
  EXPECT_EQ(to_text(some.made()), "1.0.1");
}

// Goal:   the number of schedules does not depend on how rare a fault is.
// Method: two writes, of which the first that is reset is the last: three ways.
TEST(faults, exhaustive_meets_each_once) {
  for (const std::uint32_t one_in : {2U, 10U, 1'000U}) {
    std::multiset<int> arrived;
    const auto sum = sim::expect_explored(
        {.name = "resets", .preemptions = 0, .exhaustive = true}, [&arrived, one_in] {
          sim::network wires{{.resets = one_in}};
          auto door = *net::listen(address);
          auto client = *net::dial("tcp", address);
          const auto peer = *door.accept();
          int count = 0;
          while (count < 2 && client.write(net::const_buffer{"x", 1})) ++count;
          arrived.insert(count);
        });
    EXPECT_TRUE(sum.covered);
    EXPECT_EQ(sum.schedules, 3U) << one_in;
    EXPECT_EQ(arrived, (std::multiset<int>{0, 1, 2})) << one_in;
  }
}

// --- what happens

// A server of one client, which gets `bytes` zeros and the end.
void give_one(net::listener& door, std::size_t bytes) {
  auto peer = door.accept();
  ASSERT_TRUE(peer) << peer.error().message();
  const std::vector<char> zeros(bytes);
  if (peer->write(net::const_buffer{zeros.data(), zeros.size()})) peer->close();
}

// Goal:   an accept that finds no descriptor waits a while and gets the client: there are runs with
//         and without.
// Method: the pauses of listener.cpp, 5 ms and twice as long each time, are all that takes time.
TEST(faults, accepts_fail_and_are_tried_again) {
  std::set<clock::duration> took;
  sim::expect_explored({.name = "accepts", .schedules = 40}, [&took] {
    const sim::network wires{{.accept_failures = 2}};
    auto door = *net::listen(address);
    auto client = *net::dial("tcp", address);
    EXPECT_TRUE(door.accept());
    took.insert(clock::now() - sim::epoch);
  });
  EXPECT_TRUE(took.contains(0ms));
  EXPECT_TRUE(took.contains(5ms));
  EXPECT_TRUE(took.contains(15ms));
  EXPECT_FALSE(took.contains(1ms));
}

// Goal:   a reset ends the write that meets it, what the peer reads, and all that comes later; what
//         has arrived before cannot be relied on.
TEST(faults, a_reset_is_told_at_both_ends) {
  int resets = 0;
  int served = 0;
  sim::expect_explored({.name = "resets", .schedules = 300}, [&] {
    const sim::network wires{{.delay_max = 1ms, .resets = 3}};
    auto door = *net::listen(address);
    wait_group group;
    group.go([&] { give_one(door, 10); });
    auto dialed = net::dial("tcp", address);
    if (!dialed) {  // The reset was there before it was noticed that it was connected.
      EXPECT_TRUE(dialed.error().is(std::errc::connection_reset)) << dialed.error().message();
      ++resets;
      return group.wait();
    }
    auto client = std::move(*dialed);
    std::size_t got = 0;
    while (true) {
      char bytes[16];
      const auto count = client.read(bytes);
      if (!count) {
        EXPECT_TRUE(count.error().is(std::errc::connection_reset)) << count.error().message();
        EXPECT_EQ(got, 0U);
        EXPECT_FALSE(client.read(bytes));
        EXPECT_FALSE(client.write(net::const_buffer{"x", 1}));
        ++resets;
        break;
      }
      got += *count;
      if (*count > 0) continue;
      EXPECT_EQ(got, 10U);
      ++served;
      break;
    }
    group.wait();
  });
  EXPECT_GT(resets, 0);
  EXPECT_GT(served, resets) << "one in three is less than half";
}

// Goal:   whoever is served and left before it knows that it is connected gets all of it.
// Method: answers that may take longer than the server needs.
TEST(faults, none_is_that_a_server_is_quick) {
  sim::expect_explored({.name = "quick", .schedules = 200}, [] {
    const sim::network wires{{.delay_max = 5ms}};
    auto door = *net::listen(address);
    wait_group group;
    group.go([&] { give_one(door, 10); });
    auto client = net::dial("tcp", address);
    ASSERT_TRUE(client) << client.error().message();
    char bytes[16];
    EXPECT_EQ(client->read(bytes), 10U);
    EXPECT_EQ(client->read(bytes), 0U);
    group.wait();
  });
}

// Goal:   a write is taken in part, and what was taken arrives in one part or in two.
TEST(faults, writes_are_cut) {
  std::set<std::size_t> taken;
  std::set<std::vector<std::size_t>> arrived;
  const auto sum =
      sim::expect_explored({.name = "cuts", .preemptions = 0, .exhaustive = true}, [&] {
        const sim::network wires{{.cuts = 3}};
        auto door = *net::listen(address);
        auto client = *net::dial("tcp", address);
        auto peer = *door.accept();
        const auto count =
            client.write_some(context::background(), net::const_buffer{"0123456789", 10});
        ASSERT_TRUE(count);
        taken.insert(*count);
        client.close();
        std::vector<std::size_t> parts;
        std::string text;
        char bytes[16];
        for (auto part = peer.read(bytes); part && *part > 0; part = peer.read(bytes)) {
          parts.push_back(*part);
          text.append(bytes, *part);
        }
        EXPECT_EQ(text, std::string_view{"0123456789"}.substr(0, *count));
        arrived.insert(parts);
      });
  EXPECT_TRUE(sum.covered);
  EXPECT_EQ(taken, (std::set<std::size_t>{5, 10}));
  EXPECT_EQ(arrived, (std::set<std::vector<std::size_t>>{{5}, {10}, {5, 5}}));
}

// Goal:   the end follows all that was written before it, and the other direction goes on, whatever
//         the delays and cuts.
TEST(faults, a_half_close_comes_last) {
  sim::expect_explored({.name = "half-close", .schedules = 300}, [] {
    const sim::network wires{{.delay_max = 5ms, .cuts = 2}};
    auto door = *net::listen(address);
    wait_group group;
    group.go([&] {
      auto peer = *door.accept();
      std::string got;
      char bytes[16];
      while (true) {
        const auto count = peer.read(bytes);
        ASSERT_TRUE(count) << count.error().message();
        if (*count == 0) break;
        got.append(bytes, *count);
      }
      EXPECT_TRUE(peer.write(net::const_buffer{got.data(), got.size()}));
    });
    auto client = *net::dial("tcp", address);
    EXPECT_TRUE(client.write(net::const_buffer{"question", 8}));
    EXPECT_TRUE(client.shutdown_write());
    const auto refused = client.write(net::const_buffer{"x", 1});
    ASSERT_FALSE(refused);
    EXPECT_TRUE(refused.error().is(std::errc::broken_pipe)) << refused.error().message();
    std::string back;
    char bytes[16];
    while (true) {
      const auto count = client.read(bytes);
      ASSERT_TRUE(count) << count.error().message();
      if (*count == 0) break;
      back.append(bytes, *count);
    }
    EXPECT_EQ(back, "question");
    group.wait();
  });
}

// Goal:   other options hold from now on.
EXEUNT_SIM_TEST(faults, set_changes_the_wires) {
  sim::network wires;
  auto door = *net::listen(address);
  auto client = *net::dial("tcp", address);
  auto peer = *door.accept();
  EXPECT_TRUE(client.write(net::const_buffer{"x", 1}));
  wires.set({.resets = 1});
  const auto refused = client.write(net::const_buffer{"x", 1});
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(std::errc::connection_reset));
}

}  // namespace
}  // namespace exeunt
