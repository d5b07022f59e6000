// SPDX-License-Identifier: Apache-2.0
// As covered_test.cpp, of pools.

#include <gtest/gtest.h>

#include <atomic>
#include <utility>

#include <exeunt/sched/go.hpp>
#include <exeunt/sync/pool.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "sim/explore_all.hpp"

namespace exeunt {
namespace {

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
  test::explore_all("pool", [] {
    std::atomic<int> count = 0;
    {
      pool<alive> some{
          {.make = [&count] { return alive{count}; }, .limits = {.per_worker = 1, .common = 1}}};
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
}

}  // namespace
}  // namespace exeunt
