// SPDX-License-Identifier: Apache-2.0
// As covered_test.cpp, of pools: small worlds, under every schedule; in core_model with a step at
// each atomic operation.

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <utility>

#include <exeunt/sched/go.hpp>
#include <exeunt/sim/explore.hpp>
#include <exeunt/sim/gtest.hpp>
#include <exeunt/sync/pool.hpp>
#include <exeunt/sync/wait_group.hpp>

namespace exeunt {
namespace {

#if defined(EXEUNT_TSAN) || defined(EXEUNT_ASAN) || defined(EXEUNT_CORE_MODEL)
constexpr unsigned preemptions = 1;  // In core_model at each atomic operation.
#else
constexpr unsigned preemptions = 2;
#endif

/// Knows how many there are.
struct alive {
  explicit alive(std::atomic<int>& c) : count{&c} { ++*count; }
  alive(const alive&) = delete;
  ~alive() { --*count; }
  std::atomic<int>* count;  // Of several objects: nothing orders their ends.
  bool taken = false;
};

// Goal:   whatever the order, an object has one holder, and is destroyed once.
// Method: two that get and give back, through a cache and a store that hold one each, while a third
//         one trims.
TEST(covered_pool, an_object_has_one_holder) {
  const auto sum = sim::expect_explored(
      {.name = "pool", .schedules = 2'000'000, .preemptions = preemptions, .exhaustive = true}, [] {
        std::atomic<int> count = 0;
        {
          pool<alive> some{{.make = [&count] { return alive{count}; },
                            .limits = {.per_worker = 1, .common = 1}}};
          wait_group group;
          for (int f = 0; f < 2; ++f) {
            group.go([&] {
              const auto one = some.get();
              EXPECT_FALSE(std::exchange(one->taken, true));
              const auto two = some.get();
              EXPECT_FALSE(std::exchange(two->taken, true));
              yield();
              one->taken = two->taken = false;
            });
          }
          group.go([&] { some.trim(); });
          group.wait();
          EXPECT_LE(some.idle(), 2U);
          EXPECT_EQ(static_cast<std::size_t>(count.load()), some.idle());
        }
        EXPECT_EQ(count.load(), 0);
      });
  EXPECT_TRUE(sum.covered);
  ::testing::Test::RecordProperty("schedules_of_pool", std::to_string(sum.schedules));
}

}  // namespace
}  // namespace exeunt
