// SPDX-License-Identifier: Apache-2.0
// Selects against each other, against ends of contexts and against time-outs: nothing is lost,
// nothing comes twice, and who waits costs nothing.

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>

#include "chan/parked.hpp"
#include "support/explored.hpp"
#include "support/on_workers.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;

#if defined(EXEUNT_TSAN) || defined(EXEUNT_ASAN)
constexpr int scale = 10;
#else
constexpr int scale = 1;
#endif

class select_stress : public test::on_workers {};
EXEUNT_ON_WORKERS(select_stress);

class select_few : public test::explored {};
EXEUNT_EXPLORED(select_few);

// Goal:   otherwise() wins only if there was an instant at which no channel was ready.
// Method: a token is in one of two channels or in both at any instant, since the one who moves it
//         puts a second one down before it takes the first one up. To look at one channel after the
//         other would find none now and then.
TEST_P(select_stress, otherwise_means_none_at_one_instant) {
  run([] {
    constexpr int count = 100'000 / scale;
    const chan<int> here{2};
    const chan<int> there{2};
    const chan<void> over{1};
    here.send(0);
    go([=] {
      for (int i = 0; i < count; ++i) {
        there.send(i);
        EXPECT_TRUE(here.recv().has_value());
        here.send(i);
        EXPECT_TRUE(there.recv().has_value());
      }
      over.send();
    });
    int none = 0;
    for (bool more = true; more; more = !over.try_recv()) {
      select(on_recv(here, [&](std::optional<int> token) { here.send(*token); }),
             on_recv(there, [&](std::optional<int> token) { there.send(*token); }),
             otherwise([&] { ++none; }));
      yield();
    }
    EXPECT_EQ(none, 0);
  });
}

// SE-16: four channels, each with a plain sender and a plain receiver, one selecting sender and
// one selecting receiver for all.
void select_beside_plain_partners(int count) {
  const std::array channels{chan<int>{}, chan<int>{}, chan<int>{2}, chan<int>{3}};
  const chan<void> over{10};
  for (const chan<int>& c : channels) {
    go([=] {
      for (int i = 0; i < count; ++i) c.send(0);
      over.send();
    });
    go([=] {
      for (int i = 0; i < count; ++i) EXPECT_TRUE(c.recv().has_value());
      over.send();
    });
  }
  const auto repeat = [=](auto&& once) {
    std::array<chan<int>, 4> live = channels;
    std::array<int, 4> done{};
    for (int i = 0; i < 4 * count; ++i) {
      const std::size_t won = once(live);
      if (++done[won] == count) live[won] = nullptr;
    }
    over.send();
  };
  go([=] {
    repeat([](const auto& c) -> std::size_t {
      return select(on_send(c[3], 0, [] { return 3U; }), on_send(c[2], 0, [] { return 2U; }),
                    on_send(c[0], 0, [] { return 0U; }), on_send(c[1], 0, [] { return 1U; }));
    });
  });
  go([=] {
    repeat([](const auto& c) {
      return select(on_recv(c[0], [] {}), on_recv(c[1], [] {}), on_recv(c[2], [] {}),
                    on_recv(c[3], [] {}));
    });
  });
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(over.recv());
}

TEST_P(select_stress, se_16_selects_and_plain_partners) {
  run([] { select_beside_plain_partners(100'000 / scale); });
}

TEST_P(select_few, se_16_selects_and_plain_partners) {
  run([] { select_beside_plain_partners(2); });
}

// Values, ends of contexts and time-outs race; sent = received + left over.
TEST_P(select_stress, racing_selects_lose_nothing) {
  run([] {
    constexpr int fibers = 8;
    constexpr int rounds = 2'000 / scale;
    const std::array channels{chan<std::unique_ptr<int>>{}, chan<std::unique_ptr<int>>{1},
                              chan<std::unique_ptr<int>>{5}};
    std::atomic<std::int64_t> sent = 0;
    std::atomic<std::int64_t> received = 0;
    std::atomic<int> ended = 0;
    const chan<void> over{2 * fibers};
    for (int f = 0; f < fibers; ++f) {
      go([&, f] {
        for (int i = 1; i <= rounds; ++i) {
          auto [ctx, cancel] = with_cancel(context::background());
          go([end = std::move(cancel)] { end(); });
          auto value = std::make_unique<int>(f * rounds + i);
          const int weight = *value;
          const auto won =
              select(on_send(channels[0], std::move(value), [] {}),
                     on_send(channels[1], std::move(value), [] {}),
                     on_send(channels[2], std::move(value), [] {}), on_done(ctx, [] {}),
                     after(i % 2 == 0 ? clock::duration{24h} : clock::duration{20us}, [] {}));
          EXPECT_EQ(value == nullptr, won < 3);
          if (won < 3) sent += weight;
          if (won >= 3) ++ended;
        }
        over.send();
      });
      go([&] {
        for (int i = 1; i <= rounds; ++i) {
          auto [ctx, cancel] = with_cancel(context::background());
          go([end = std::move(cancel)] { end(); });
          const auto take = [&](std::optional<std::unique_ptr<int>> v) { received += **v; };
          const auto won =
              select(on_done(ctx, [] {}), on_recv(channels[2], take), on_recv(channels[0], take),
                     after(i % 2 == 0 ? clock::duration{20us} : clock::duration{24h}, [] {}),
                     on_recv(channels[1], take), on_recv(channels[0], take));
          if (won == 0 || won == 3) ++ended;
        }
        over.send();
      });
    }
    for (int i = 0; i < 2 * fibers; ++i) EXPECT_TRUE(over.recv());
    for (const auto& c : channels) {
      while (auto left = c.try_recv()) received += **left;
    }
    EXPECT_EQ(sent, received);
  });
}

// SE-23: rounds of fibers that select on one channel listed three times; none stays behind, as
// the runtime's end checks, and the channels take what later rounds send.
void select_on_one_listed_thrice(int rounds, int fibers) {
  for (int round = 0; round < rounds; ++round) {
    const chan<int> c;
    const chan<int> kept;
    const chan<void> over{static_cast<std::size_t>(fibers)};
    for (int i = 0; i < fibers; ++i) {
      go([=] {
        select(on_recv(c, [] {}), on_recv(c, [] {}), on_recv(c, [] {}), on_recv(kept, [] {}));
        over.send();
      });
    }
    if (round % 2 == 0) {
      test::until_parked(static_cast<std::size_t>(fibers), detail::wait_reason::select);
    }
    c.close();
    for (int i = 0; i < fibers; ++i) EXPECT_TRUE(over.recv());
    EXPECT_FALSE(kept.try_send(1));
  }
}

TEST_P(select_stress, se_23_leaves_no_waiters) {
  run([] { select_on_one_listed_thrice(20, 10); });
}

TEST_P(select_few, se_23_leaves_no_waiters) {
  run([] { select_on_one_listed_thrice(2, 3); });
}

// Selects that hold the same channels in opposite orders do not deadlock.
TEST_P(select_stress, opposite_orders) {
  run([] {
    constexpr int rounds = 50'000 / scale;
    const chan<int> a;
    const chan<int> b;
    const chan<void> over{4};
    for (int f = 0; f < 4; ++f) {
      go([=] {
        std::int64_t balance = 0;
        for (int i = 0; i < rounds; ++i) {
          if (f == 0) select(on_send(a, 1, [] {}), on_send(b, 1, [] {}));
          if (f == 1) select(on_send(b, 1, [] {}), on_send(a, 1, [] {}));
          if (f == 2) select(on_recv(b, [&] { ++balance; }), on_recv(a, [&] { ++balance; }));
          if (f == 3) select(on_recv(a, [&] { ++balance; }), on_recv(b, [&] { ++balance; }));
        }
        EXPECT_EQ(balance, f >= 2 ? rounds : 0);
        over.send();
      });
    }
    for (int f = 0; f < 4; ++f) EXPECT_TRUE(over.recv());
  });
}

std::uint64_t switches_of_other_threads() {
  const auto self = std::to_string(::gettid());
  std::uint64_t sum = 0;
  for (const auto& entry : std::filesystem::directory_iterator{"/proc/self/task"}) {
    if (entry.path().filename() == self) continue;
    std::ifstream status{entry.path() / "status"};
    for (std::string word; status >> word;) {
      if (word != "voluntary_ctxt_switches:" && word != "nonvoluntary_ctxt_switches:") continue;
      std::uint64_t count = 0;
      status >> count;
      sum += count;
    }
  }
  return sum;
}

// A parked select is parked: while everybody waits, no thread of the runtime runs at all.
TEST_P(select_stress, a_parked_select_burns_nothing) {
  const chan<int> idle;
  auto [ctx, cancel] = with_cancel(context::background());
  runtime workers{{.procs = GetParam()}};
  workers.go([&, ctx] { select(on_recv(idle, [] {}), on_done(ctx, [] {}), after(24h, [] {})); });
  while (test::parked(workers, detail::wait_reason::select) != 1) std::this_thread::yield();

  std::mutex lock;
  std::condition_variable never;
  std::unique_lock held{lock};
  // Lets the workers find out that there is nothing to do.
  never.wait_for(held, 300ms, [] { return false; });
  const std::uint64_t before = switches_of_other_threads();
  never.wait_for(held, 300ms, [] { return false; });
  // A thread that polls each 10 ms would show as 30.
  EXPECT_LE(switches_of_other_threads() - before, 5U);
  cancel();
  EXPECT_EQ(workers.stop(), 0U);
}

}  // namespace
}  // namespace exeunt
