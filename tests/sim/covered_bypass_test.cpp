// SPDX-License-Identifier: Apache-2.0
// How often somebody who waits is overtaken by those who come later, at most: in small worlds,
// under every schedule. What waits is known by settle(); whoever comes then comes later.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <string>

#include <exeunt/sched/go.hpp>
#include <exeunt/sim/bubble.hpp>
#include <exeunt/sync/basic_mutex.hpp>
#include <exeunt/sync/condition_variable.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/read_mostly_mutex.hpp>
#include <exeunt/sync/semaphore.hpp>
#include <exeunt/sync/shared_mutex.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "sim/explore_all.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using test::explore_all;

// Who got in, in order: those who waited, by numbers, and those who came later.
constexpr int first = 1;
constexpr int second = 2;
constexpr int late = 3;
class arrivals {
 public:
  void enter(int who) {
    const std::size_t place = count_++;
    if (place < order_.size()) order_[place] = who;
  }
  [[nodiscard]] std::size_t count() const { return count_; }
  [[nodiscard]] int at(std::size_t place) const { return order_.at(place); }
  [[nodiscard]] std::size_t before(int who) const {
    return static_cast<std::size_t>(std::find(order_.begin(), order_.end(), who) - order_.begin());
  }

 private:
  std::atomic<std::size_t> count_{0};  // Of several: nothing orders two readers.
  std::array<std::atomic<int>, 16> order_{};
};

// --- one at a time

// Two wait for `lock`, which the caller holds; others come while he unlocks it.
template <typename Mutex>
class two_waiting {
 public:
  two_waiting() {
    lock.lock();
    for (const int who : {first, second}) {
      all_.go([this, who] {
        const std::lock_guard held{lock};
        in_.enter(who);
      });
      sim::settle();
    }
  }
  void unlock_while_others_come() {
    all_.go([this] {
      const std::lock_guard held{lock};
      in_.enter(late);
    });
    all_.go([this] {
      for (int i = 0; i < 2; ++i) {
        if (!lock.try_lock()) continue;
        in_.enter(late);
        lock.unlock();
      }
    });
    lock.unlock();
    wait();
  }
  void wait() { all_.wait(); }
  void expect_not_overtaken() {
    ASSERT_GE(in_.count(), 3U);
    EXPECT_EQ(in_.at(0), first);
    EXPECT_EQ(in_.at(1), second);
  }

  Mutex lock;

 private:
  wait_group all_;
  arrivals in_;
};

TEST(covered_bypass, handoff_is_never_overtaken) {
  explore_all("handoff_bypass", [] {
    two_waiting<basic_mutex<handoff>> world;
    world.unlock_while_others_come();
    world.expect_not_overtaken();
  });
}

// Goal:   who has waited for more than 1 ms and was woken in vain once is not overtaken again.
// Method: the caller is the one who overtakes him; then others come.
TEST(covered_bypass, a_mutex_that_starves_somebody_is_not_overtaken) {
  int overtook = 0;
  explore_all("mutex_starving", [&overtook] {
    two_waiting<mutex> world;
    sim::advance(2ms);
    world.lock.unlock();
    if (!world.lock.try_lock()) return world.wait();  // He was quicker.
    sim::settle();
    world.unlock_while_others_come();
    world.expect_not_overtaken();
    ++overtook;
  });
  EXPECT_GT(overtook, 0);
}

// Goal:   from a mutex that is merely held, somebody is overtaken for 1 ms, and then no more: with
//         sections of 100 us by ten until then, by one when he has waited for just that, and by one
//         more when he has lost with more.
// Method: two who lock again and again, with no pause between.
TEST(covered_bypass, a_mutex_is_overtaken_for_a_millisecond) {
  static constexpr std::size_t sections = 12;
  std::size_t most = 0;
  explore_all("mutex_bypass", 1, [&most] {
    mutex lock;
    arrivals in;
    wait_group all;
    std::atomic<bool> served{false};
    const auto again_and_again = [&] {
      while (!served) {
        const std::lock_guard held{lock};
        in.enter(late);
        sim::advance(100us);
      }
    };
    lock.lock();
    all.go([&] {
      const std::lock_guard held{lock};
      in.enter(first);
      served = true;
    });
    sim::settle();
    for (int i = 0; i < 2; ++i) all.go(again_and_again);
    lock.unlock();
    all.wait();
    EXPECT_LE(in.before(first), sections);
    most = std::max(most, in.before(first));
  });
  EXPECT_EQ(most, sections);
}

// --- units

// Goal:   nobody overtakes one who wants much, whether few units are free or not.
TEST(covered_bypass, a_semaphore_is_never_overtaken) {
  explore_all("semaphore_bypass", [] {
    semaphore units{2};
    arrivals in;
    wait_group all;
    units.acquire(2);
    all.go([&] {
      units.acquire(2);
      in.enter(first);
      units.release(2);
    });
    sim::settle();
    all.go([&] {
      units.acquire(1);
      in.enter(late);
      units.release(1);
    });
    all.go([&] {
      if (!units.try_acquire(1)) return;
      in.enter(late);
      units.release(1);
    });
    units.release(1);
    units.release(1);
    all.wait();
    EXPECT_EQ(in.before(first), 0U);
  });
}

// --- readers and writers

// A writer of read_mostly_mutex has many steps.
constexpr unsigned one_less = test::covered_preemptions - 1;

// Goal:   no reader that came later goes before a writer that waits.
template <typename Mutex>
void readers_come_while_a_writer_waits(const std::string& name, unsigned most) {
  explore_all(name, most, [] {
    Mutex lock;
    arrivals in;
    wait_group all;
    lock.lock_shared();
    all.go([&] {
      lock.lock();
      in.enter(first);
      lock.unlock();
    });
    sim::settle();
    all.go([&] {
      lock.lock_shared();
      in.enter(late);
      lock.unlock_shared();
    });
    all.go([&] {
      if (!lock.try_lock_shared()) return;
      in.enter(late);
      lock.unlock_shared();
    });
    lock.unlock_shared();
    all.wait();
    EXPECT_EQ(in.before(first), 0U);
  });
}

TEST(covered_bypass, a_waiting_writer_is_never_overtaken_by_readers) {
  readers_come_while_a_writer_waits<shared_mutex>("shared_writer_bypass",
                                                  test::covered_preemptions);
  readers_come_while_a_writer_waits<read_mostly_mutex>("read_mostly_writer_bypass", one_less);
}

// Goal:   readers that wait for a writer go before the next one, though he has waited longer.
template <typename Mutex>
void writers_come_while_readers_wait(const std::string& name, unsigned most) {
  explore_all(name, most, [] {
    Mutex lock;
    std::atomic<int> readers{0};
    wait_group all;
    lock.lock();
    const auto write = [&] {
      const std::lock_guard held{lock};
      EXPECT_EQ(readers, 2);
    };
    all.go(write);
    sim::settle();
    for (int i = 0; i < 2; ++i) {
      all.go([&] {
        lock.lock_shared();
        ++readers;
        lock.unlock_shared();
      });
    }
    sim::settle();
    all.go(write);
    lock.unlock();
    all.wait();
  });
}

TEST(covered_bypass, waiting_readers_are_overtaken_by_no_further_writer) {
  writers_come_while_readers_wait<shared_mutex>("shared_readers_bypass", test::covered_preemptions);
  writers_come_while_readers_wait<read_mostly_mutex>("read_mostly_readers_bypass", one_less);
}

// --- conditions

// Goal:   each notify_one() is for the one who has waited longest, whoever comes meanwhile.
TEST(covered_bypass, a_notify_is_never_caught_by_one_that_came_later) {
  explore_all("condition_bypass", [] {
    mutex lock;
    condition_variable changed;
    arrivals in;
    wait_group all;
    const auto wait = [&](int who) {
      std::unique_lock held{lock};
      changed.wait(held);
      in.enter(who);
    };
    for (const int who : {first, second}) {
      all.go([&, who] { wait(who); });
      sim::settle();
    }
    all.go([&] { wait(late); });
    for (const int who : {first, second}) {
      const std::size_t before = in.count();
      changed.notify_one();
      sim::settle();
      ASSERT_EQ(in.count(), before + 1);
      EXPECT_EQ(in.at(before), who);
    }
    changed.notify_one();
    all.wait();
  });
}

}  // namespace
}  // namespace exeunt
