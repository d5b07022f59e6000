// SPDX-License-Identifier: Apache-2.0
// As covered_test.cpp, of the pure forms and the readers-writer locks: small worlds, under every
// schedule.

#include <gtest/gtest.h>

#include <mutex>
#include <shared_mutex>
#include <string>

#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sync/basic_mutex.hpp>
#include <exeunt/sync/read_mostly_mutex.hpp>
#include <exeunt/sync/shared_mutex.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "sim/explore_all.hpp"
#include "sync/mutex_shapes.hpp"

namespace exeunt {
namespace {

using test::explore_all;

TEST(covered_locks, three_fibers_hand_each_form_on) {
  explore_all("barging", test::three_hand_it_on<basic_mutex<barging>>);
  explore_all("handoff", test::three_hand_it_on<basic_mutex<handoff>>);
  explore_all("spinning", test::three_hand_it_on<basic_mutex<spinning>>);
}

// Goal:   a waiter whose context ends leaves, or has the lock and knows it; the next one gets it.
template <typename Policy>
void one_gives_up(const std::string& name) {
  explore_all(name, [] {
    basic_mutex<Policy> lock;
    const auto end = with_cancel(context::background());
    int visits = 0;
    wait_group group;
    lock.lock();
    group.go([&] {
      if (lock.lock(end.ctx)) lock.unlock();
    });
    group.go([&] {
      const std::lock_guard held{lock};
      ++visits;
    });
    group.go([&] { end.cancel(); });
    lock.unlock();
    group.wait();
    EXPECT_EQ(visits, 1);
    EXPECT_TRUE(lock.try_lock());
    lock.unlock();
  });
}

TEST(covered_locks, one_that_gives_up_is_in_nobodys_way) {
  one_gives_up<barging>("barging_canceled");
  one_gives_up<handoff>("handoff_canceled");
  one_gives_up<spinning>("spinning_canceled");
}

// What writers change in two steps, of which a reader must not see one.
template <typename Mutex>
struct halves {
  Mutex lock;
  int first = 0;
  int second = 0;

  // With the lock.
  void write() {
    ++first;
    yield();
    ++second;
  }
  void read() {
    const std::shared_lock held{lock};
    const int seen = first;
    yield();
    EXPECT_EQ(second, seen);
  }
  void expect_free() {
    EXPECT_TRUE(lock.try_lock());
    lock.unlock();
  }
};

// Goal:   a writer is alone, readers see no half of what it does, and nobody waits in the end.
template <typename Mutex>
void readers_and_writers(const std::string& name, int readers, int writers) {
  explore_all(name, [readers, writers] {
    halves<Mutex> both;
    wait_group group;
    for (int i = 0; i < writers; ++i) {
      group.go([&] {
        const std::lock_guard held{both.lock};
        both.write();
      });
    }
    for (int i = 0; i < readers; ++i) group.go([&] { both.read(); });
    group.wait();
    EXPECT_EQ(both.second, writers);
    both.expect_free();
  });
}

TEST(covered_locks, shared_mutex_excludes_writers) {
  readers_and_writers<shared_mutex>("shared_2_1", 2, 1);
  readers_and_writers<shared_mutex>("shared_1_2", 1, 2);
}
TEST(covered_locks, read_mostly_mutex_excludes_writers) {
  readers_and_writers<read_mostly_mutex>("read_mostly_2_1", 2, 1);
  readers_and_writers<read_mostly_mutex>("read_mostly_1_2", 1, 2);
}

// Goal:   a writer that gives up takes nobody with it: the readers it held back go on, though
//         nobody unlocks for them, and so does the next writer.
template <typename Mutex>
void writer_gives_up(const std::string& name) {
  explore_all(name, [] {
    Mutex lock;
    const auto end = with_cancel(context::background());
    int read = 0;
    wait_group readers;
    wait_group writer;
    lock.lock_shared();
    writer.go([&] {
      if (lock.lock(end.ctx)) lock.unlock();
    });
    readers.go([&] {
      const std::shared_lock held{lock};
      ++read;
    });
    readers.go([&] { end.cancel(); });
    readers.wait();  // Before our own unlock.
    EXPECT_EQ(read, 1);
    lock.unlock_shared();
    writer.wait();
    EXPECT_TRUE(lock.try_lock());
    lock.unlock();
  });
}

TEST(covered_locks, a_writer_that_gives_up_frees_the_readers_behind_it) {
  writer_gives_up<shared_mutex>("shared_canceled");
  writer_gives_up<read_mostly_mutex>("read_mostly_canceled");
}

// Goal:   try_lock of a writer leaves nobody waiting, whether it gets the lock or not.
template <typename Mutex>
void writer_tries(const std::string& name) {
  explore_all(name, [] {
    halves<Mutex> both;
    wait_group group;
    group.go([&] {
      if (!both.lock.try_lock()) return;
      both.write();
      both.lock.unlock();
    });
    for (int i = 0; i < 2; ++i) group.go([&] { both.read(); });
    group.wait();
    both.expect_free();
  });
}

TEST(covered_locks, a_writer_that_tries_leaves_nobody_waiting) {
  writer_tries<shared_mutex>("shared_tried");
  writer_tries<read_mostly_mutex>("read_mostly_tried");
}

}  // namespace
}  // namespace exeunt
