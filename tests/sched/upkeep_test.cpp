// SPDX-License-Identifier: Apache-2.0
#include "sched/upkeep.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include <exeunt/base/atomic.hpp>
#include <exeunt/sched/blocking.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>

#include "support/on_workers.hpp"
#include "support/semaphore.hpp"
#include "support/until_parked.hpp"

namespace exeunt::sched {
namespace {

using namespace std::chrono_literals;

struct kept final : upkeep {
  explicit kept(bool stays_there = false) : upkeep{1ms}, stays{stays_there} { begin(); }
  ~kept() {
    if (!ended) end();
  }

  [[nodiscard]] bool has_some() const noexcept override { return some.load(); }
  void call() noexcept override {
    ++calls;
    called.post();
    if (stays) may_leave.wait();
  }

  detail::atomic<bool> some{true};
  detail::atomic<int> calls{0};
  const bool stays;
  bool ended = false;
  test::semaphore called;
  test::semaphore may_leave;
};

/// Counts how often it is asked, and must not be called.
struct asked final : upkeep {
  explicit asked(bool yes, clock::duration every = 1ms) : upkeep{every}, has{yes} { begin(); }
  ~asked() { end(); }

  [[nodiscard]] bool has_some() const noexcept override {
    looks.fetch_add(1);
    return has;
  }
  void call() noexcept override { ADD_FAILURE() << "called"; }

  const bool has;
  mutable detail::atomic<int> looks{0};
};

class upkeep_test : public test::on_workers {};
EXEUNT_ON_WORKERS(upkeep_test);

TEST_P(upkeep_test, is_called_again_and_again) {
  run([] {
    kept one;
    for (int i = 0; i < 3; ++i) one.called.wait();
    EXPECT_GE(one.calls.load(), 3);
  });
}

// With one thread for calls, so that they end in turn.
TEST(upkeep, is_not_called_while_it_has_nothing) {
  runtime workers{{.procs = 2, .blocking_threads_max = 1}};
  workers.run([] {
    kept idle;
    idle.some.store(false);
    kept other;
    const int before = idle.calls.load();  // It may have been called already.
    // The others' calls say that there were looks.
    for (int i = 0; i < 5; ++i) other.called.wait();
    EXPECT_LE(idle.calls.load(), before + 1);
    const int settled = idle.calls.load();
    for (int i = 0; i < 5; ++i) other.called.wait();
    EXPECT_EQ(idle.calls.load(), settled);
  });
  test::stop_and_expect_none_left(workers);
}

TEST_P(upkeep_test, its_end_waits_for_a_call) {
  run([] {
    kept one{true};
    detail::atomic<bool> left{false};
    test::semaphore over;
    one.called.wait();
    go([&] {
      one.end();
      EXPECT_TRUE(left.load());
      over.post();
    });
    test::until_parked(1, detail::wait_reason::join);
    left.store(true);
    one.may_leave.post();
    over.wait();
    one.ended = true;
    EXPECT_EQ(one.calls.load(), 1);
  });
}

// Goal:   an end does not wait for a call that has not begun, nor is it called then.
// Method: the side pool's only thread is blocked, so that the call waits in its queue.
TEST(upkeep, its_end_does_not_wait_for_others_calls) {
  runtime workers{{.procs = 1, .blocking_threads_max = 1}};
  workers.run([] {
    test::semaphore blocked;
    test::semaphore release;
    test::semaphore over;
    go([&] {
      blocking([&] {
        blocked.post();
        release.wait();
      });
      over.post();
    });
    blocked.wait();
    {
      asked probe{false};
      asked one{true};
      // Until it is posted, and so is not asked any more.
      for (int same = 0; same < 3;) {
        const int looks = one.looks.load();
        const int before = probe.looks.load();
        while (probe.looks.load() == before) yield();
        same = one.looks.load() == looks ? same + 1 : 0;
      }
    }
    release.post();
    over.wait();
  });
  test::stop_and_expect_none_left(workers);
}

TEST(upkeep, may_have_no_end_of_time_to_wait_for) {
  runtime workers{{.procs = 1}};
  workers.run([] {
    asked never{true, clock::duration::max()};
    while (never.looks.load() < 3) yield();
  });
  test::stop_and_expect_none_left(workers);
}

// Goal:   whoever is called while the last runtime stops is neither lost nor called for ever.
TEST(upkeep, outlives_runtimes) {
  kept one;
  for (int i = 0; i < 3; ++i) {
    runtime workers{{.procs = 1}};
    workers.run([&] { one.called.wait(); });
    test::stop_and_expect_none_left(workers);
  }
}

}  // namespace
}  // namespace exeunt::sched
