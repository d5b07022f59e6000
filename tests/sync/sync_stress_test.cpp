// SPDX-License-Identifier: Apache-2.0
// Goal:   no wake-up is lost, doubled or given to the wrong one when everything races.
// Method: sums; a lost wake-up hangs and a doubled one trips an assertion. Under ThreadSanitizer
//         the plain counters show missing edges.

#include <chrono>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include <exeunt/base/race.hpp>
#include <exeunt/base/random.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sync/condition_variable.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/once.hpp>
#include <exeunt/sync/semaphore.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/on_workers.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;

#ifdef EXEUNT_HAS_TSAN
constexpr int scale = 1;
#else
constexpr int scale = 10;
#endif

class sync_stress_test : public test::on_workers {};

TEST_P(sync_stress_test, mutex_with_every_way_to_lock_it) {
  run([] {
    mutex m;
    std::int64_t counter = 0;
    std::int64_t expected = 0;
    mutex expected_lock;
    const auto hammer = [&](std::uint64_t seed) {
      detail::random_source random{seed};
      std::int64_t locked = 0;
      for (int i = 0; i < 300 * scale; ++i) {
        bool got = true;
        switch (random.below(8)) {
          case 0:
            got = m.try_lock();
            break;
          case 1:
            got = m.try_lock_for(std::chrono::microseconds{random.below(50)});
            break;
          case 2:
            got = m.lock(with_timeout(context::background(),
                                      std::chrono::microseconds{random.below(50)}))
                      .has_value();
            break;
          default:
            m.lock();
        }
        if (!got) continue;
        ++counter;
        ++locked;
        if (random.below(32) == 0) yield();
        m.unlock();
      }
      const std::lock_guard guard{expected_lock};
      expected += locked;
    };
    wait_group fibers;
    for (std::uint64_t f = 1; f <= 16; ++f) {
      fibers.go([&, f] { hammer(f); });
    }
    std::thread thread{[&] { hammer(99); }};
    fibers.wait();
    thread.join();
    EXPECT_EQ(counter, expected);
    EXPECT_TRUE(m.try_lock());
  });
}

TEST_P(sync_stress_test, condition_variable_passes_every_token) {
  run([] {
    constexpr int fiber_count = 8;
    const int tokens_each = 100 * scale;
    mutex m;
    condition_variable changed;
    int tokens = 0;
    wait_group fibers;
    for (int f = 0; f < fiber_count; ++f) {
      fibers.go([&] {
        for (int i = 0; i < tokens_each; ++i) {
          {
            const std::lock_guard guard{m};
            ++tokens;
          }
          changed.notify_one();
        }
      });
      fibers.go([&] {
        for (int i = 0; i < tokens_each; ++i) {
          std::unique_lock held{m};
          changed.wait(held, [&] { return tokens > 0; });
          --tokens;
        }
      });
    }
    fibers.wait();
    EXPECT_EQ(tokens, 0);
  });
}

TEST_P(sync_stress_test, semaphore_with_contexts_loses_no_unit) {
  run([] {
    semaphore bound{5};
    wait_group fibers;
    for (std::uint64_t f = 1; f <= 12; ++f) {
      fibers.go([&, f] {
        detail::random_source random{f};
        for (int i = 0; i < 100 * scale; ++i) {
          const std::uint64_t weight = random.below(6);
          const auto limit = std::chrono::microseconds{random.below(100)};
          if (random.below(2) == 0) {
            bound.acquire(weight);
          } else if (!bound.acquire(with_timeout(context::background(), limit), weight)) {
            continue;
          }
          if (random.below(8) == 0) yield();
          bound.release(weight);
        }
      });
    }
    fibers.wait();
    EXPECT_TRUE(bound.try_acquire(5));
  });
}

TEST_P(sync_stress_test, once_and_wait_group_in_short_lives) {
  run([] {
    for (int round = 0; round < 100 * scale; ++round) {
      once first;
      wait_group group;
      int value = 0;
      for (int f = 0; f < 6; ++f) {
        group.go([&] {
          first.call([&] {
            yield();
            value = 1;
          });
          EXPECT_EQ(value, 1);
        });
      }
      group.wait();
      ASSERT_EQ(value, 1);
    }
  });
}

EXEUNT_ON_WORKERS(sync_stress_test);

}  // namespace
}  // namespace exeunt
