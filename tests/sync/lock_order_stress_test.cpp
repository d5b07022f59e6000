// SPDX-License-Identifier: Apache-2.0
// Goal:   whoever keeps an order is never accused, however many do it at once.
// Method: fibers and threads take random subsets of many locks, in the order of their numbers, by
//         every form of lock; locks come and go; some are unlocked by others than took them. One
//         order against all of these is then found.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <exeunt/base/random.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sync/lock_order.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/shared_mutex.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/lock_reports.hpp"
#include "support/on_workers.hpp"

namespace exeunt {
namespace {

using detail::random_source;
using test::lock_reports;

#ifdef EXEUNT_HAS_TSAN
constexpr int scale = 1;
#else
constexpr int scale = 4;
#endif

class lock_order_stress_test : public test::on_workers {
 protected:
  lock_reports reports_;
};
EXEUNT_ON_WORKERS(lock_order_stress_test);

constexpr std::size_t locks = 48;

struct lock_set {
  std::array<mutex, locks> plain;
  std::array<shared_mutex, locks> shared;
  std::array<mutex, locks> ranked = make_ranked(std::make_index_sequence<locks>{});

  template <std::size_t... I>
  static std::array<mutex, locks> make_ranked(std::index_sequence<I...>) {
    return {mutex{lock_rank{I + 1}}...};
  }
};

// Takes some of what is at and behind `from`, and then some more inside.
void take_some(lock_set& all, random_source& random, std::size_t from, int depth) {
  if (depth == 0 || from >= locks) {
    if (random.below(4) == 0) yield();
    return;
  }
  const std::size_t at = from + random.below(static_cast<std::uint32_t>(locks - from));
  switch (random.below(5)) {
    case 0: {
      const std::lock_guard held{all.plain[at]};
      return take_some(all, random, at + 1, depth - 1);
    }
    case 1: {
      const std::lock_guard held{all.shared[at]};
      return take_some(all, random, at + 1, depth - 1);
    }
    case 2: {
      const std::shared_lock held{all.shared[at]};
      return take_some(all, random, at + 1, depth - 1);
    }
    case 3: {
      const std::lock_guard held{all.ranked[at]};
      return take_some(all, random, at + 1, depth - 1);
    }
    default: {
      // One that comes and goes, under what is held.
      mutex passing;
      const std::lock_guard held{passing};
      return take_some(all, random, at, depth - 1);
    }
  }
}

void take_many(lock_set& all, std::uint64_t seed) {
  random_source random{seed};
  for (int round = 0; round < 200 * scale; ++round) take_some(all, random, 0, 5);
}

TEST_P(lock_order_stress_test, an_order_kept_by_all_is_never_told_of) {
  const auto all = std::make_unique<lock_set>();
  std::vector<std::thread> threads;
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    threads.emplace_back([&, seed] { take_many(*all, seed); });
  }
  run([&] {
    wait_group fibers;
    for (std::uint64_t seed = 10; seed < 26; ++seed) {
      fibers.go([&, seed] { take_many(*all, seed); });
    }
    fibers.wait();
  });
  for (std::thread& thread : threads) thread.join();
  for (const std::string& report : lock_reports::take()) ADD_FAILURE() << report;

  const std::scoped_lock last_first{all->plain[locks - 1]};
  const std::scoped_lock first_last{all->plain[0]};
  EXPECT_EQ(lock_reports::take().size(), 1U);
}

// A lock as a signal between two fibers, taken by one and let go by the other: so lists are changed
// from elsewhere all the time.
TEST_P(lock_order_stress_test, what_others_unlock_is_held_no_more) {
  run([] {
    wait_group pairs;
    for (int pair = 0; pair < 8; ++pair) {
      pairs.go([] {
        mutex signal, before, after;
        for (int round = 0; round < 100 * scale; ++round) {
          signal.lock();
          wait_group other;
          other.go([&] {
            const std::lock_guard held{before};
            signal.unlock();
          });
          other.wait();
          // Both ways, but never under `signal`.
          const std::lock_guard held{before};
          const std::lock_guard inner{round % 2 == 0 ? signal : after};
        }
      });
    }
    pairs.wait();
  });
  for (const std::string& report : lock_reports::take()) ADD_FAILURE() << report;
}

// Whoever unlocked a lock last may destroy it, while its taker looks at what he holds.
TEST_P(lock_order_stress_test, what_others_unlock_may_be_gone) {
  run([] {
    wait_group pairs;
    for (int pair = 0; pair < 8; ++pair) {
      pairs.go([] {
        mutex stays;
        for (int round = 0; round < 200 * scale; ++round) {
          auto passing = std::make_unique<mutex>();
          passing->lock();
          wait_group other;
          other.go([given = std::move(passing)]() mutable {
            given->unlock();
            given.reset();
          });
          {
            const std::lock_guard held{stays};
          }
          other.wait();
        }
      });
    }
    pairs.wait();
  });
  for (const std::string& report : lock_reports::take()) ADD_FAILURE() << report;
}

}  // namespace
}  // namespace exeunt
