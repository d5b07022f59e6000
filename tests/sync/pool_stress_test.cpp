// SPDX-License-Identifier: Apache-2.0
// Goal:   a pool gives each object to one at a time, and loses none, when real threads get, give
//         back, steal, trim and age at once.
// Method: numbers that are taken once each; marks that only the holder may set.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include <exeunt/base/race.hpp>
#include <exeunt/base/random.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sync/pool.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/explored.hpp"
#include "support/on_workers.hpp"

namespace exeunt {
namespace {

#ifdef EXEUNT_HAS_TSAN
constexpr int scale = 1;
#else
constexpr int scale = 20;
#endif

class pool_stress_test : public test::on_workers {};
EXEUNT_ON_WORKERS(pool_stress_test);

class pool_few_test : public test::explored {};
EXEUNT_EXPLORED(pool_few_test);

// Nobody ever sees anything but what all put in. Go: ten with a million each.
void get_and_put_zeros(int count, int each) {
  pool<int> zeros;
  wait_group fibers;
  for (int f = 0; f < count; ++f) {
    fibers.go([&] {
      for (int i = 0; i < each; ++i) {
        const auto one = zeros.get();
        if (*one != 0) ADD_FAILURE() << "a value that nobody put in";
      }
    });
  }
  fibers.wait();
}

TEST_P(pool_stress_test, sy_33_the_same_value_always) {
  run([] { get_and_put_zeros(10, 50'000 * scale); });
}

TEST_P(pool_few_test, sy_33_the_same_value_always) {
  run([] { get_and_put_zeros(3, 3); });
}

// One gives numbers and takes every tenth back himself, the others take what they find. No tick
// ends one, and a cache is small enough for a thief to take the last one.
void give_and_take_numbers(int count, int takers) {
  pool<int> numbers{{.limits = {.per_worker = 4,
                                .common = static_cast<std::size_t>(count),
                                .tick = std::chrono::hours{1}}}};
  std::vector<std::atomic<int>> taken(static_cast<std::size_t>(count));
  std::atomic<int> left = count;
  std::atomic<int> own = 0;
  const auto take = [&] {
    const auto number = numbers.try_get().release();
    if (number == nullptr) return false;
    ++taken[static_cast<std::size_t>(*number)];
    --left;
    return true;
  };
  wait_group fibers;
  fibers.go([&] {
    for (int i = 0; i < count; ++i) {
      numbers.put(std::make_unique<int>(i));
      if (i % 10 == 0 && take()) ++own;
      if (i % 100 == 0) yield();
    }
  });
  for (int f = 0; f < takers; ++f) {
    fibers.go([&] {
      while (left > 0) {
        if (!take()) yield();
      }
    });
  }
  fibers.wait();
  for (const auto& times : taken) ASSERT_EQ(times, 1);
  EXPECT_GT(own, 0);
}

TEST_P(pool_stress_test, sy_34_each_number_is_taken_once) {
  run([] { give_and_take_numbers(20'000 * scale, 9); });
}

TEST_P(pool_few_test, sy_34_each_number_is_taken_once) {
  run([] { give_and_take_numbers(11, 2); });
}

// With parks while objects are out, so that they are given back elsewhere; and with ticks.
TEST_P(pool_stress_test, an_object_has_one_holder) {
  run([] {
    struct held {
      std::int64_t uses = 0;
      int holder = -1;
    };
    std::atomic<bool> over = false;
    pool<held> some{
        {.limits = {.per_worker = 8, .common = 32, .tick = std::chrono::milliseconds{1}}}};
    wait_group fibers;
    wait_group agers;
    for (int f = 0; f < 8; ++f) {
      fibers.go([&, f] {
        detail::random_source random{static_cast<std::uint64_t>(f + 1)};
        for (int i = 0; i < 500 * scale; ++i) {
          std::vector<pooled<held>> mine;
          for (std::uint32_t n = random.below(20); n > 0; --n) {
            mine.push_back(some.get());
            EXPECT_EQ(mine.back()->holder, -1);
            mine.back()->holder = f;
            ++mine.back()->uses;
          }
          if (random.below(4) == 0) yield();
          for (const auto& one : mine) {
            EXPECT_EQ(one->holder, f);
            one->holder = -1;
          }
        }
      });
    }
    agers.go([&] {
      while (!over) {
        some.trim();
        yield();
      }
    });
    fibers.wait();
    over = true;
    agers.wait();
  });
}

}  // namespace
}  // namespace exeunt
