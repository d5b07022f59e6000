// SPDX-License-Identifier: Apache-2.0
// Contexts made, ended, waited for and dropped from everywhere at once.

#include <exeunt/context/context.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include <exeunt/context/after_func.hpp>
#include <exeunt/context/blocking.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>

#include "support/on_workers.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;

class context_stress_test : public exeunt::test::on_workers {};

struct number {
  using type = int;
};

// Goal:   every wait is ended, every after_func runs or is prevented, the parent keeps nothing.
// Method: trees of random shape below one root, whose layers end by cancel, by deadline or with
//         the root; counts at the end.
TEST_P(context_stress_test, trees_end_completely) {
  run([] {
    for (int round = 0; round < 60; ++round) {
      auto [root, cancel_root] = with_cancel_cause(context::background());
      std::atomic<int> waiting{0};
      std::atomic<int> waited{0};
      std::atomic<int> registered{0};
      std::atomic<int> ran{0};
      std::atomic<int> prevented{0};
      std::atomic<int> done{0};
      constexpr int fibers = 8;
      for (int f = 0; f < fibers; ++f) {
        go([&, c = root, f] {
          std::vector<cancel_func> cancels;
          context ctx = c;
          for (int i = 0; i < 12; ++i) {
            const bool timed = (f + i) % 3 == 0;
            auto [derived, cancel] =
                timed ? with_timeout(ctx, std::chrono::microseconds{50 * i}) : with_cancel(ctx);
            ctx = with_value<number>(derived, i);
            cancels.push_back(std::move(cancel));
            ++waiting;
            go([&waited, ctx] {
              ctx.wait();
              ++waited;
            });
            ++registered;
            after_func_handle handle = after_func(ctx, [&ran] { ++ran; });
            if (i % 4 == 0 && handle.stop()) ++prevented;
            if (i % 5 == f % 5) cancels[static_cast<std::size_t>(i) / 2]();
          }
          EXPECT_EQ(*ctx.value<number>(), 11);
          if (f % 2 == 0) c.wait();
          ++done;
        });
      }
      if (round % 2 == 0) yield();
      cancel_root(errc::closed);
      while (done < fibers || waited < waiting || ran + prevented < registered) yield();
      EXPECT_EQ(detail::node_of(root)->child_count(), 0U);
    }
  });
}

// Plain threads and fibers on one tree.
TEST_P(context_stress_test, threads_take_part) {
  run([] {
    for (int round = 0; round < 30; ++round) {
      auto [root, cancel] = with_cancel(context::background());
      std::atomic<int> ended{0};
      std::vector<std::thread> threads;
      for (int t = 0; t < 3; ++t) {
        threads.emplace_back([c = root, t] {
          for (int i = 0; i < 20; ++i) static_cast<void>(with_timeout(c, 1h));
          auto [mine, cancel_mine] = with_timeout(c, t == 0 ? clock::duration{1ms} : 1h);
          mine.wait();
        });
      }
      for (int f = 0; f < 3; ++f) {
        go([c = root, &ended] {
          with_cancel(c).ctx.wait();
          ++ended;
        });
      }
      yield();
      cancel();
      while (ended < 3) yield();
      for (std::thread& thread : threads) thread.join();
    }
  });
}

// Goal:   a call runs or does not, and what it held is gone either way, whoever came first: its
//         thread, its context's end, its caller's leaving.
// Method: one or two threads for many callers, whose contexts end by deadlines of microseconds.
TEST(context_stress, blocking_calls_against_deadlines) {
  for (const unsigned threads : {1U, 2U}) {
    const auto held = std::make_shared<int>(0);
    std::atomic<int> ran{0};
    std::atomic<int> returned{0};
    std::atomic<int> left{0};
    runtime workers{{.procs = 2, .blocking_threads_max = threads}};
    workers.run([&] {
      constexpr int fibers = 8;
      constexpr int calls = 200;
      std::atomic<int> done{0};
      for (int f = 0; f < fibers; ++f) {
        go([&, f] {
          for (int i = 0; i < calls; ++i) {
            auto [ctx, cancel] = with_timeout(context::background(),
                                              std::chrono::microseconds{(f * 31 + i * 7) % 120});
            const result<int> outcome = blocking(ctx, [held, i, &ran] {
              std::this_thread::yield();
              ++ran;
              return i;
            });
            if (outcome) {
              EXPECT_EQ(*outcome, i);
              ++returned;
            } else {
              EXPECT_TRUE(outcome.error().is(errc::deadline_exceeded));
              ++left;
            }
          }
          ++done;
        });
      }
      while (done < fibers) yield();
      EXPECT_EQ(returned + left, fibers * calls);
      EXPECT_GE(ran, returned);
      while (held.use_count() > 1) yield();  // Calls whose callers have left.
    });
    EXPECT_EQ(workers.stats().blocking_queued, 0U);
  }
}

EXEUNT_ON_WORKERS(context_stress_test);

}  // namespace
}  // namespace exeunt
