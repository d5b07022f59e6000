// SPDX-License-Identifier: Apache-2.0

#include <exeunt/sync/lock_order.hpp>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sim/bubble.hpp>
#include <exeunt/sync/basic_mutex.hpp>
#include <exeunt/sync/condition_variable.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/read_mostly_mutex.hpp>
#include <exeunt/sync/shared_mutex.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/child.hpp"
#include "support/lock_reports.hpp"
#include "support/on_workers.hpp"
#include "support/until_parked.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using test::lock_reports;

static_assert(sizeof(mutex) == 16, "a rank has room in what was padding");
static_assert(sizeof(basic_mutex<handoff>) == 16);
static_assert(sizeof(shared_mutex) == 24);
constinit mutex ranked_global{lock_rank{7}};
constinit shared_mutex ranked_shared{lock_rank{8}};
constinit read_mostly_mutex ranked_read_mostly{lock_rank{9}};
constinit basic_mutex<barging> ranked_barging{lock_rank{10}};

class lock_order_test : public test::on_workers {
 protected:
  // Runs `f` as a fiber of this name, to its end.
  template <typename F>
  static void as_fiber(const char* name, const F& f) {
    wait_group ended;
    ended.go({.name = name}, [&] { f(); });
    ended.wait();
  }
  lock_reports reports_;
};
EXEUNT_ON_WORKERS(lock_order_test);

// Not inlined, so that reports can name it.
template <typename A, typename B>
[[gnu::noinline]] void take_both(A& first, B& second) {
  first.lock();
  second.lock();
  second.unlock();
  first.unlock();
}

std::string address(const void* lock) {
  char text[32];
  std::snprintf(text, sizeof text, "%p", lock);
  return text;
}

std::size_t count(std::string_view text, std::string_view part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++found;
  return found;
}

void expect_silence() {
  for (const std::string& report : lock_reports::take()) ADD_FAILURE() << report;
}

// The one report there is, whose first line has `what`.
std::string expect_one(std::string_view what) {
  const std::vector<std::string> all = lock_reports::take();
  EXPECT_EQ(all.size(), 1U) << (all.size() > 1 ? all[0] + all[1] : "");
  if (all.empty()) return {};
  const std::string_view first_line = std::string_view{all[0]}.substr(0, all[0].find('\n'));
  EXPECT_NE(first_line.find(what), first_line.npos) << all[0];
  return all[0];
}

void expect_has(const std::string& report, std::string_view part) {
  EXPECT_NE(report.find(part), report.npos) << part << " is not in\n" << report;
}

// Goal: the second order is told though nobody ever waits; with both orders, who made them, where
//       these fibers were started, and where each lock was taken.
TEST_P(lock_order_test, opposite_orders_are_told_with_both) {
  run([] {
    mutex a, b;
    as_fiber("one way", [&] { take_both(a, b); });
    expect_silence();
    as_fiber("other way", [&] { take_both(b, a); });
    const std::string report = expect_one("can deadlock");
    expect_has(report, "\"one way\", started at tests/sync/lock_order_test.cpp:");
    expect_has(report, "\"other way\", started at tests/sync/lock_order_test.cpp:");
    expect_has(report, "holds mutex " + address(&b) + ", wants mutex " + address(&a));
    expect_has(report, "held mutex " + address(&a) + ", wanted mutex " + address(&b));
    EXPECT_EQ(count(report, "held since"), 2U) << report;
    EXPECT_EQ(count(report, "wanted at"), 2U) << report;
    EXPECT_GE(count(report, "take_both"), 4U) << report;
  });
}

TEST_P(lock_order_test, each_is_told_once) {
  run([] {
    mutex a, b;
    for (int i = 0; i < 10; ++i) {
      take_both(a, b);
      take_both(b, a);
    }
    expect_one("can deadlock");
  });
}

TEST_P(lock_order_test, a_cycle_of_three_is_told_with_all_orders) {
  run([] {
    mutex a, b, c, beside;
    as_fiber("ab", [&] { take_both(a, b); });
    as_fiber("bc", [&] { take_both(b, c); });
    as_fiber("b beside", [&] { take_both(b, beside); });
    expect_silence();
    as_fiber("ca", [&] { take_both(c, a); });
    const std::string report = expect_one("can deadlock");
    const std::size_t now = report.find("\"ca\"");
    const std::size_t then = report.find("\"ab\"");
    const std::size_t last = report.find("\"bc\"");
    ASSERT_NE(last, report.npos) << report;
    EXPECT_LT(now, then) << report;
    EXPECT_LT(then, last) << report;
    EXPECT_EQ(count(report, "beside"), 0U) << report;
  });
}

TEST_P(lock_order_test, one_order_kept_by_all_is_silent) {
  run([] {
    mutex a, b, c;
    wait_group all;
    for (int f = 0; f < 8; ++f) {
      all.go([&] {
        for (int i = 0; i < 50; ++i) {
          take_both(a, b);
          take_both(b, c);
          const std::lock_guard first{a};
          const std::lock_guard second{b};
          yield();
          const std::lock_guard third{c};
          yield();
        }
      });
    }
    all.wait();
    expect_silence();
  });
}

// What one lock was in does not stick to the next one at its address.
TEST_P(lock_order_test, a_destroyed_lock_takes_its_orders_along) {
  run([] {
    mutex a;
    alignas(mutex) std::byte room[sizeof(mutex)];
    auto* at = reinterpret_cast<mutex*>(room);
    std::construct_at(at);
    take_both(a, *at);
    std::destroy_at(at);
    std::construct_at(at);
    take_both(*at, a);
    expect_silence();
    take_both(a, *at);
    expect_one("can deadlock");
    // Without a destructor, as memory that is used again may be.
    std::construct_at(at);
    take_both(a, *at);
    expect_silence();
    take_both(*at, a);
    expect_one("can deadlock");
    std::destroy_at(at);
  });
}

TEST_P(lock_order_test, no_cycle_leads_through_a_destroyed_lock) {
  run([] {
    mutex a, c;
    {
      mutex b;
      take_both(a, b);
      take_both(b, c);
    }
    take_both(c, a);
    expect_silence();
  });
}

TEST_P(lock_order_test, one_that_is_destroyed_while_it_is_held_is_held_no_more) {
  run([] {
    mutex a;
    {
      mutex never_unlocked;
      never_unlocked.lock();
    }
    {
      shared_mutex never_unlocked;
      never_unlocked.lock_shared();
    }
    alignas(mutex) std::byte room[sizeof(mutex)];
    auto* at = reinterpret_cast<mutex*>(room);
    std::construct_at(at)->lock();
    std::construct_at(at);
    at->lock();  // Not the one that is held.
    at->unlock();
    std::destroy_at(at);
    a.lock();
    a.unlock();
    expect_silence();
  });
}

TEST_P(lock_order_test, who_lets_another_unlock_holds_no_more) {
  run([] {
    mutex a, b;
    a.lock();
    as_fiber("other", [&] { a.unlock(); });
    take_both(b, a);
    b.lock();
    b.unlock();
    a.lock();
    std::thread{[&] { a.unlock(); }}.join();
    take_both(b, a);
    expect_silence();
  });
}

TEST_P(lock_order_test, who_ends_holds_no_more) {
  run([] {
    mutex kept, a;
    as_fiber("ends", [&] { kept.lock(); });
    // One of the next fibers has the block of the one that ended.
    for (int f = 0; f < 4; ++f) {
      as_fiber("next", [&] {
        a.lock();
        a.unlock();
      });
    }
    kept.unlock();
    take_both(a, kept);
    expect_silence();
  });
}

TEST_P(lock_order_test, try_lock_makes_no_order_but_holds) {
  run([] {
    mutex a, b, c;
    take_both(a, b);
    b.lock();
    EXPECT_TRUE(a.try_lock());  // Cannot wait.
    EXPECT_FALSE(a.try_lock());
    expect_silence();
    c.lock();
    c.unlock();
    a.unlock();
    b.unlock();
    take_both(c, a);
    expect_one("can deadlock");
  });
}

TEST_P(lock_order_test, scoped_lock_may_name_them_in_any_order) {
  run([] {
    mutex a, b;
    shared_mutex c;
    {
      const std::scoped_lock all{a, b, c};
    }
    {
      const std::scoped_lock all{c, b, a};
    }
    {
      const std::scoped_lock all{b, a, c};
    }
    expect_silence();
  });
}

TEST_P(lock_order_test, waits_that_may_end_early_make_orders) {
  run([] {
    const auto [ctx, cancel] = with_cancel(context::background());
    mutex a, b, c, d;
    a.lock();
    EXPECT_TRUE(b.try_lock_for(1s));
    EXPECT_TRUE(c.try_lock_until(clock::now() + 1s));
    EXPECT_TRUE(d.lock(ctx));
    for (mutex* const one : {&a, &b, &c, &d}) one->unlock();
    take_both(b, a);
    expect_one("can deadlock");
    take_both(c, a);
    expect_one("can deadlock");
    take_both(d, a);
    expect_one("can deadlock");
  });
}

// A try_lock_for() that has no time is a try_lock().
TEST_P(lock_order_test, a_timed_form_without_time_makes_no_order) {
  run([] {
    mutex a, b;
    a.lock();
    EXPECT_TRUE(b.try_lock_for(0s));
    b.unlock();
    a.unlock();
    take_both(b, a);
    expect_silence();
  });
}

template <typename Mutex>
void tells_of_orders_with_a_mutex() {
  Mutex a;
  mutex b;
  take_both(a, b);
  take_both(b, a);
  expect_has(expect_one("can deadlock"), address(&a));
}

TEST_P(lock_order_test, every_form_of_lock_is_watched) {
  run([] {
    tells_of_orders_with_a_mutex<basic_mutex<barging>>();
    tells_of_orders_with_a_mutex<basic_mutex<handoff>>();
    tells_of_orders_with_a_mutex<basic_mutex<spinning>>();
    tells_of_orders_with_a_mutex<shared_mutex>();
    tells_of_orders_with_a_mutex<read_mostly_mutex>();
  });
}

// Readers of two locks deadlock by means of writers that wait between them.
template <typename Mutex>
void tells_of_readers() {
  Mutex a, b;
  {
    const std::shared_lock first{a};
    const std::lock_guard second{b};
  }
  {
    const std::shared_lock first{b};
    const std::shared_lock second{a};
  }
  expect_has(expect_one("can deadlock"), "(shared)");
}

TEST_P(lock_order_test, readers_and_writers_make_cycles) {
  run([] {
    tells_of_readers<shared_mutex>();
    tells_of_readers<read_mostly_mutex>();
  });
}

template <typename Mutex>
void tells_of_a_reader_that_reads_again() {
  Mutex m;
  m.lock_shared();
  EXPECT_TRUE(m.try_lock_shared());
  expect_silence();
  m.unlock_shared();
  m.lock_shared();
  expect_one("by one who holds it");
  m.unlock_shared();
  m.unlock_shared();
  m.lock_shared();
  m.unlock_shared();
  expect_silence();
}

TEST_P(lock_order_test, a_reader_that_reads_again_is_told_of) {
  run([] {
    tells_of_a_reader_that_reads_again<shared_mutex>();
    tells_of_a_reader_that_reads_again<read_mostly_mutex>();
  });
}

TEST_P(lock_order_test, who_waits_for_his_own_lock_is_told_of_once) {
  run([] {
    mutex m;
    for (int i = 0; i < 3; ++i) {
      m.lock();
      wait_group other;
      other.go([&] {
        test::until_parked(1, detail::wait_reason::mutex);
        m.unlock();
      });
      m.lock();
      m.unlock();
      other.wait();
    }
    const std::string report = expect_one("is wanted by one who holds it");
    expect_has(report, address(&m));
    m.lock();
    EXPECT_FALSE(m.try_lock());
    m.unlock();
    expect_silence();
  });
}

// [ranks]
class accounts {
 public:
  void book(int amount) {
    const std::lock_guard booking{total_lock_};
    const std::lock_guard writing{log_lock_};  // A greater rank, so this is right.
    total_ += amount;
    ++entries_;
  }
  int audit() {
    const std::lock_guard writing{log_lock_};
    const std::lock_guard booking{total_lock_};  // Reported, the first time that it is done.
    return total_ / entries_;
  }

 private:
  mutex total_lock_{lock_rank{10}};
  mutex log_lock_{lock_rank{20}};
  int total_ = 0;
  int entries_ = 0;
};
// [ranks]

TEST_P(lock_order_test, a_rank_that_does_not_grow_is_told_of_at_once) {
  run([] {
    as_fiber("auditor", [&] {
      accounts fresh;
      fresh.book(2);
      expect_silence();
      EXPECT_EQ(fresh.audit(), 2);
    });
    const std::string report = expect_one("ranks must grow");
    expect_has(report, "of rank 10 is wanted under mutex");
    expect_has(report, "of rank 20");
    expect_has(report, "\"auditor\"");
    expect_has(report, "audit");
    EXPECT_EQ(count(report, "held since"), 1U);
    EXPECT_EQ(count(report, "wanted at"), 1U);
  });
}

TEST_P(lock_order_test, ranks_hold_between_all_forms_of_locks) {
  run([] {
    take_both(ranked_global, ranked_shared);
    take_both(ranked_shared, ranked_read_mostly);
    take_both(ranked_read_mostly, ranked_barging);
    expect_silence();
    basic_mutex<handoff> low{lock_rank{1}};
    take_both(ranked_barging, low);
    expect_one("ranks must grow");
    read_mostly_mutex same{lock_rank{10}};
    take_both(ranked_barging, same);
    expect_one("ranks must grow");
  });
}

TEST_P(lock_order_test, ranks_do_not_concern_try_lock_and_locks_without_one) {
  run([] {
    mutex low{lock_rank{1}}, high{lock_rank{lock_rank::max}}, none, another;
    take_both(high, none);
    take_both(another, low);
    high.lock();
    EXPECT_TRUE(low.try_lock());
    low.unlock();
    high.unlock();
    expect_silence();
    // The order that was against the rule is no order: to keep the rule is still right.
    take_both(high, low);
    expect_one("ranks must grow");
    take_both(low, high);
    take_both(high, low);
    expect_silence();
  });
}

TEST_P(lock_order_test, goes_with_a_fiber_that_changes_threads) {
  run([] {
    mutex a, b;
    wait_group busy;
    for (int f = 0; f < 8; ++f) {
      busy.go([&] {
        mutex own;
        for (int i = 0; i < 200; ++i) {
          const std::lock_guard held{own};
          yield();
        }
      });
    }
    a.lock();
    for (int i = 0; i < 200; ++i) yield();
    b.lock();
    for (int i = 0; i < 200; ++i) yield();
    a.unlock();
    yield();
    b.unlock();
    busy.wait();
    expect_silence();
    take_both(b, a);
    expect_one("can deadlock");
  });
}

TEST_P(lock_order_test, threads_and_fibers_make_one_cycle) {
  run([] {
    mutex a, b;
    std::thread{[&] { take_both(a, b); }}.join();
    take_both(b, a);
    const std::string report = expect_one("can deadlock");
    expect_has(report, "before, thread ");
    EXPECT_GE(count(report, "take_both"), 4U) << report;
  });
}

TEST_P(lock_order_test, a_condition_lets_go_and_takes_again) {
  run([] {
    mutex m, b;
    condition_variable changed;
    bool is_set = false;
    wait_group waiting;
    waiting.go([&] {
      std::unique_lock held{m};
      changed.wait(held, [&] { return is_set; });
      take_both(b, ranked_global);
    });
    {
      const std::lock_guard held{m};
      is_set = true;
    }
    changed.notify_all();
    waiting.wait();
    take_both(m, b);
    expect_silence();
    take_both(b, m);
    expect_one("can deadlock");
  });
}

// Who waits with a second lock in hand takes the first one again under it.
TEST_P(lock_order_test, a_wait_under_another_lock_is_an_order) {
  run([] {
    mutex m, other;
    condition_variable changed;
    std::unique_lock held{m};
    other.lock();
    EXPECT_FALSE(changed.wait_until(held, clock::now()));
    other.unlock();
    expect_one("can deadlock");
  });
}

TEST_P(lock_order_test, nothing_is_watched_while_it_is_off) {
  run([] {
    mutex a, b, c;
    a.lock();
    EXPECT_EQ(set_lock_order(lock_order::off), lock_order::report);
    take_both(b, c);
    take_both(c, b);
    a.unlock();
    EXPECT_EQ(set_lock_order(lock_order::report), lock_order::off);
    // Not under a, though nobody saw it go.
    b.lock();
    b.unlock();
    take_both(b, a);
    expect_silence();
  });
}

TEST(lock_order_in_simulations, is_off) {
  const lock_reports reports;
  sim::bubble([] {
    mutex a, b;
    take_both(a, b);
    take_both(b, a);
  });
  expect_silence();
}

TEST(lock_order_by_threads, needs_no_runtime) {
  const lock_reports reports;
  mutex a, b;
  take_both(a, b);
  std::thread{[&] { take_both(b, a); }}.join();
  const std::string report = expect_one("can deadlock");
  EXPECT_EQ(count(report, " thread "), 2U) << report;
}

TEST(lock_order_by_threads, goes_on_in_a_forked_child) {
  const lock_reports reports;
  mutex held, a, b;
  take_both(a, b);
  take_both(b, held);
  held.lock();
  const pid_t child = ::fork();
  if (child == 0) {
    // What the parent holds is not the child's, and the orders are the same.
    take_both(b, a);
    b.lock();
    b.unlock();
    ::_exit(static_cast<int>(lock_reports::take().size()));
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 1);
  held.unlock();
  expect_silence();
}

TEST(lock_order_by_threads, more_than_it_holds_is_not_seen) {
  const lock_reports reports;
  std::vector<mutex> many(40);
  mutex wanted;
  for (mutex& one : many) one.lock();
  wanted.lock();
  wanted.unlock();
  for (mutex& one : many) one.unlock();
  expect_silence();
  take_both(wanted, many.back());
  expect_silence();
  take_both(wanted, many.front());
  expect_one("can deadlock");

  std::vector<mutex> crowd(66'000);
  mutex first;
  for (mutex& one : crowd) take_both(first, one);
  take_both(crowd.back(), first);
  take_both(crowd.front(), first);
  expect_one("65536 orders are known");
}

// A deadlock that does happen: both hold one before they want the other.
void deadlock() {
  mutex a, b;
  wait_group both, hold_one;
  hold_one.add(2);
  const auto take = [&](mutex& first, mutex& second) {
    const std::lock_guard held{first};
    hold_one.done();
    hold_one.wait();
    const std::lock_guard wanted{second};
  };
  both.go([&] { take(a, b); });
  both.go([&] { take(b, a); });
  both.wait();
}

TEST(lock_order_death, a_deadlock_is_told_of_before_it_hangs) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (const unsigned workers : {1U, 2U, 4U}) {
    EXPECT_DEATH(
        {
          set_lock_order(lock_order::fatal);
          test::run_on(workers, deadlock);
        },
        "can deadlock(.|\n)*holds mutex(.|\n)*held mutex(.|\n)*fatal: locks were taken");
  }
}

TEST(lock_order_death, ranks_and_own_locks_end_the_process) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        set_lock_order(lock_order::fatal);
        take_both(ranked_shared, ranked_global);
      },
      "ranks must grow");
  EXPECT_DEATH(
      {
        set_lock_order(lock_order::fatal);
        mutex m;
        m.lock();
        m.lock();
      },
      "by one who holds it");
}

TEST(lock_order_death, a_rank_is_in_bounds) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  volatile unsigned zero = 0;
  EXPECT_DEATH(static_cast<void>(lock_rank{zero}), "from 1 to 16383");
  EXPECT_DEATH(static_cast<void>(lock_rank{zero + lock_rank::max + 1}), "from 1 to 16383");
}

// What a process does whose environment has EXEUNT_LOCK_ORDER=`text`.
std::string mode_with(const char* text) {
  ::setenv("EXEUNT_LOCK_ORDER", text, 1);
  test::child one{"mode"};
  ::unsetenv("EXEUNT_LOCK_ORDER");
  EXPECT_EQ(one.finish(), 0) << one.output();
  return one.output();
}

TEST(lock_order_environment, chooses_what_is_done) {
  if (test::child::body() == "mode") {
    switch (set_lock_order(lock_order::off)) {
      case lock_order::off:
        return test::say("mode off");
      case lock_order::report:
        return test::say("mode report");
      case lock_order::fatal:
        return test::say("mode fatal");
    }
  }
  const char* const outer = std::getenv("EXEUNT_LOCK_ORDER");
  const std::string restore = outer == nullptr ? "" : outer;
#ifdef EXEUNT_DCHECKS
  const std::string usual = "mode report";
#else
  const std::string usual = "mode off";
#endif
  expect_has(mode_with("off"), "mode off");
  expect_has(mode_with("report"), "mode report");
  expect_has(mode_with("fatal"), "mode fatal");
  expect_has(mode_with(""), usual);
  const std::string bad = mode_with("loud");
  expect_has(bad, "EXEUNT_LOCK_ORDER=loud ignored: it must be off, report or fatal");
  expect_has(bad, usual);
  if (outer != nullptr) ::setenv("EXEUNT_LOCK_ORDER", restore.c_str(), 1);
}

}  // namespace
}  // namespace exeunt
