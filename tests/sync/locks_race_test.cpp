// SPDX-License-Identifier: Apache-2.0
// The memory model's edges of basic_mutex, shared_mutex and read_mostly_mutex, as
// sync_race_test.cpp has those of the others.

#include <mutex>
#include <shared_mutex>

#include <gtest/gtest.h>

#include <exeunt/sched/go.hpp>
#include <exeunt/sync/basic_mutex.hpp>
#include <exeunt/sync/lock_order.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/read_mostly_mutex.hpp>
#include <exeunt/sync/shared_mutex.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/explored.hpp"
#include "support/race.hpp"
#include "support/until_parked.hpp"
#include "sync/mutex_shapes.hpp"

namespace exeunt {
namespace {

class locks_order : public test::explored {};
EXEUNT_EXPLORED(locks_order);

TEST_P(locks_order, writes_under_each_form) {
  run([] {
    test::two_write_under_it<basic_mutex<barging>>();
    test::two_write_under_it<basic_mutex<handoff>>();
    test::two_write_under_it<basic_mutex<spinning>>();
    test::two_write_under_it<shared_mutex>();
    test::two_write_under_it<read_mostly_mutex>();
  });
}

// What a writer did is seen by readers, and what a reader did by the writer after it.
template <typename Mutex>
void read_and_write() {
  Mutex m;
  int v = 0;
  int read[2] = {};
  wait_group all;
  for (int& mine : read) {
    all.go([&] {
      const std::shared_lock guard{m};
      mine = v + 1;
    });
  }
  all.go([&] {
    const std::lock_guard guard{m};
    v = read[0] + read[1];
  });
  all.wait();
  EXPECT_LE(v, 2);
}

TEST_P(locks_order, readers_before_the_writer_and_after_it) {
  run([] {
    read_and_write<shared_mutex>();
    read_and_write<read_mostly_mutex>();
  });
}

// The same, of those that had to wait for each other.
template <typename Mutex>
void wait_and_read() {
  Mutex m;
  int v = 0;
  int w = 0;
  wait_group all;
  m.lock_shared();
  all.go([&] {
    const std::lock_guard guard{m};
    v = w;
  });
  test::until_parked(1, detail::wait_reason::shared_mutex);
  all.go([&] {
    const std::shared_lock guard{m};
    EXPECT_EQ(v, 1);
  });
  test::until_parked(2, detail::wait_reason::shared_mutex);
  w = 1;
  m.unlock_shared();
  all.wait();
}

TEST_P(locks_order, those_that_waited) {
  run([] {
    wait_and_read<shared_mutex>();
    wait_and_read<read_mostly_mutex>();
  });
}

#ifdef EXEUNT_TSAN

class locks_race_death_test : public test::race_death_test {};

// A write that no compiler leaves out because nobody reads it.
void write(int& v) { *const_cast<volatile int*>(&v) = 1; }

// The first has left when the second comes.
template <typename Mutex>
void write_as_readers() {
  Mutex m;
  int v = 0;
  wait_group over;
  over.go({.name = "one"}, [&] {
    const std::shared_lock guard{m};
    write(v);
  });
  over.go({.name = "two"}, [&] {
    const std::shared_lock guard{m};
    write(v);
  });
  over.wait();
}

TEST_F(locks_race_death_test, readers_are_not_ordered) {
  EXEUNT_EXPECT_RACE("one", "two", [] { write_as_readers<shared_mutex>(); });
  EXEUNT_EXPECT_RACE("one", "two", [] { write_as_readers<read_mostly_mutex>(); });
}

// What the detector of lock orders notes orders nothing: neither a new order, nor a known one, nor
// the end of a lock.
void write_under_locks_of_their_own() {
  set_lock_order(lock_order::report);
  int v = 0;
  wait_group over;
  for (const char* const name : {"one", "two"}) {
    over.go({.name = name}, [&] {
      const auto lock_some = [&v](bool writes) {
        mutex outer;
        shared_mutex inner;
        for (int round = 0; round < 2; ++round) {
          const std::lock_guard first{outer};
          const std::shared_lock second{inner};
          if (writes) write(v);
        }
      };
      lock_some(false);
      lock_some(true);
      lock_some(false);
    });
  }
  over.wait();
}

TEST_F(locks_race_death_test, watching_orders_nothing) {
  EXEUNT_EXPECT_RACE("one", "two", [] { write_under_locks_of_their_own(); });
}

// Nor are those that waited for the same writer.
template <typename Mutex>
void write_as_held_back_readers() {
  Mutex m;
  int v = 0;
  wait_group over;
  m.lock();
  for (const char* const name : {"one", "two"}) {
    over.go({.name = name}, [&] {
      const std::shared_lock guard{m};
      write(v);
    });
  }
  test::until_parked(2, detail::wait_reason::shared_mutex);
  m.unlock();
  over.wait();
}

TEST_F(locks_race_death_test, readers_that_waited_are_not_ordered) {
  EXEUNT_EXPECT_RACE("one", "two", [] { write_as_held_back_readers<shared_mutex>(); });
  EXEUNT_EXPECT_RACE("one", "two", [] { write_as_held_back_readers<read_mostly_mutex>(); });
}

// A try_lock that fails orders nothing, and leaves nothing for those that come later.
template <typename Mutex>
void fail_to_write() {
  Mutex m;
  int v = 0;
  wait_group over;
  m.lock_shared();
  over.go({.name = "one"}, [&] {
    write(v);
    if (m.try_lock()) m.unlock();
  });
  over.go({.name = "two"}, [&] {
    const std::shared_lock guard{m};
    write(v);
  });
  over.wait();
  m.unlock_shared();
}

TEST_F(locks_race_death_test, a_try_lock_that_fails_orders_nothing) {
  EXEUNT_EXPECT_RACE("one", "two", [] { fail_to_write<shared_mutex>(); });
  EXEUNT_EXPECT_RACE("one", "two", [] { fail_to_write<read_mostly_mutex>(); });
}

template <typename Policy>
void fail_to_lock() {
  basic_mutex<Policy> m;
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
}

TEST_F(locks_race_death_test, a_try_lock_of_each_form_that_fails_orders_nothing) {
  EXEUNT_EXPECT_RACE("other", "main", [] { fail_to_lock<barging>(); });
  EXEUNT_EXPECT_RACE("other", "main", [] { fail_to_lock<handoff>(); });
  EXEUNT_EXPECT_RACE("other", "main", [] { fail_to_lock<spinning>(); });
}

#endif

}  // namespace
}  // namespace exeunt
