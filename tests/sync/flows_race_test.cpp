// SPDX-License-Identifier: Apache-2.0
// What maps, pools, queues, singleflights and rate limiters do not order. ThreadSanitizer is the
// judge; what they do order is in their own tests.

#include <gtest/gtest.h>

#include "support/race.hpp"

#ifdef EXEUNT_TSAN

#include <atomic>
#include <functional>
#include <memory>

#include <exeunt/sched/go.hpp>
#include <exeunt/sync/map.hpp>
#include <exeunt/sync/pool.hpp>
#include <exeunt/sync/queue.hpp>
#include <exeunt/sync/rate_limiter.hpp>
#include <exeunt/sync/singleflight.hpp>
#include <exeunt/sync/wait_group.hpp>

namespace exeunt {
namespace {

class flows_race_death_test : public test::race_death_test {};

// Fiber "one" writes and then does `after`; when it has, "two" does `before` and writes.
void write_in_turn(const std::function<void()>& after, const std::function<void()>& before) {
  int v = 0;
  std::atomic<bool> done{false};  // Relaxed: orders nothing.
  wait_group over;
  over.go({.name = "one"}, [&] {
    v = 1;
    after();
    done.store(true, std::memory_order_relaxed);
  });
  over.go({.name = "two"}, [&] {
    while (!done.load(std::memory_order_relaxed)) yield();
    before();
    v = 2;
  });
  over.wait();
}

TEST_F(flows_race_death_test, two_keys_of_a_map) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    map<int, int> numbers;
    write_in_turn([&] { numbers.store(1, 1); }, [&] { static_cast<void>(numbers.load(2)); });
  });
}

TEST_F(flows_race_death_test, a_load_and_a_store_that_comes_after_it) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    map<int, int> numbers;
    write_in_turn([&] { static_cast<void>(numbers.load(1)); }, [&] { numbers.store(1, 1); });
  });
}

TEST_F(flows_race_death_test, the_size_of_a_map) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    map<int, int> numbers;
    write_in_turn([&] { numbers.store(1, 1); }, [&] { static_cast<void>(numbers.size()); });
  });
}

TEST_F(flows_race_death_test, rd_24_an_object_that_was_given_back) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    pool<int> numbers{{.limits = {.per_worker = 0}}};  // So that the second gets the first's.
    std::atomic<int*> given = nullptr;                 // Relaxed, as the next: orders nothing.
    std::atomic<bool> taken = false;
    wait_group over;
    over.go({.name = "one"}, [&] {
      auto mine = numbers.get();
      int* const kept = mine.get();
      mine.reset();
      given.store(kept, std::memory_order_relaxed);
      while (!taken.load(std::memory_order_relaxed)) yield();
      *kept = 1;
    });
    over.go({.name = "two"}, [&] {
      while (given.load(std::memory_order_relaxed) == nullptr) yield();
      auto mine = numbers.get();
      EXPECT_EQ(mine.get(), given.load(std::memory_order_relaxed));
      *mine = 2;
      taken.store(true, std::memory_order_relaxed);
      static_cast<void>(mine.release().release());  // Until both are through.
    });
    over.wait();
    delete given.load(std::memory_order_relaxed);
  });
}

TEST_F(flows_race_death_test, two_objects_of_a_pool) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    pool<int> numbers;
    write_in_turn([&] { numbers.get().reset(); }, [&] { numbers.put(std::make_unique<int>(2)); });
  });
}

TEST_F(flows_race_death_test, two_producers_of_a_queue) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    queue<int> numbers;
    write_in_turn([&] { static_cast<void>(numbers.push(1)); },
                  [&] { static_cast<void>(numbers.push(2)); });
  });
}

TEST_F(flows_race_death_test, two_consumers_of_a_queue) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    queue<int> numbers;
    static_cast<void>(numbers.push(1));
    static_cast<void>(numbers.push(2));
    write_in_turn([&] { static_cast<void>(numbers.pop()); },
                  [&] { static_cast<void>(numbers.pop()); });
  });
}

TEST_F(flows_race_death_test, two_calls_of_a_singleflight_one_after_the_other) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    singleflight<int, int> flights;
    const auto call = [&] { static_cast<void>(flights.call(1, [] { return 1; })); };
    write_in_turn(call, call);
  });
}

TEST_F(flows_race_death_test, two_that_a_rate_limiter_allows) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    rate_limiter limiter{10, 10};
    const auto allow = [&] { static_cast<void>(limiter.allow()); };
    write_in_turn(allow, allow);
  });
}

}  // namespace
}  // namespace exeunt

#endif
