// SPDX-License-Identifier: Apache-2.0
// What allocates nothing.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>

#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/lock_order.hpp>
#include <exeunt/sync/map.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/once.hpp>
#include <exeunt/sync/rate_limiter.hpp>
#include <exeunt/sync/semaphore.hpp>
#include <exeunt/sync/shared_mutex.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/allocations.hpp"
#include "support/on_workers.hpp"
#include "support/without_monitor.hpp"

#ifdef EXEUNT_COUNTS_ALLOCATIONS

namespace exeunt {
namespace {

class sync_allocation_test : public test::on_workers {
 protected:
  // Allocations of the whole process are counted, and a monitor makes some when it starts a thread
  // in place of one whose fiber takes long.
  template <typename F>
  void run(F&& body) {
    test::without_monitor alone;
    runtime workers{{.procs = GetParam(), .seam = alone.seam()}};
    workers.run(body);
    test::stop_and_expect_none_left(workers);
  }
};
EXEUNT_ON_WORKERS(sync_allocation_test);

// Runs `f` once to warm up whatever grows, then expects that it allocates nothing.
template <typename F>
void expect_no_allocation(F&& f) {
  for (int i = 0; i < 100; ++i) f();
  const std::size_t before = test::allocations;
  for (int i = 0; i < 10'000; ++i) f();
  EXPECT_EQ(test::allocations - before, 0U);
}

// SY-19: of a once that is done, and of a value that was made.
TEST_P(sync_allocation_test, sy_19_once_when_it_is_done) {
  run([] {
    once first;
    int calls = 0;
    once_value both{[&] {
      ++calls;
      return std::pair{1, 2};
    }};
    expect_no_allocation([&] {
      first.call([&] { ++calls; });
      EXPECT_EQ(both(), (std::pair{1, 2}));
    });
    EXPECT_EQ(calls, 2);
  });
}

// Also those whose order is watched, and known.
TEST_P(sync_allocation_test, locks) {
  for (const lock_order mode : {lock_order::off, lock_order::report}) {
    const lock_order before = set_lock_order(mode);
    run([] {
      mutex a;
      shared_mutex b;
      expect_no_allocation([&] {
        a.lock();
        a.unlock();
        b.lock_shared();
        b.unlock_shared();
      });
      expect_no_allocation([&] {
        const std::lock_guard outer{a};
        const std::lock_guard inner{b};
      });
    });
    set_lock_order(before);
  }
}

// SY-40.
TEST_P(sync_allocation_test, sy_40_ranges_and_clears_of_an_empty_map) {
  run([] {
    map<int, int> empty;
    expect_no_allocation([&] {
      empty.range([](int, int) { ADD_FAILURE(); });
      empty.clear();
    });
    empty.store(1, 2);
    expect_no_allocation([&] {
      EXPECT_EQ(empty.load(1), 2);
      empty.store(1, 2);
    });
  });
}

TEST_P(sync_allocation_test, a_semaphore_also_when_it_is_waited_for) {
  run([] {
    semaphore one{1};
    std::atomic<bool> over = false;
    wait_group other;
    other.go([&] {
      while (!over) {
        one.acquire();
        one.release();
        yield();
      }
    });
    expect_no_allocation([&] {
      one.acquire();
      yield();
      one.release();
    });
    over = true;
    other.wait();
  });
}

TEST_P(sync_allocation_test, a_rate_limiter) {
  run([] {
    rate_limiter limiter{1e12, 100};
    expect_no_allocation([&] {
      static_cast<void>(limiter.allow());
      auto taken = limiter.reserve();
      taken.cancel();
      EXPECT_TRUE(limiter.wait(context::background()));
    });
  });
}

}  // namespace
}  // namespace exeunt

#endif
