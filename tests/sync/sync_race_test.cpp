// SPDX-License-Identifier: Apache-2.0
// The memory model's edges of locks, groups and atomics: what they order, and what they do not.
// ThreadSanitizer is the judge, so without it only the orderly shapes run, and they prove little.

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include <gtest/gtest.h>

#include <exeunt/sched/go.hpp>
#include <exeunt/sync/condition_variable.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/once.hpp>
#include <exeunt/sync/semaphore.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/explored.hpp"
#include "support/lock_reports.hpp"
#include "support/race.hpp"
#include "support/until_parked.hpp"
#include "sync/mutex_shapes.hpp"

namespace exeunt {
namespace {

using detail::wait_reason;

class sync_order : public test::explored {};
EXEUNT_EXPLORED(sync_order);

// --- RD-15, locks

TEST_P(sync_order, rd_15_writes_under_the_lock) { run(test::two_write_under_it<mutex>); }

// What was written before an unlock is seen by whoever finds under the lock that it has happened.
TEST_P(sync_order, rd_15_a_flag_under_the_lock) {
  run([] {
    mutex m;
    bool written = false;
    int v = 0;
    go([&] {
      v = 1;
      const std::lock_guard guard{m};
      written = true;
    });
    for (bool seen = false; !seen; yield()) {
      const std::lock_guard guard{m};
      seen = written;
    }
    EXPECT_EQ(v, 1);
    v = 2;
  });
}

// A locked mutex as a semaphore: who unlocks is not who locked.
TEST_P(sync_order, rd_15_unlocked_by_another) {
  const test::unwatched_locks on_purpose;  // It waits for a lock that it holds.
  run([] {
    mutex m;
    int v = 0;
    m.lock();
    wait_group other;
    other.go([&] {
      v = 1;
      m.unlock();
    });
    m.lock();
    v = 2;
    m.unlock();
    other.wait();
  });
}

// --- RD-17, wait groups

TEST_P(sync_order, rd_17_done_comes_before_each_wait) {
  run([] {
    for (const int waiters : {1, 3}) {
      int v = 0;
      wait_group written;
      wait_group over;
      written.add();
      for (int w = 0; w < waiters; ++w) {
        over.go([&] {
          written.wait();
          EXPECT_EQ(v, 1);
        });
      }
      go([&] {
        v = 1;
        written.done();
      });
      over.wait();
      v = 2;
    }
  });
}

// Each is done with its own part, then waits for that of the other.
TEST_P(sync_order, rd_17_done_and_wait_by_the_same_fibers) {
  run([] {
    int parts[2] = {};
    wait_group written;
    wait_group over;
    written.add(2);
    for (int f = 0; f < 2; ++f) {
      over.go([&, f] {
        parts[f] = 1;
        written.done();
        written.wait();
        EXPECT_EQ(parts[1 - f], 1);
      });
    }
    over.wait();
  });
}

// What came before a group's zero comes before whatever follows a wait, over several groups.
TEST_P(sync_order, rd_17_transitive) {
  run([] {
    int v = 0;
    wait_group first;
    wait_group second;
    first.add();
    second.add();
    go([&] {
      v = 1;
      first.done();
    });
    go([&] {
      first.wait();
      second.done();
    });
    second.wait();
    EXPECT_EQ(v, 1);
    v = 2;
  });
}

// Fibers that add by themselves are waited for if the one who waits has heard of them.
TEST_P(sync_order, rd_17_adds_that_were_heard_of) {
  run([] {
    int parts[2] = {};
    wait_group members;
    semaphore added{2};
    added.acquire(2);
    for (int f = 0; f < 2; ++f) {
      go([&, f] {
        members.add();
        added.release();
        parts[f] = 1;
        members.done();
      });
    }
    added.acquire(2);
    members.wait();
    EXPECT_EQ(parts[0] + parts[1], 2);
  });
}

// A group may be used again at once by those whom its zero has released, though others of them have
// not yet returned.
TEST_P(sync_order, rd_17_used_again_by_those_it_released) {
  run([] {
    wait_group group;
    wait_group over;
    for (int round = 0; round < 20; ++round) {
      int v = 0;
      group.add();
      for (int w = 0; w < 2; ++w) over.go([&] { group.wait(); });
      go([&] {
        test::until_parked(3, wait_reason::wait_group);
        v = 1;
        group.done();
      });
      group.wait();
      EXPECT_EQ(v, 1);
    }
    over.wait();
  });
}

// --- RD-20, conditions

TEST_P(sync_order, rd_20_a_flag_and_a_signal) {
  run([] {
    mutex m;
    condition_variable changed;
    bool written = false;
    int v = 0;
    go([&] {
      v = 1;
      const std::lock_guard guard{m};
      written = true;
      changed.notify_one();
    });
    {
      std::unique_lock guard{m};
      changed.wait(guard, [&] { return written; });
    }
    v = 2;
    // The other has to be through with them.
    const std::lock_guard guard{m};
  });
}

// --- RD-22, atomics

template <typename T>
void publish_in_each_way() {
  using cell = std::atomic<T>;
  const std::function<void(cell&)> ways_to_write[] = {
      [](cell& c) { c.store(T{1}); },
      [](cell& c) { c.fetch_add(T{1}); },
      [](cell& c) {
        T none{0};
        EXPECT_TRUE(c.compare_exchange_strong(none, T{1}));
      },
      [](cell& c) { c.exchange(T{1}); },
  };
  const std::function<bool(cell&)> ways_to_look[] = {
      [](cell& c) { return c.load() == T{1}; },
      [](cell& c) {
        T one{1};
        return c.compare_exchange_strong(one, T{2});
      },
      [](cell& c) { return c.fetch_add(T{0}) == T{1}; },
  };
  for (const auto& write : ways_to_write) {
    for (const auto& look : ways_to_look) {
      int v = 0;
      cell c{T{0}};
      wait_group other;
      other.go([&] {
        v = 1;
        write(c);
      });
      while (!look(c)) yield();
      EXPECT_EQ(v, 1);
      v = 2;
      other.wait();
    }
  }
}

TEST_P(sync_order, rd_22_publish_by_an_atomic) {
  run([] {
    publish_in_each_way<std::int32_t>();
    publish_in_each_way<std::uint64_t>();
  });
}

// A compare-and-exchange that fails has seen what made it fail.
TEST_P(sync_order, rd_22_a_failed_exchange_orders) {
  run([] {
    int parts[2] = {};
    std::atomic<int*> first{nullptr};
    wait_group both;
    for (int f = 0; f < 2; ++f) {
      both.go([&, f] {
        parts[f] = 1;
        int* none = nullptr;
        if (!first.compare_exchange_strong(none, &parts[f])) *none = 2;
      });
    }
    both.wait();
    EXPECT_EQ(parts[0] + parts[1], 3);
  });
}

// --- once and semaphores

TEST_P(sync_order, a_call_of_once_comes_after_its_function) {
  run([] {
    once o;
    int v = 0;
    wait_group all;
    for (int f = 0; f < 3; ++f) {
      all.go([&] {
        o.call([&] { v = 1; });
        EXPECT_EQ(v, 1);
      });
    }
    all.wait();
  });
}

TEST_P(sync_order, a_release_comes_before_the_acquire_it_makes_possible) {
  run([] {
    semaphore units{2};
    int v = 0;
    units.acquire(2);
    go([&] {
      v = 1;
      units.release();
      units.release();
    });
    units.acquire(2);
    EXPECT_EQ(v, 1);
    v = 2;
    units.release(2);
  });
}

#ifdef EXEUNT_TSAN

class sync_race_death_test : public test::race_death_test {};

// A write that no compiler leaves out because nobody reads it.
void write(int& v) { *const_cast<volatile int*>(&v) = 1; }

// Two fibers that write, the second while the first is still between `before` and `after`.
struct writer {
  std::function<void()> before = [] {};
  std::function<void()> after = [] {};
};
void write_in_two_fibers(int& v, const writer& one, const writer& two) {
  std::atomic<int> stage{0};  // Relaxed: orders nothing.
  const auto until = [&stage](int reached) {
    while (stage.load(std::memory_order_relaxed) < reached) yield();
  };
  wait_group over;
  over.go({.name = "one"}, [&] {
    one.before();
    write(v);
    stage.store(1, std::memory_order_relaxed);
    until(2);
    one.after();
  });
  over.go({.name = "two"}, [&] {
    until(1);
    two.before();
    write(v);
    stage.store(2, std::memory_order_relaxed);
    two.after();
  });
  over.wait();
}

// RD-15: a lock orders what is under it, and nothing else.
TEST_F(sync_race_death_test, rd_15_outside_the_lock) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    mutex m;
    int v = 0;
    const writer locks_before{.before = [&] { const std::lock_guard guard{m}; }};
    const writer locks_after{.after = [&] { const std::lock_guard guard{m}; }};
    write_in_two_fibers(v, locks_before, locks_after);
  });
}

// RD-15: two locks are none.
TEST_F(sync_race_death_test, rd_15_under_two_locks) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    mutex m;
    mutex n;
    int v = 0;
    write_in_two_fibers(v, {[&] { m.lock(); }, [&] { m.unlock(); }},
                        {[&] { n.lock(); }, [&] { n.unlock(); }});
  });
}

TEST_F(sync_race_death_test, a_try_lock_that_fails_orders_nothing) {
  EXEUNT_EXPECT_RACE("other", "main", [] {
    mutex m;
    int v = 0;
    go({.name = "other"}, [&] {
      write(v);
      m.lock();
    });
    while (m.try_lock()) {
      m.unlock();
      yield();
    }
    write(v);
    m.unlock();
  });
}

// RD-19: members are not ordered among themselves.
TEST_F(sync_race_death_test, rd_19_two_members) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    int v = 0;
    wait_group group;
    group.go({.name = "one"}, [&] { write(v); });
    group.go({.name = "two"}, [&] { write(v); });
    group.wait();
  });
}

// RD-19: a group is no lock: both pass the wait before either adds.
TEST_F(sync_race_death_test, rd_19_as_a_lock) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    alignas(8) int v = 0;
    wait_group group;
    alignas(8) std::atomic<int> passed{0};  // Relaxed: orders nothing.
    wait_group over;
    for (const char* const name : {"one", "two"}) {
      over.go({.name = name}, [&] {
        group.wait();
        passed.fetch_add(1, std::memory_order_relaxed);
        while (passed.load(std::memory_order_relaxed) < 2) yield();
        group.add();
        ++v;
        group.done();
      });
    }
    over.wait();
  });
}

// RD-19: who waits for one group knows nothing of the members of another.
TEST_F(sync_race_death_test, rd_19_the_wrong_group) {
  EXEUNT_EXPECT_RACE("member", "main", [] {
    int v = 0;
    wait_group right;
    wait_group wrong;
    right.add();
    go({.name = "member"}, [&] {
      write(v);
      right.done();
    });
    while (right.count() != 0) yield();
    wrong.wait();
    write(v);
    right.wait();
  });
}

// RD-19: an add() that nothing orders before the wait() which is to wait for it is a race on the
// group itself, though this run is fine.
TEST_F(sync_race_death_test, rd_19_an_add_without_order) {
  EXEUNT_EXPECT_RACE("member", "main", [] {
    wait_group group;
    go({.name = "member"}, [&] {
      group.add();
      test::until_parked(1, wait_reason::wait_group);
      group.done();
    });
    while (group.count() == 0) yield();
    group.wait();
  });
}

// RD-19: what is written between two uses of a group is ordered with neither's members.
TEST_F(sync_race_death_test, rd_19_used_again) {
  EXEUNT_EXPECT_RACE("late", "main", [] {
    int v = 0;
    wait_group group;
    wait_group over;
    group.add();
    over.go({.name = "late"}, [&] {
      group.done();
      write(v);
    });
    group.wait();
    group.add();
    write(v);
    group.done();
    over.wait();
  });
}

// RD-20: the lock around one of two writes.
TEST_F(sync_race_death_test, rd_20_without_the_lock) {
  EXEUNT_EXPECT_RACE("signals", "main", [] {
    mutex m;
    condition_variable changed;
    bool written = false;
    std::atomic<bool> goes_on{false};  // Relaxed: orders nothing.
    struct {
      alignas(8) int v = 0;
    } alone;  // The tool remembers the last four accesses to eight bytes, whoever shares them.
    wait_group over;
    over.go({.name = "signals"}, [&] {
      {
        const std::lock_guard guard{m};
        written = true;
        changed.notify_one();
      }
      while (!goes_on.load(std::memory_order_relaxed)) yield();
      const std::lock_guard guard{m};
      write(alone.v);
    });
    {
      std::unique_lock guard{m};
      changed.wait(guard, [&] { return written; });
    }
    write(alone.v);
    goes_on.store(true, std::memory_order_relaxed);
    over.wait();
  });
}

// RD-20, and the memory model: a notify by itself orders nothing.
TEST_F(sync_race_death_test, rd_20_a_notify_orders_nothing) {
  EXEUNT_EXPECT_RACE("signals", "main", [] {
    mutex m;
    condition_variable changed;
    int v = 0;
    wait_group over;
    over.go({.name = "signals"}, [&] {
      test::until_parked(1, wait_reason::condition);
      write(v);
      changed.notify_one();
    });
    {
      std::unique_lock guard{m};
      changed.wait(guard);
    }
    write(v);
    over.wait();
  });
}

// RD-23: an atomic that is looked at as if it were none.
TEST_F(sync_race_death_test, rd_23_a_plain_look_at_an_atomic) {
  EXEUNT_EXPECT_RACE("stores", "main", [] {
    int v = 0;
    wait_group over;
    over.go({.name = "stores"}, [&] { std::atomic_ref{v}.store(1); });
    static_cast<void>(*const_cast<volatile int*>(&v));
    over.wait();
  });
}

// RD-23: who was first to add has seen nothing of the other.
TEST_F(sync_race_death_test, rd_23_the_first_to_add) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    int parts[2] = {};
    std::atomic<int> count{0};
    wait_group over;
    for (const int f : {0, 1}) {
      over.go({.name = f == 0 ? "one" : "two"}, [&, f] {
        parts[f] = 1;
        if (count.fetch_add(1) == 0) parts[1 - f] = 1;
      });
    }
    over.wait();
  });
}

TEST_F(sync_race_death_test, a_semaphore_with_two_units_is_no_lock) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    semaphore units{2};
    int v = 0;
    const writer locked{[&] { units.acquire(); }, [&] { units.release(); }};
    write_in_two_fibers(v, locked, locked);
  });
}

TEST_F(sync_race_death_test, callers_of_once_are_not_ordered) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    once o;
    int v = 0;
    const writer calls{.before = [&] { o.call([] {}); }};
    write_in_two_fibers(v, calls, calls);
  });
}

#endif

}  // namespace
}  // namespace exeunt
