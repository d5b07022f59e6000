// SPDX-License-Identifier: Apache-2.0
// Thread-locals of the runtime and of the C++ library after a migration, seen through the public
// interface only: built into the static rooms, and at -O3 against the user library, which may be a
// shared one (preset shared) or optimized as a whole (preset lto).

#include <gtest/gtest.h>

#include <fcntl.h>
#include <unistd.h>
#include <cerrno>
#include <exception>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>

#include <exeunt/base/race.hpp>
#include <exeunt/sched/blocking.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sched/timer_node.hpp>

#include "sched/seam.hpp"
#include "support/partner.hpp"
#include "support/semaphore.hpp"

namespace exeunt {
namespace {

using test::semaphore;

// A user's thread-local, by the documented rule: reached through a function that is not inlined.
thread_local int of_thread = 0;
[[gnu::noinline]] EXEUNT_NO_TSAN int* users_own() {
  int* here = &of_thread;
  asm volatile("" : "+r"(here));
  return here;
}

// By the same rule.
[[gnu::noinline]] EXEUNT_NO_TSAN int get_errno() {
  asm volatile("");
  return errno;
}

class thread_local_test : public ::testing::Test {
 protected:
  static constexpr int rounds = 200;

  // Each wake-up and each yield moves the fiber to the next of three workers.
  template <typename F>
  static void run(F&& body) {
    detail::seam parts{.migrate_always = true};
    runtime workers{{.procs = 3, .seam = &parts}};
    workers.run(body);
    EXPECT_EQ(workers.stop(), 0U);
  }
};

TEST_F(thread_local_test, each_switch_is_a_migration) {
  run([] {
    const int* before = users_own();
    for (int i = 0; i < rounds; ++i) {
      yield();
      const int* const now = users_own();
      EXPECT_NE(now, before);
      before = now;
    }
  });
}

TEST_F(thread_local_test, a_fiber_stays_itself_in_its_own_runtime) {
  run([] {
    semaphore done;
    constexpr int count = 20;
    for (int k = 0; k < count; ++k) {
      go({.name = "number " + std::to_string(k)}, [&done, k] {
        const auto id = this_fiber::id();
        const runtime* const home = &runtime::current();
        const std::string name = "number " + std::to_string(k);
        for (int i = 0; i < rounds; ++i) {
          yield();
          EXPECT_EQ(this_fiber::id(), id);
          EXPECT_EQ(&runtime::current(), home);
          EXPECT_EQ(this_fiber::name(), name);
        }
        done.post();
      });
    }
    for (int k = 0; k < count; ++k) done.wait();
  });
}

// All that asks for the running fiber or worker: park, wake, start, sleep, blocking, chance.
TEST_F(thread_local_test, every_call_after_a_switch_finds_the_worker_it_is_on) {
  run([] {
    test::partner other{rounds};
    std::set<std::uint32_t> chosen;
    for (int i = 0; i < rounds; ++i) {
      other.call();
      chosen.insert(detail::choose_below(1'000'000));
      detail::checkpoint();
      semaphore started;
      go([&] { started.post(); });
      started.wait();
      if (i % 20 == 0) sleep(std::chrono::microseconds{10});
      if (i % 20 == 10) {
        EXPECT_EQ(blocking([i] { return i; }), i);
      }
      detail::ticket one;
      detail::timeout_waiter timeout{one, clock::now() + std::chrono::microseconds{5}};
      detail::park(one, detail::wait_reason::select, nullptr);
      EXPECT_TRUE(timeout.won());
    }
    EXPECT_GT(chosen.size(), 1U);
  });
}

// Goal:   who reads errno after a call, by the rule, sees that call's, wherever the fiber runs.
// Method: the thread that is left keeps another number. With the address of its errno, which the
//         compiler may keep from the first reading, the second reading would find that one.
TEST_F(thread_local_test, errno_is_that_of_the_thread_a_call_ran_on) {
  int ends[2] = {-1, -1};
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  run([&] {
    for (int i = 0; i < rounds; ++i) {
      EXPECT_EQ(::close(-1), -1);
      EXPECT_EQ(get_errno(), EBADF);
      yield();
      EXPECT_EQ(::lseek(ends[0], 0, SEEK_SET), -1);
      EXPECT_EQ(get_errno(), ESPIPE);
    }
  });
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(thread_local_test, an_exception_goes_with_its_fiber) {
  run([] {
    for (int i = 0; i < rounds; ++i) {
      try {
        try {
          throw std::runtime_error{std::to_string(i)};
        } catch (const std::exception& e) {
          yield();
          EXPECT_EQ(e.what(), std::to_string(i));
          EXPECT_NE(std::current_exception(), nullptr);
          yield();
          throw;
        }
      } catch (const std::runtime_error& again) {
        EXPECT_EQ(again.what(), std::to_string(i));
      }
      EXPECT_EQ(std::current_exception(), nullptr);
      EXPECT_EQ(std::uncaught_exceptions(), 0);
    }
  });
}

}  // namespace
}  // namespace exeunt
