// SPDX-License-Identifier: Apache-2.0
// Preemptions at the calls of net, and what is found by them only.

#include <exeunt/sim/explore.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include <exeunt/base/error.hpp>
#include <exeunt/net/conn.hpp>
#include <exeunt/net/listener.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sim/gtest.hpp>
#include <exeunt/sim/network.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/abandons.hpp"

namespace exeunt {
namespace {

constexpr std::string_view address = "10.0.0.1:80";

// A listener, and a connection with both of its ends.
struct wired {
  sim::network wires;
  net::listener door = *net::listen(address);
  net::conn client = *net::dial("tcp", address);
  net::conn peer = *door.accept();
};

void put(net::conn& to, char one) { EXPECT_TRUE(to.write(net::const_buffer{&one, 1})); }

// Whatever comes until the other end is shut.
std::string all_from(net::conn& from) {
  std::string got;
  char bytes[16];
  while (true) {
    const auto count = from.read(bytes);
    if (!count || *count == 0) return got;
    got.append(bytes, *count);
  }
}

// As explore_steps in explore_test.cpp: what is done while `inside` is seen by another fiber only
// if that is let in before it.
struct net_step {
  const char* name;
  void (*take)(wired& with, std::atomic<bool>& inside);
  bool is_one = true;
};
class network_steps : public ::testing::TestWithParam<net_step> {};

TEST_P(network_steps, let_another_fiber_in) {
  std::atomic<bool> met{false};
  const auto sum = sim::explore({.name = "steps", .preemptions = 1, .exhaustive = true}, [&met] {
    wired with;
    std::atomic<bool> inside{false};
    go([&] { met = met || inside; });
    GetParam().take(with, inside);
    inside = false;
    sim::settle();
  });
  EXPECT_TRUE(sum.covered);
  EXPECT_EQ(met, GetParam().is_one);
}

const net_step steps[] = {
    {"a_read",
     [](wired& with, std::atomic<bool>& inside) {
       put(with.client, 'x');
       char got[1];
       inside = true;
       EXPECT_TRUE(with.peer.read(got));
       inside = false;
     }},
    {"a_read_that_does_not_wait",
     [](wired& with, std::atomic<bool>& inside) {
       char got[1];
       inside = true;
       EXPECT_TRUE(with.peer.try_read(got));
       inside = false;
     }},
    {"a_write",
     [](wired& with, std::atomic<bool>& inside) {
       inside = true;
       put(with.client, 'x');
       inside = false;
     }},
    {"a_write_of_some",
     [](wired& with, std::atomic<bool>& inside) {
       inside = true;
       EXPECT_TRUE(with.client.write_some(context::background(), net::const_buffer{"x", 1}));
       inside = false;
     }},
    {"a_write_that_does_not_wait",
     [](wired& with, std::atomic<bool>& inside) {
       const net::const_buffer one{"x", 1};
       inside = true;
       EXPECT_TRUE(with.client.try_write({&one, 1}));
       inside = false;
     }},
    {"a_half_close",
     [](wired& with, std::atomic<bool>& inside) {
       inside = true;
       EXPECT_TRUE(with.client.shutdown_write());
       inside = false;
     }},
    {"a_close",
     [](wired& with, std::atomic<bool>& inside) {
       inside = true;
       with.client.close();
       inside = false;
     }},
    {"an_abort",
     [](wired& with, std::atomic<bool>& inside) {
       inside = true;
       with.client.abort();
       inside = false;
     }},
    {"a_shutdown",
     [](wired& with, std::atomic<bool>& inside) {
       inside = true;
       with.client.shut_down();
       inside = false;
     }},
    {"a_deadline",
     [](wired& with, std::atomic<bool>& inside) {
       inside = true;
       with.client.set_read_deadline(clock::now());
       inside = false;
     }},
    {"a_dial",
     [](wired& with, std::atomic<bool>& inside) {
       static_cast<void>(with);
       inside = true;
       EXPECT_FALSE(net::dial("unix", "@nobody"));
       inside = false;
     }},
    {"a_listen",
     [](wired& with, std::atomic<bool>& inside) {
       static_cast<void>(with);
       inside = true;
       EXPECT_FALSE(net::listen(address));
       inside = false;
     }},
    {"an_accept",
     [](wired& with, std::atomic<bool>& inside) {
       const auto second = net::dial("tcp", address);
       inside = true;
       EXPECT_TRUE(with.door.accept());
       inside = false;
     }},
    {"an_accept_that_does_not_wait",
     [](wired& with, std::atomic<bool>& inside) {
       inside = true;
       EXPECT_TRUE(with.door.accept_now());
       inside = false;
     }},
    {"the_close_of_a_listener",
     [](wired& with, std::atomic<bool>& inside) {
       inside = true;
       with.door.close();
       inside = false;
     }},
    // Not: what is closed is in nobody's way.
    {"a_second_close",
     [](wired& with, std::atomic<bool>& inside) {
       with.client.close();
       with.door.close();
       inside = true;
       with.client.close();
       with.door.close();
       inside = false;
     },
     false},
};

INSTANTIATE_TEST_SUITE_P(calls, network_steps, ::testing::ValuesIn(steps),
                         [](const auto& one) { return std::string{one.param.name}; });

// Goal:   what two fibers write in two parts each is met in every order of the parts.
TEST(network_races, parts_of_two_writers_are_mixed) {
  std::set<std::string> seen;
  const auto sum = sim::expect_explored(
      {.name = "two writers", .schedules = 200'000, .preemptions = 2, .exhaustive = true}, [&seen] {
        wired with;
        wait_group writers;
        for (const char one : {'a', 'b'}) {
          writers.go([&with, one] {
            put(with.client, one);
            put(with.client, one);
          });
        }
        writers.wait();
        with.client.close();
        seen.insert(all_from(with.peer));
      });
  EXPECT_TRUE(sum.covered);
  EXPECT_EQ(seen, (std::set<std::string>{"aabb", "abab", "abba", "baab", "baba", "bbaa"}));
}

// Goal:   the mistake is found, and its report says where: who has seen a client need not get it.
TEST(network_races, a_client_that_two_have_seen_is_one_clients) {
  const auto take = [](net::listener& door) {
    if (door.waiting() == 0) return;
    const auto taken = door.accept_now();
    sim::check(taken && *taken, "the client is there");
  };
  try {
    sim::explore({.name = "two acceptors"}, [&take] {
      const sim::network wires;
      auto door = *net::listen(address);
      const auto client = *net::dial("tcp", address);
      wait_group both;
      for (int i = 0; i < 2; ++i) both.go([&] { take(door); });
      both.wait();
    });
    ADD_FAILURE() << "not found";
  } catch (const sim::failure& found) {
    const std::string_view report = found.what();
    EXPECT_NE(report.find("the client is there"), report.npos) << report;
    EXPECT_NE(report.find("with 1 preemption "), report.npos) << report;
    EXPECT_NE(report.find("is preempted before accept"), report.npos) << report;
  }
}

// Goal:   a close against a dial and an accept, in each order: the client is served, or it is
//         refused, or its connection is reset; and whoever accepts is told of the close.
TEST(network_races, a_close_of_a_listener_in_use) {
  std::set<std::string> seen;
  const auto sum = sim::expect_explored(
      {.name = "close", .schedules = 200'000, .preemptions = 2, .exhaustive = true}, [&seen] {
        const sim::network wires;
        auto door = *net::listen(address);
        std::string outcome;
        wait_group all;
        all.go([&] {
          auto taken = door.accept();
          if (taken) {
            put(*taken, 'x');
          } else {
            EXPECT_TRUE(taken.error().is(errc::closed)) << taken.error().message();
          }
        });
        all.go([&] { door.close(); });
        all.go([&] {
          auto client = net::dial("tcp", address);
          if (!client) {
            EXPECT_TRUE(client.error().is(std::errc::connection_refused));
            outcome = "refused";
            return;
          }
          char got[1];
          const auto count = client->read(got);
          outcome = count ? "served" : "reset";
          EXPECT_TRUE(count || count.error().is(std::errc::connection_reset));
        });
        all.wait();
        seen.insert(outcome);
      });
  EXPECT_TRUE(sum.covered);
  EXPECT_EQ(seen, (std::set<std::string>{"refused", "reset", "served"}));
}

}  // namespace
}  // namespace exeunt
