// SPDX-License-Identifier: Apache-2.0
// What only steps at atomic operations find, in small primitives made of the core's own parts: each
// mistake is found by an exhaustive exploration, and the repaired one is free of it. The core's own
// primitives are those of covered_test.cpp, which is part of this program, too.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <string>
#include <thread>
#include <utility>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/intrusive_list.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/wait.hpp>
#include <exeunt/sim/explore.hpp>
#include <exeunt/sim/gtest.hpp>
#include <exeunt/sync/wait_group.hpp>

namespace exeunt {
namespace {

using detail::atomic;

sim::explore_options all(const char* name) {
  return {.name = name, .schedules = 2'000'000, .preemptions = 2, .exhaustive = true};
}

// Runs `f` under all schedules with two preemptions.
// Returns: why the first of them failed that did; empty if none has.
template <typename F>
std::string first_failure(const char* name, F f) {
  try {
    const sim::explored sum = sim::explore(all(name), std::move(f));
    EXPECT_TRUE(sum.covered) << name;
    return {};
  } catch (const sim::failure& found) {
    return found.what();
  }
}

// --- a count by load and store, and by fetch_add

template <typename Add>
std::string two_add(const char* name, Add add) {
  return first_failure(name, [add] {
    atomic<int> count{0};
    wait_group group;
    for (int i = 0; i < 2; ++i) group.go([&] { add(count); });
    group.wait();
    sim::check(count.load() == 2, "an addition was lost");
  });
}

TEST(atomic_steps, an_addition_by_load_and_store_is_lost) {
  EXPECT_NE(two_add("load and store", [](auto& n) { n.store(n.load() + 1); }).find("lost"),
            std::string::npos);
  EXPECT_EQ(two_add("fetch_add", [](auto& n) { n.fetch_add(1); }), "");
}

// --- Peterson's lock: who wants in says so, gives way, and looks, in this order

template <bool GivesWayFirst>
class peterson_lock {
 public:
  bool try_lock(unsigned me) {
    if (GivesWayFirst) last_.store(me);
    wants_[me].store(true);
    if (!GivesWayFirst) last_.store(me);
    return !wants_[1 - me].load() || last_.load() != me;  // Else it would have to wait.
  }

 private:
  std::array<atomic<bool>, 2> wants_{};
  atomic<unsigned> last_{0};
};

template <typename Lock>
std::string two_enter(const char* name) {
  return first_failure(name, [] {
    Lock lock;
    atomic<int> inside{0};
    wait_group group;
    for (unsigned me = 0; me < 2; ++me) {
      group.go([&, me] {
        if (!lock.try_lock(me)) return;
        sim::check(inside.fetch_add(1) == 0, "two are inside");
        inside.fetch_sub(1);
      });
    }
    group.wait();
  });
}

TEST(atomic_steps, petersons_lock_needs_its_order) {
  EXPECT_NE(two_enter<peterson_lock<true>>("gives way first").find("two are inside"),
            std::string::npos);
  EXPECT_EQ(two_enter<peterson_lock<false>>("peterson"), "");
}

// --- an event: who waits registers, and looks once more

template <bool LooksAgain>
class event {
 public:
  void set() {
    set_.store(true);
    if (waiter_.load() == nullptr) return;
    detail::wakeup due;
    if (waiter_.load()->claim(this, due)) due.fire();
  }
  void wait() {
    if (set_.load()) return;
    detail::ticket only;
    waiter_.store(&only);
    if (LooksAgain && set_.load()) {
      detail::wakeup unneeded;
      if (only.claim(this, unneeded)) return;
    }
    detail::park(only, detail::wait_reason::simulation, this);  // Woken by: set().
  }

 private:
  atomic<bool> set_{false};
  atomic<detail::ticket*> waiter_{nullptr};
};

template <typename Event>
std::string one_waits(const char* name) {
  return first_failure(name, [] {
    Event happened;
    wait_group group;
    group.go([&] { happened.set(); });
    group.go([&] { happened.wait(); });
    group.wait();
  });
}

TEST(atomic_steps, a_wakeup_is_lost_by_who_does_not_look_again) {
  EXPECT_NE(one_waits<event<false>>("looks once").find("fibers wait"), std::string::npos);
  EXPECT_EQ(one_waits<event<true>>("looks again"), "");
}

// --- the core's own parts

// Goal:   a lock's section is one fiber's, and whoever finds it held goes on when it is let go.
TEST(atomic_steps, a_spin_lock_excludes) {
  EXPECT_EQ(first_failure("spin lock",
                          [] {
                            detail::spin_lock lock;
                            atomic<int> inside{0};
                            wait_group group;
                            for (int i = 0; i < 3; ++i) {
                              group.go([&] {
                                const detail::spin_guard held{lock};
                                sim::check(inside.fetch_add(1) == 0, "two are inside");
                                inside.fetch_sub(1);
                              });
                            }
                            group.wait();
                          }),
            "");
}

// Goal:   of several wakers exactly one wins a ticket, and the caller is woken once, whether it has
//         parked, is about to, or has not begun.
TEST(atomic_steps, one_waker_wins_a_ticket) {
  EXPECT_EQ(first_failure("ticket",
                          [] {
                            detail::ticket shared;
                            atomic<int> winners{0};
                            std::array<int, 2> sources{};
                            wait_group group;
                            for (int& source : sources) {
                              group.go([&] {
                                detail::wakeup due;
                                if (!shared.claim(&source, due)) return;
                                winners.fetch_add(1);
                                due.fire();
                              });
                            }
                            detail::park(shared, detail::wait_reason::simulation, nullptr);
                            sim::check(winners.load() <= 1, "two have won");
                            sim::check(shared.winner() != nullptr, "woken by nobody");
                            group.wait();
                            sim::check(winners.load() == 1, "not exactly one has won");
                          }),
            "");
}

// Goal:   threads beside the simulation, say the default runtime's, take locks of their own and
// some
//         of the fibers', and neither wake those that wait for another fiber nor are forgotten.
TEST(atomic_steps, threads_beside_the_simulation_take_locks_too) {
  detail::spin_lock shared;
  std::atomic<bool> over{false};
  std::thread beside{[&] {
    detail::spin_lock own;
    while (!over.load()) {
      const detail::spin_guard guard{own};
      const detail::spin_guard guard_of_all{shared};
    }
  }};
  EXPECT_EQ(first_failure("beside",
                          [&] {
                            detail::spin_lock lock;
                            int count = 0;
                            wait_group group;
                            for (int i = 0; i < 3; ++i) {
                              group.go([&] {
                                const detail::spin_guard guard{lock};
                                const detail::spin_guard guard_of_all{shared};
                                ++count;
                              });
                            }
                            group.wait();
                            sim::check(count == 3, "one has got lost");
                          }),
            "");
  over.store(true);
  beside.join();
}

// Goal:   a failure replays: the choices that are reported lead to the same one.
TEST(atomic_steps, a_failure_is_told_with_its_replay) {
  const std::string told = two_add("load and store", [](auto& n) { n.store(n.load() + 1); });
  EXPECT_NE(told.find("EXEUNT_SIM_REPLAY"), std::string::npos) << told;
}

}  // namespace
}  // namespace exeunt
