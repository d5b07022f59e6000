// SPDX-License-Identifier: Apache-2.0
#include <exeunt/sched/os_thread.hpp>

#include <gtest/gtest.h>

#include <unistd.h>
#include <atomic>
#include <cstddef>
#include <new>
#include <optional>
#include <thread>
#include <vector>

#include <exeunt/sched/runtime.hpp>

#include "support/on_workers.hpp"
#include "support/semaphore.hpp"

namespace exeunt {
namespace {

using std::chrono::milliseconds;
using test::semaphore;

class lock_os_thread_test : public test::on_workers {};
EXEUNT_ON_WORKERS(lock_os_thread_test);

// Goal:   whatever a locked fiber does, it is on its thread, and nobody else is.
// Method: locked fibers and others park, yield and sleep in turn; a locked one's thread is noted,
//         and nobody but its fiber may ever be on it.
TEST_P(lock_os_thread_test, keeps_the_fiber_on_a_thread_of_its_own) {
  run([] {
    constexpr int locked = 3;
    constexpr int others = 8;
    constexpr int rounds = 50;
    std::atomic<int> owned[locked]{};
    semaphore done;
    semaphore there[locked];
    semaphore back[locked];
    for (int n = 0; n < locked; ++n) {
      go([&, n] {
        const lock_os_thread here;
        const int thread = ::gettid();
        owned[n] = thread;
        for (int i = 0; i < rounds; ++i) {
          there[n].wait();
          EXPECT_EQ(::gettid(), thread);
          yield();
          EXPECT_EQ(::gettid(), thread);
          if (i % 10 == 0) sleep(milliseconds{1});
          EXPECT_EQ(::gettid(), thread);
          back[n].post();
        }
        owned[n] = 0;
        done.post();
      });
      go([&, n] {
        for (int i = 0; i < rounds; ++i) {
          there[n].post();
          back[n].wait();
        }
        done.post();
      });
    }
    for (int n = 0; n < others; ++n) {
      go([&] {
        for (int i = 0; i < rounds; ++i) {
          yield();
          const int thread = ::gettid();
          for (const auto& owner : owned) EXPECT_NE(owner, thread);
        }
        done.post();
      });
    }
    for (int i = 0; i < 2 * locked + others; ++i) done.wait();
  });
}

// SC-26, its first half. The second differs: see the scope that outlives its fiber.
TEST_P(lock_os_thread_test, scopes_count) {
  run([] {
    std::optional<lock_os_thread> outer;
    outer.emplace();
    const int thread = ::gettid();
    {
      const lock_os_thread inner;
    }
    for (int i = 0; i < 20; ++i) {
      yield();
      EXPECT_EQ(::gettid(), thread);
    }
    outer.reset();
    yield();
  });
}

TEST_P(lock_os_thread_test, what_it_starts_runs_elsewhere) {
  run([] {
    const lock_os_thread here;
    const int thread = ::gettid();
    semaphore done;
    for (int i = 0; i < 10; ++i) {
      go([&] {
        EXPECT_NE(::gettid(), thread);
        done.post();
      });
    }
    for (int i = 0; i < 10; ++i) done.wait();
  });
}

// Goal:   a locked fiber counts for no worker: as many as ever run besides.
TEST(lock_os_thread, leaves_the_workers_their_number) {
  runtime workers{{.procs = 1}};
  workers.run([] {
    std::atomic<bool> flag{false};
    semaphore locked;
    semaphore done;
    go([&] {
      const lock_os_thread here;
      locked.post();
      while (!flag) {  // Without a scheduling point: another worker has to run the main fiber.
      }
      done.post();
    });
    locked.wait();
    flag = true;
    done.wait();
  });
  EXPECT_EQ(workers.stop(), 0U);
  EXPECT_EQ(workers.stats().threads, 0U);
}

TEST(lock_os_thread, a_scope_that_outlives_its_fiber_binds_nobody) {
  runtime workers{{.procs = 2}};
  workers.run([] {
    semaphore done;
    go([&] {
      alignas(lock_os_thread) static std::byte place[sizeof(lock_os_thread)];
      new (place) lock_os_thread;  // Its fiber will be gone: nobody may destroy it.
      done.post();
    });
    done.wait();
    for (int i = 0; i < 100; ++i) yield();
  });
  while (workers.stats().threads != 2) std::this_thread::yield();
  EXPECT_EQ(workers.stop(), 0U);
}

TEST(lock_os_thread, an_abandoned_one_is_reported_and_its_thread_ends) {
  runtime workers{{.procs = 1}};
  workers.run([] {
    static semaphore never;  // Outlives the fiber that is abandoned while it waits for it.
    semaphore locked;
    go([&locked] {
      const lock_os_thread here;
      locked.post();
      never.wait();
    });
    locked.wait();
  });
  EXPECT_EQ(workers.stop(), 1U);
  EXPECT_EQ(workers.stats().threads, 0U);
}

TEST(lock_os_thread, does_nothing_on_a_plain_thread) {
  const lock_os_thread here;
  EXPECT_FALSE(runtime::on_fiber());
}

}  // namespace
}  // namespace exeunt
