// SPDX-License-Identifier: Apache-2.0
// blocking() as its callers see it; its threads are in blocking_pool_test.cpp.

#include <exeunt/sched/blocking.hpp>

#include <gtest/gtest.h>

#include <sys/resource.h>
#include <unistd.h>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <semaphore>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

#include <exeunt/sched/runtime.hpp>

#include "sched/seam.hpp"
#include "support/child.hpp"
#include "support/on_workers.hpp"
#include "support/semaphore.hpp"
#include "support/until_parked.hpp"

namespace exeunt {
namespace {

TEST(blocking, runs_on_another_thread_and_returns_the_value) {
  test::run_on(1, [] {
    const auto here = std::this_thread::get_id();
    const auto there = blocking([] { return std::this_thread::get_id(); });
    EXPECT_NE(here, there);
    EXPECT_EQ(*blocking([] { return std::make_unique<int>(5); }), 5);
  });
}

TEST(blocking, passes_exceptions_on) {
  test::run_on(1, [] {
    EXPECT_THROW(blocking([] { throw std::runtime_error{"from the pool"}; }), std::runtime_error);
  });
}

TEST(blocking, lets_the_worker_go_on) {
  test::run_on(1, [] {
    std::atomic<bool> other_ran{false};
    go([&] { other_ran = true; });
    blocking([&] {
      while (!other_ran) std::this_thread::yield();
    });
    EXPECT_TRUE(other_ran);
  });
}

TEST(blocking, calls_directly_on_a_plain_thread) {
  EXPECT_EQ(blocking([] { return std::this_thread::get_id(); }), std::this_thread::get_id());
}

TEST(blocking, calls_in_turn_use_one_thread) {
  runtime workers{{.procs = 1}};
  workers.run([&] {
    for (int i = 1; i <= 100; ++i) {
      blocking([] {});
      const runtime_stats now = workers.stats();
      EXPECT_EQ(now.blocking_threads, 1U);
      EXPECT_EQ(now.blocking_threads_idle, 1U);
      EXPECT_EQ(now.blocking_queued, 0U);
      EXPECT_EQ(now.blocking_completed, static_cast<std::uint64_t>(i));
    }
  });
}

TEST(blocking, waits_its_turn_at_the_bound) {
  runtime workers{{.procs = 2, .blocking_threads_max = 2}};
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  std::atomic<bool> open{false};
  workers.run([&] {
    test::semaphore done;
    for (int i = 0; i < 10; ++i) {
      go([&] {
        blocking([&] {
          const int now = ++inside;
          int seen = most;
          while (seen < now && !most.compare_exchange_weak(seen, now)) {
          }
          open.wait(false);
          --inside;
        });
        done.post();
      });
    }
    while (workers.stats().blocking_queued < 8) yield();
    EXPECT_EQ(workers.stats().blocking_threads, 2U);
    open = true;
    open.notify_all();
    for (int i = 0; i < 10; ++i) done.wait();
  });
  EXPECT_LE(most, 2);
  EXPECT_EQ(workers.stats().blocking_completed, 10U);
}

// Only a call that no thread is there for is refused; see also blocking_pool_test.cpp.
TEST(blocking, throws_if_the_system_refuses_the_first_thread) {
  static std::atomic<int> refusal;
  refusal = EAGAIN;
  detail::seam parts{.refuse_thread = []() noexcept { return refusal.load(); }};
  runtime workers{{.procs = 1, .seam = &parts}};
  workers.run([&] {
    bool thrown = false;
    try {
      blocking([] { ADD_FAILURE() << "was called"; });
    } catch (const std::system_error& refused) {
      thrown = true;
      EXPECT_EQ(refused.code(), std::errc::resource_unavailable_try_again);
      EXPECT_NE(std::string{refused.what()}.find("blocking: no thread"), std::string::npos);
    }
    EXPECT_TRUE(thrown);
    refusal = 0;
    EXPECT_EQ(blocking([] { return 3; }), 3);
    refusal = EAGAIN;
    std::binary_semaphore begun{0};
    std::binary_semaphore may_end{0};
    test::semaphore done;
    go([&] {
      blocking([&] {
        begun.release();
        may_end.acquire();
      });
      done.post();
    });
    while (!begun.try_acquire()) yield();
    go([&] {
      EXPECT_EQ(blocking([] { return 4; }), 4);
      done.post();
    });
    while (workers.stats().blocking_queued == 0) yield();
    may_end.release();
    done.wait();
    done.wait();
  });
}

#if !EXEUNT_ASAN && !EXEUNT_TSAN  // They need all the address space there is.
TEST(blocking, outlives_a_system_that_has_no_room_for_threads) {
  if (test::child::body() == "no room") {
    runtime workers{{.procs = 1}};
    const int code = workers.run([&] {
      std::ifstream statm{"/proc/self/statm"};
      std::size_t pages = 0;
      statm >> pages;
      const rlim_t bytes = pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) + (2U << 20U);
      rlimit before{};
      EXPECT_EQ(::getrlimit(RLIMIT_AS, &before), 0);
      const rlimit limit{bytes, before.rlim_max};
      EXPECT_EQ(::setrlimit(RLIMIT_AS, &limit), 0);
      try {
        blocking([] {});
        test::say("no exception");
      } catch (const std::system_error& refused) {
        test::say(refused.what());
      }
      EXPECT_EQ(::setrlimit(RLIMIT_AS, &before), 0);
      return blocking([] { return 6; });
    });
    std::exit(code);
  }
  if (std::getenv("EXEUNT_TEST_PROGRAM") != nullptr) {
    GTEST_SKIP() << "qemu keeps limits of the address space for itself";
  }
  test::child refused{"no room"};
  EXPECT_EQ(refused.finish(), 6) << refused.output();
  EXPECT_NE(refused.output().find("blocking: no thread can be started"), std::string::npos)
      << refused.output();
}
#endif

TEST(blocking, a_stop_waits_for_what_ends_soon) {
  runtime workers{{.procs = 1}};
  std::binary_semaphore begun{0};
  std::atomic<bool> went_on{false};
  workers.go([&] {
    blocking([&] { begun.release(); });
    went_on = true;
  });
  begun.acquire();
  EXPECT_EQ(workers.stop(), 0U);
  EXPECT_TRUE(went_on);
}

// Goal:   a call that has not begun when its runtime stops never does: what it refers to may be
//         gone. One that has begun ends on its own.
TEST(blocking, a_stop_begins_no_call_that_waits) {
  std::binary_semaphore begun{0};
  std::binary_semaphore may_end{0};
  std::binary_semaphore ended{0};
  {
    runtime workers{{.procs = 1, .blocking_threads_max = 1}};
    workers.go([&] {
      blocking([&] {
        begun.release();
        may_end.acquire();
        ended.release();
      });
      ADD_FAILURE() << "an abandoned fiber ran";
    });
    begun.acquire();
    workers.go([&] {
      blocking([] { ADD_FAILURE() << "was called"; });
      ADD_FAILURE() << "an abandoned fiber ran";
    });
    while (workers.stats().blocking_queued == 0) std::this_thread::yield();
    testing::internal::CaptureStderr();
    EXPECT_EQ(workers.stop(), 2U);
    const std::string report = testing::internal::GetCapturedStderr();
    EXPECT_NE(report.find("waits for blocking call"), std::string::npos) << report;
    EXPECT_EQ(workers.stats().blocking_queued, 0U);
  }
  may_end.release();
  ended.acquire();
}

}  // namespace
}  // namespace exeunt
