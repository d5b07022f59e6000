// SPDX-License-Identifier: Apache-2.0
// Many fibers and threads on one channel. Counts and sums, since order is not theirs to keep.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <exeunt/base/log.hpp>
#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>

#include "support/explored.hpp"
#include "support/on_workers.hpp"

namespace exeunt {
namespace {

#if defined(EXEUNT_TSAN) || defined(EXEUNT_ASAN)
constexpr int scale = 10;
#else
constexpr int scale = 1;
#endif

class chan_stress : public test::on_workers {};
EXEUNT_ON_WORKERS(chan_stress);

class chan_few : public test::explored {};
EXEUNT_EXPLORED(chan_few);

// CH-23: a queue shared by many workers, and their results in another.
void work_through_a_queue(int workers, int count, std::size_t capacity) {
  constexpr std::array primes{2, 3, 7, 11, 13, 17, 19, 23, 27, 31};
  const chan<int> queue{capacity};
  const chan<int> results{capacity};
  const chan<void> over{static_cast<std::size_t>(workers)};
  for (int w = 0; w < workers; ++w) {
    go([=] {
      for (const int v : queue) {
        if (w % 3 == v % 3) yield();
        results.send(v);
      }
      over.send();
    });
  }
  std::int64_t expected = 0;
  for (int i = 0; i < count; ++i) expected += primes[static_cast<std::size_t>(i) % 10];
  go([=] {
    for (int i = 0; i < count; ++i) queue.send(primes[static_cast<std::size_t>(i) % 10]);
    queue.close();
    for (int w = 0; w < workers; ++w) EXPECT_TRUE(over.recv());
    results.close();
  });
  std::int64_t sum = 0;
  int received = 0;
  for (const int v : results) {
    sum += v;
    ++received;
  }
  EXPECT_EQ(received, count);
  EXPECT_EQ(sum, expected);
}

TEST_P(chan_stress, ch_23_many_consumers) {
  run([] { work_through_a_queue(23, 271'828 / scale, 69); });
}

TEST_P(chan_few, ch_23_many_consumers) {
  for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}, std::size_t{2}}) {
    run([capacity] { work_through_a_queue(3, 8, capacity); });
  }
}

// Producers and consumers, half of them plain threads, of values that own memory.
TEST_P(chan_stress, moves_each_value_once) {
  for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}, std::size_t{64}}) {
    run([capacity] {
      constexpr int producers = 4;
      constexpr int consumers = 4;
      constexpr int each = 20'000 / scale;
      const chan<std::unique_ptr<int>> c{capacity};
      const chan<void> produced{producers};
      const chan<std::int64_t> sums{consumers};
      std::vector<std::thread> threads;
      for (int i = 0; i < producers; ++i) {
        auto body = [=] {
          for (int v = 1; v <= each; ++v) c.send(std::make_unique<int>(v));
          produced.send();
        };
        if (i % 2 == 0) {
          go(body);
        } else {
          threads.emplace_back(body);
        }
      }
      for (int i = 0; i < consumers; ++i) {
        auto body = [=] {
          std::int64_t sum = 0;
          for (const std::unique_ptr<int>& v : c) sum += *v;
          sums.send(sum);
        };
        if (i % 2 == 0) {
          go(body);
        } else {
          threads.emplace_back(body);
        }
      }
      for (int i = 0; i < producers; ++i) EXPECT_TRUE(produced.recv());
      c.close();
      std::int64_t sum = 0;
      for (int i = 0; i < consumers; ++i) sum += *sums.recv();
      EXPECT_EQ(sum, std::int64_t{producers} * each * (each + 1) / 2);
      for (std::thread& one : threads) one.join();
    });
  }
}

// A value that a context's end races with is either delivered or still there: never both or none.
TEST_P(chan_stress, cancels_lose_nothing) {
  run([] {
    constexpr int rounds = 5'000 / scale;
    for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}}) {
      std::int64_t sent = 0;
      std::int64_t received = 0;
      for (int i = 1; i <= rounds; ++i) {
        const chan<int> c{capacity};
        const chan<void> over{2};
        auto [sender_ctx, cancel_sender] = with_cancel(context::background());
        auto [receiver_ctx, cancel_receiver] = with_cancel(context::background());
        go([&, over, ctx = sender_ctx] {
          if (c.send(ctx, i)) sent += i;
          over.send();
        });
        go([&, over, ctx = receiver_ctx] {
          if (const auto v = c.recv(ctx)) received += *v;
          over.send();
        });
        if (i % 3 == 0) yield();
        if (i % 2 == 0) {
          cancel_sender();
          cancel_receiver();
        } else {
          cancel_receiver();
          cancel_sender();
        }
        EXPECT_TRUE(over.recv());
        EXPECT_TRUE(over.recv());
        if (const auto left = c.try_recv()) received += *left;
      }
      EXPECT_EQ(sent, received);
    }
  });
}

}  // namespace
}  // namespace exeunt
