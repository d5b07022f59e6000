// SPDX-License-Identifier: Apache-2.0

#include <exeunt/sync/pool.hpp>

#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <exeunt/base/error.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/semaphore.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/explored.hpp"
#include "support/on_workers.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;

static_assert(!std::is_copy_constructible_v<pool<int>>);
static_assert(!std::is_move_constructible_v<pool<int>>);
static_assert(!std::is_copy_constructible_v<pooled<int>>);
static_assert(std::is_nothrow_move_constructible_v<pooled<int>>);

/// Counts how many there are, and how many there were.
struct counted {
  counted() { ++made; }
  counted(const counted&) = delete;
  ~counted() { ++ended; }

  int value = 0;

  static void forget() { made = ended = 0; }
  static inline std::atomic<int> made = 0;
  static inline std::atomic<int> ended = 0;
};

class pool_test : public test::explored {};
EXEUNT_EXPLORED(pool_test);

// Simulations have none.
class pool_ticks : public test::on_workers {};
EXEUNT_ON_WORKERS(pool_ticks);

// On one worker; elsewhere the fiber may go on with another one, whose cache is its own.
TEST(pool_one_worker, sy_31_makes_what_is_not_there_and_gives_what_is) {
  test::run_on(1, [] {
    int made = 0;
    pool<int> numbers{{.make = [&made] { return ++made; }}};
    auto first = numbers.get();
    auto second = numbers.get();
    EXPECT_EQ(*first, 1);
    EXPECT_EQ(*second, 2);
    numbers.put(std::make_unique<int>(42));
    auto third = numbers.get();
    EXPECT_EQ(*third, 42);
    EXPECT_EQ(*numbers.get(), 3);
  });
}

TEST(pool_one_worker, gives_what_came_last_first) {
  test::run_on(1, [] {
    pool<int> numbers;
    {
      auto first = numbers.get();
      auto second = numbers.get();
      *first = 1;
      *second = 2;
    }  // The second goes first.
    EXPECT_EQ(*numbers.get(), 1);
    EXPECT_EQ(*numbers.get(), 1);
    auto first = numbers.get();
    EXPECT_EQ(*first, 1);
    EXPECT_EQ(*numbers.get(), 2);
  });
}

TEST_P(pool_test, makes_none_where_asked_only_for_idle_ones) {
  run([] {
    pool<int> numbers;
    EXPECT_FALSE(numbers.try_get());
    *numbers.get() = 7;
    EXPECT_EQ(numbers.idle(), 1U);
    auto one = numbers.try_get();
    ASSERT_TRUE(one);
    EXPECT_EQ(*one, 7);
    EXPECT_FALSE(numbers.try_get());
  });
}

TEST_P(pool_test, a_handle_moves_and_gives_back_once) {
  run([] {
    pool<int> numbers;
    pooled<int> none;
    EXPECT_FALSE(none);
    auto one = numbers.get();
    *one = 1;
    pooled<int> two = std::move(one);
    EXPECT_FALSE(one);  // NOLINT(bugprone-use-after-move): that is what it promises.
    EXPECT_EQ(*two, 1);
    one = numbers.get();
    one = std::move(two);  // Gives back what it had.
    EXPECT_EQ(numbers.idle(), 1U);
    one.reset();
    one.reset();
    EXPECT_EQ(numbers.idle(), 2U);
    EXPECT_EQ(one.get(), nullptr);
  });
}

TEST_P(pool_test, what_is_released_does_not_come_back) {
  run([] {
    pool<int> numbers;
    {
      const std::unique_ptr<int> mine = numbers.get().release();
      ASSERT_NE(mine, nullptr);
    }
    EXPECT_EQ(numbers.idle(), 0U);
    EXPECT_EQ(pooled<int>{}.release(), nullptr);
    numbers.put(nullptr);
    EXPECT_EQ(numbers.idle(), 0U);
  });
}

TEST_P(pool_test, makes_what_cannot_be_moved_or_made_from_nothing) {
  struct fixed {
    explicit fixed(int v) : value{v} {}
    fixed(const fixed&) = delete;
    const int value;
  };
  run([] {
    pool<fixed> some{{.make = [] { return fixed{3}; }}};
    EXPECT_EQ(some.get()->value, 3);
    EXPECT_EQ(some.get()->value, 3);
    EXPECT_EQ(some.idle(), 1U);
  });
}

TEST_P(pool_test, resets_what_is_given_back) {
  run([] {
    pool<std::vector<int>> buffers{{.reset = [](std::vector<int>& one) { one.clear(); }}};
    for (int i = 0; i < 100; ++i) {
      auto buffer = buffers.get();
      EXPECT_TRUE(buffer->empty());
      buffer->push_back(i);
    }
    EXPECT_EQ(buffers.idle(), 1U);
    EXPECT_GE(buffers.get()->capacity(), 1U);
  });
}

TEST(pool_reports, what_a_reset_throws_and_destroys_the_object) {
  counted::forget();
  std::vector<std::string> reports;
  runtime workers{{.procs = 1, .panic_handler = [&](const panic_report& one) {
                     reports.emplace_back(one.what.message());
                   }}};
  workers.run([] {
    pool<counted> some{{.reset = [](counted&) { throw std::runtime_error{"not as new"}; }}};
    some.get().reset();
    EXPECT_EQ(counted::ended, 1);
    EXPECT_EQ(some.idle(), 0U);
  });
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_NE(reports[0].find("not as new"), std::string::npos) << reports[0];
}

TEST_P(pool_test, what_making_throws_reaches_the_caller) {
  run([] {
    int calls = 0;
    pool<int> numbers{{.make = [&calls]() -> int {
      if (calls++ == 0) throw std::runtime_error{"none"};
      return 1;
    }}};
    EXPECT_THROW(static_cast<void>(numbers.get()), std::runtime_error);
    EXPECT_EQ(*numbers.get(), 1);
  });
}

// Three rounds, with what is given back and with what is still out when it is trimmed.
TEST_P(pool_test, sy_32_keeps_no_hidden_reference) {
  run([] {
    counted::forget();
    {
      pool<counted> some;
      for (int round = 0; round < 3; ++round) {
        std::vector<pooled<counted>> out;
        for (int i = 0; i < 100; ++i) out.push_back(some.get());
        pooled<counted> kept = std::move(out.back());
        out.clear();
        EXPECT_EQ(counted::made - counted::ended, 100);
        EXPECT_EQ(some.trim(), 99U);
        EXPECT_EQ(counted::made - counted::ended, 1);
        kept.reset();
        EXPECT_EQ(some.trim(), 1U);
        EXPECT_EQ(counted::made, counted::ended);
        EXPECT_EQ(some.idle(), 0U);
      }
      std::vector<pooled<counted>> out;
      for (int i = 0; i < 1000; ++i) out.push_back(some.get());
      out.resize(1);
      EXPECT_EQ(some.trim(), 999U);
      out.push_back(some.get());
    }
    EXPECT_EQ(counted::made, counted::ended);
  });
}

// Goal:   one that nobody gets is a victim after one tick and gone after two; one that is used
//         stays.
TEST_P(pool_test, two_ticks_end_what_nobody_got) {
  run([] {
    counted::forget();
    detail::pool_core core{{}, [](void* object) noexcept { delete static_cast<counted*>(object); }};
    const auto give = [&](std::size_t count) {
      core.count_out(static_cast<std::ptrdiff_t>(count));
      for (std::size_t i = 0; i < count; ++i) core.give(new counted);
    };
    give(5);
    core.age();
    EXPECT_EQ(core.idle(), 5U);
    // The victims are had if nothing else is there, and are new again when they come back.
    auto* const used = static_cast<counted*>(core.take());
    ASSERT_NE(used, nullptr);
    core.give(used);
    core.age();
    EXPECT_EQ(core.idle(), 1U);
    EXPECT_EQ(counted::ended, 4);
    core.age();
    EXPECT_EQ(core.idle(), 0U);
    EXPECT_EQ(counted::ended, 5);
    // The store's, too: more than fits a batch.
    give(1000);
    core.age();
    EXPECT_EQ(core.idle(), 1000U);
    core.age();
    EXPECT_EQ(core.idle(), 0U);
    EXPECT_EQ(counted::made, counted::ended);
  });
}

// Goal:   the bound holds, whoever gives: a worker, which has a cache, or a thread, which has none.
TEST_P(pool_test, keeps_no_more_than_its_limits) {
  run([] {
    counted::forget();
    pool<counted> some{{.limits = {.per_worker = 4, .common = 10}}};
    for (int i = 0; i < 100; ++i) some.put(std::make_unique<counted>());
    EXPECT_LE(some.idle(), 10U + 4U * std::max(1U, runtime::current().procs()));
    EXPECT_GE(some.idle(), 10U);
    EXPECT_EQ(counted::made - counted::ended, static_cast<int>(some.idle()));
    some.trim();
    std::thread{[&] {
      for (int i = 0; i < 100; ++i) some.put(std::make_unique<counted>());
    }}.join();
    EXPECT_EQ(some.idle(), 10U);
    pool<counted> none{{.limits = {.per_worker = 0, .common = 0}}};
    none.get().reset();
    EXPECT_EQ(none.idle(), 0U);
  });
}

TEST_P(pool_test, refuses_limits_that_make_no_sense) {
  run([] {
    EXPECT_THROW((pool<int>{{.limits = {.per_worker = 257}}}), panic_error);
    EXPECT_THROW((pool<int>{{.limits = {.tick = 0s}}}), panic_error);
  });
}

// Goal:   a worker that has none takes what another one keeps to itself, before it makes a new one.
// Method: fibers that stay each on their worker, told apart by the thread.
TEST(pool_steals, from_a_worker_that_has_many) {
  test::run_on(2, [] {
    pool<int> numbers{{.limits = {.per_worker = 32, .common = 0}}};
    std::atomic<std::thread::id> giver;
    std::atomic<bool> found = false;
    wait_group fibers;
    {
      std::vector<pooled<int>> out;
      for (int i = 0; i < 32; ++i) out.push_back(numbers.get());
      giver = std::this_thread::get_id();
    }
    ASSERT_EQ(numbers.idle(), 32U);
    // Busy, so that the other worker takes one of them in.
    for (int f = 0; f < 2; ++f) {
      fibers.go([&] {
        while (!found) {
          if (std::this_thread::get_id() == giver.load()) {
            yield();
            continue;
          }
          EXPECT_TRUE(numbers.try_get());
          found = true;
        }
      });
    }
    fibers.wait();
    EXPECT_EQ(numbers.idle(), 32U);
  });
}

// ThreadSanitizer is the judge: the objects are plain data.
TEST_P(pool_test, rd_24_giving_back_comes_before_the_get_that_returns_it_and_the_end) {
  struct written {
    int value = 0;
    ~written() { value = -1; }
  };
  run([] {
    pool<written> some{{.limits = {.per_worker = 2, .common = 2}}};
    wait_group fibers;
    for (int f = 0; f < 4; ++f) {
      fibers.go([&] {
        for (int i = 0; i < 20; ++i) {
          auto one = some.get();
          auto two = some.get();
          ++one->value;
          ++two->value;
          yield();
        }
      });
    }
    fibers.go([&] {
      for (int i = 0; i < 20; ++i, yield()) some.trim();
    });
    fibers.wait();
  });
}

// Goal:   somebody calls age() without being asked to, and an idle process keeps nothing.
// Method: the last destructor wakes the only fiber, so that nothing else keeps a worker busy.
TEST_P(pool_ticks, an_idle_pool_empties_itself) {
  constexpr int count = 100;
  struct last_tells {
    explicit last_tells(semaphore& all) : over{&all} {}
    last_tells(const last_tells&) = delete;
    ~last_tells() { over->release(); }
    semaphore* over;
  };
  run([] {
    semaphore over{count};
    over.acquire(count);
    pool<last_tells> some{{.make = [&over] { return last_tells{over}; }, .limits = {.tick = 1ms}}};
    for (int i = 0; i < count; ++i) some.put(std::make_unique<last_tells>(over));
    over.acquire(count);
    EXPECT_EQ(some.idle(), 0U);
  });
}

// Goal:   what destructors give back goes with the rest.
TEST_P(pool_test, ends_what_its_objects_hold) {
  struct link {
    pooled<link> next;
    counted self;
  };
  run([] {
    counted::forget();
    {
      pool<link> chain;
      pooled<link> first = chain.get();
      for (int i = 0; i < 20; ++i) {
        pooled<link> before = chain.get();
        before->next = std::move(first);
        first = std::move(before);
      }
    }
    EXPECT_EQ(counted::made, 21);
    EXPECT_EQ(counted::ended, 21);
  });
}

// Goal:   workers beyond those that have a cache do without.
TEST(pool_many_workers, share_what_has_no_cache) {
  counted::forget();
  test::run_on(70, [] {
    pool<counted> some;
    wait_group fibers;
    for (int f = 0; f < 700; ++f) {
      fibers.go([&] {
        const auto one = some.get();
        yield();
      });
    }
    fibers.wait();
  });
  EXPECT_EQ(counted::made, counted::ended);
}

// Goal:   a forked child that destroys what it has inherited, or goes on with it, does not wait for
//         threads that are not there.
TEST(pool_fork, a_child_has_nothing_of_what_is_kept) {
  static pool<int> numbers;
  test::run_on(1, [] { numbers.put(std::make_unique<int>(1)); });
  auto out = numbers.get();
  const pid_t child = ::fork();
  if (child == 0) {
    bool right = !numbers.try_get() && *numbers.get() == 0;
    out.reset();
    right = right && numbers.trim() == 0;
    ::_exit(right ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// Goal:   who has no cache takes what he needs from a worker's, and no more.
TEST(pool_threads, take_one_from_a_worker_that_has_many) {
  test::run_on(1, [] {
    pool<int> numbers{{.limits = {.per_worker = 32, .common = 0}}};
    for (int i = 0; i < 32; ++i) numbers.put(std::make_unique<int>(i));
    std::thread{[&] { EXPECT_NE(numbers.try_get().release(), nullptr); }}.join();
    EXPECT_EQ(numbers.idle(), 31U);
  });
}

TEST(pool_threads, works_without_a_runtime) {
  counted::forget();
  {
    pool<counted> some;
    some.get()->value = 5;
    EXPECT_EQ(some.get()->value, 5);
    EXPECT_EQ(some.idle(), 1U);
  }
  EXPECT_EQ(counted::ended, 1);
}

#ifdef EXEUNT_DCHECKS
TEST(pool_death, a_handle_must_not_outlive_its_pool) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        std::optional<pool<int>> numbers{std::in_place};
        auto kept = numbers->get();
        numbers.reset();
      },
      "a pool ends while some of its objects are still out");
}
#endif

}  // namespace
}  // namespace exeunt
