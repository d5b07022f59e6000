// SPDX-License-Identifier: Apache-2.0
#include <exeunt/sync/atomic_value.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <exeunt/base/error.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/counted.hpp"
#include "support/explored.hpp"
#include "support/hand_over.hpp"
#include "support/race.hpp"

namespace exeunt {
namespace {

using test::counted;

class atomic_value_test : public test::explored {};
EXEUNT_EXPLORED(atomic_value_test);

TEST_P(atomic_value_test, av_01_loads_what_was_stored) {
  run([] {
    atomic_value<int> number;
    EXPECT_FALSE(number.load());
    EXPECT_EQ(number.load().get(), nullptr);
    for (const int n : {42, 84}) {
      number.store(n);
      EXPECT_EQ(*number.load(), n);
      EXPECT_EQ(*number.load(), n);
    }
    atomic_value<std::string> text;
    EXPECT_FALSE(text.load());
    for (const char* const s : {"longer than a word, and than a small string", "another"}) {
      text.store(s);
      EXPECT_EQ(*text.load(), s);
      EXPECT_EQ(text.load()->size(), std::string{s}.size());
    }
  });
}

// AV-02: what Go refuses when it runs does not compile: nothing, and another type.
template <typename Value, typename Arg>
concept can_store = requires(Value& value, Arg arg) { value.store(arg); };
template <typename Value, typename Arg>
concept can_exchange = requires(Value& value, Arg arg) { value.exchange(arg); };
template <typename Value>
concept can_update = requires(Value& value) { value.update([](auto&) {}); };
static_assert(can_store<atomic_value<int>, int>);
static_assert(!can_store<atomic_value<int>, std::nullptr_t>);
static_assert(!can_store<atomic_value<int>, const char*>);
static_assert(!can_exchange<atomic_value<int>, std::nullptr_t>);
static_assert(!can_exchange<atomic_value<int>, const char*>);
static_assert(can_update<atomic_value<int>> && !can_update<atomic_value<std::unique_ptr<int>>>);
static_assert(!std::is_copy_constructible_v<atomic_value<int>> &&
              !std::is_move_constructible_v<atomic_value<int>>);
static_assert(!std::is_copy_constructible_v<atomic_value<int>::snapshot> &&
              std::is_nothrow_move_constructible_v<atomic_value<int>::snapshot> &&
              std::is_nothrow_move_assignable_v<atomic_value<int>::snapshot>);
static_assert(std::is_same_v<decltype(*atomic_value<int>{}.load()), const int&>);
// A variable of namespace scope needs no code that runs before main().
constinit atomic_value<std::string> of_the_program;

TEST_P(atomic_value_test, av_04_exchange_returns_what_was_there) {
  run([] {
    atomic_value<std::string> text;
    EXPECT_FALSE(text.exchange("one"));
    const auto one = text.exchange("two");
    EXPECT_EQ(*one, "one");
    EXPECT_EQ(*text.load(), "two");
  });
}

// AV-05: each number that was stored comes out once: by an exchange, or at last.
TEST_P(atomic_value_test, av_05_exchanges_lose_nothing) {
  run([] {
    constexpr int fibers = 8;
    const int rounds = is_simulated() ? 3 : 200;
    atomic_value<std::int64_t> number;
    std::int64_t returned[fibers] = {};
    wait_group group;
    for (int f = 0; f < fibers; ++f) {
      group.go([&, f] {
        for (int i = 0; i < rounds; ++i) {
          if (const auto old = number.exchange(std::int64_t{f} * rounds + i)) returned[f] += *old;
        }
      });
    }
    group.wait();
    std::int64_t sum = *number.load();
    for (const std::int64_t part : returned) sum += part;
    const std::int64_t count = std::int64_t{fibers} * rounds;
    EXPECT_EQ(sum, count * (count - 1) / 2);
  });
}

TEST_P(atomic_value_test, a_snapshot_stays_what_it_is) {
  run([] {
    counted::alive = 0;
    {
      atomic_value<counted> value{counted{1}};
      const auto one = value.load();
      value.store(counted{2});
      auto two = value.load();
      value.store(counted{3});
      EXPECT_EQ(one->number(), 1);
      EXPECT_EQ(two->number(), 2);
      EXPECT_EQ(value.load()->number(), 3);
      EXPECT_EQ(counted::alive, 3);
      two.reset();
      EXPECT_FALSE(two);
      EXPECT_EQ(counted::alive, 2);
    }
    EXPECT_EQ(counted::alive, 0);
  });
}

TEST_P(atomic_value_test, a_snapshot_outlives_its_value) {
  run([] {
    counted::alive = 0;
    atomic_value<counted>::snapshot last;
    {
      atomic_value<counted> value{counted{7}};
      last = value.load();
      last = value.load();  // Which gives the first one up.
    }
    EXPECT_EQ(last->number(), 7);
    EXPECT_EQ(counted::alive, 1);
    auto moved = std::move(last);
    EXPECT_FALSE(last);  // NOLINT(bugprone-use-after-move)
    EXPECT_EQ(moved->number(), 7);
    moved = {};
    EXPECT_EQ(counted::alive, 0);
  });
}

// Goal:   the bound: what is held, and nothing else, when nobody is in a call.
// Method: each of many values is held by some fiber, several by two.
TEST_P(atomic_value_test, only_what_is_held_is_there) {
  run([] {
    counted::alive = 0;
    {
      atomic_value<counted> value;
      std::vector<atomic_value<counted>::snapshot> held;
      for (int i = 0; i < 100; ++i) {
        value.store(counted{i});
        if (i % 2 == 0) held.push_back(value.load());
        if (i % 4 == 0) held.push_back(value.load());
      }
      EXPECT_EQ(counted::alive, 50 + 1);
      int sum = 0;
      for (const auto& one : held) sum += one->number();
      EXPECT_EQ(sum, 2450 + 1200);
      held.erase(held.begin(), held.begin() + 60);  // Of 0 to 78, which are 40.
      EXPECT_EQ(counted::alive, 10 + 1);
    }
    EXPECT_EQ(counted::alive, 0);
  });
}

TEST_P(atomic_value_test, compares_identities) {
  run([] {
    atomic_value<std::string> text;
    atomic_value<std::string>::snapshot seen;
    EXPECT_TRUE(text.compare_exchange(seen, "one"));
    EXPECT_FALSE(seen);
    EXPECT_FALSE(text.compare_exchange(seen, "two"));
    EXPECT_EQ(*seen, "one");
    text.store("one");
    std::string three = "three";
    EXPECT_FALSE(text.compare_exchange(seen, std::move(three)));
    EXPECT_EQ(three, "three");  // NOLINT(bugprone-use-after-move): as documented.
    EXPECT_TRUE(text.compare_exchange(seen, std::move(three)));
    EXPECT_EQ(*seen, "one");
    EXPECT_EQ(*text.load(), "three");
  });
}

TEST_P(atomic_value_test, takes_what_only_moves_and_what_does_not) {
  run([] {
    atomic_value<std::unique_ptr<int>> pointer{std::make_unique<int>(1)};
    auto seen = pointer.load();
    EXPECT_TRUE(pointer.compare_exchange(seen, std::make_unique<int>(2)));
    pointer.store(std::make_unique<int>(3));
    EXPECT_EQ(**pointer.exchange(nullptr), 3);  // A pointer of nothing is something.
    EXPECT_TRUE(pointer.load());

    struct pinned {
      explicit pinned(int n) : number{n} {}
      pinned(const pinned&) = delete;
      pinned& operator=(const pinned&) = delete;
      int number;
    };
    atomic_value<pinned> value;
    value.emplace(5);
    EXPECT_EQ(value.load()->number, 5);
  });
}

TEST_P(atomic_value_test, updates_lose_nothing) {
  run([] {
    const int rounds = is_simulated() ? 3 : 100;
    atomic_value<std::vector<int>> list;
    wait_group group;
    for (int f = 0; f < 4; ++f) {
      group.go([&, f] {
        for (int i = 0; i < rounds; ++i) {
          list.update([&](std::vector<int>& copy) {
            copy.push_back(f);
            if (i % 8 == 0) yield();  // Others come in between.
          });
        }
      });
    }
    group.wait();
    EXPECT_EQ(list.load()->size(), 4U * static_cast<unsigned>(rounds));
  });
}

TEST_P(atomic_value_test, an_update_that_throws_changes_nothing) {
  run([] {
    struct no_default {
      int number;
      explicit no_default(int n) : number{n} {}
    };
    atomic_value<no_default> value;
    EXPECT_THROW(value.update([](no_default&) {}), panic_error);
    EXPECT_FALSE(value.load());
    value.emplace(1);
    EXPECT_THROW(value.update([](no_default& copy) {
      copy.number = 2;
      throw std::runtime_error{"no"};
    }),
                 std::runtime_error);
    EXPECT_EQ(value.load()->number, 1);
  });
}

// Goal:   a snapshot is not bound to the thread that took it.
// Method: it is sent to and fro, each end holds on to it across parks while others store.
TEST_P(atomic_value_test, a_snapshot_changes_hands_and_threads) {
  run([] {
    counted::alive = 0;
    {
      using snapshot = atomic_value<counted>::snapshot;
      atomic_value<counted> value{counted{0}};
      test::hand_over<snapshot> hands;
      const int rounds = is_simulated() ? 4 : 200;
      wait_group group;
      group.go([&] {
        for (int i = 1; i <= rounds; ++i) {
          snapshot taken = value.load();
          value.store(counted{i});
          yield();
          hands.give(std::move(taken));
        }
      });
      group.go([&] {
        for (int i = 0; i < rounds; ++i) {
          const snapshot given = hands.take();
          yield();
          EXPECT_EQ(given->number(), i);
        }
      });
      group.wait();
      EXPECT_EQ(counted::alive, 1);
    }
    EXPECT_EQ(counted::alive, 0);
  });
}

// Goal:   plain threads have slots, too, which are others' when they have ended.
TEST(atomic_value_threads, come_and_go_and_leave_snapshots_behind) {
  counted::alive = 0;
  {
    atomic_value<counted> value{counted{0}};
    std::vector<atomic_value<counted>::snapshot> left(50);
    for (int i = 0; i < 50; ++i) {
      std::thread{[&] {
        left[static_cast<std::size_t>(i)] = value.load();
        value.store(counted{i + 1});
      }}.join();
    }
    for (int i = 0; i < 50; ++i) EXPECT_EQ(left[static_cast<std::size_t>(i)]->number(), i);
    EXPECT_EQ(counted::alive, 51);
    // By a thread that has never loaded anything.
    std::thread{[&] { left.clear(); }}.join();
    EXPECT_EQ(counted::alive, 1);
  }
  EXPECT_EQ(counted::alive, 0);
}

// Goal:   a thread's variables may use values when they are destroyed, before and after the slots.
TEST(atomic_value_threads, may_load_when_they_end) {
  of_the_program.store("at the end");
  static std::atomic<int> seen;
  seen = 0;
  struct at_end {
    ~at_end() { seen += *of_the_program.load() == "at the end" ? 1 : 0; }
  };
  std::thread{[] {
    thread_local const at_end early;
    static_cast<void>(&early);
    EXPECT_TRUE(of_the_program.load());
    thread_local const at_end late;
    static_cast<void>(&late);
  }}.join();
  EXPECT_EQ(seen, 2);
}

// What came before a store comes before what follows the load that finds its value; and what the
// readers did before the value's destructor, which runs here on whichever fiber is last.
TEST_P(atomic_value_test, a_store_comes_before_its_load_and_readers_before_the_end) {
  run([] {
    struct marks {
      int* last_reader;
      ~marks() {
        if (last_reader != nullptr) ++*last_reader;
      }
    };
    int readers[2] = {};
    int ended = 0;
    {
      atomic_value<std::shared_ptr<int>> unrelated{std::make_shared<int>(1)};
      atomic_value<marks> value;
      int before = 0;
      wait_group group;
      for (int r = 0; r < 2; ++r) {
        group.go([&, r] {
          auto seen = value.load();
          for (; !seen; seen = value.load()) yield();
          EXPECT_EQ(before, 1);
          ++readers[r];
          yield();
        });
      }
      group.go([&] {
        before = 1;
        value.emplace(&ended);
        yield();
        value.emplace(nullptr);
      });
      group.wait();
    }
    EXPECT_EQ(ended, 1);
  });
}

#ifdef EXEUNT_TSAN

class atomic_value_race_death_test : public test::race_death_test {};

// Two that have looked at the same value are not ordered by that.
TEST_F(atomic_value_race_death_test, readers_are_not_ordered) {
  EXEUNT_EXPECT_RACE("one", "two", [] {
    atomic_value<int> value{1};
    int v = 0;
    std::atomic<bool> passed{false};  // Relaxed: orders nothing.
    wait_group group;
    group.go({.name = "one"}, [&] {
      ++v;
      EXPECT_EQ(*value.load(), 1);
      passed.store(true, std::memory_order_relaxed);
    });
    group.go({.name = "two"}, [&] {
      while (!passed.load(std::memory_order_relaxed)) yield();
      EXPECT_EQ(*value.load(), 1);
      ++v;
    });
    group.wait();
  });
}

#endif

}  // namespace
}  // namespace exeunt
