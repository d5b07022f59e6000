// SPDX-License-Identifier: Apache-2.0
// As covered_test.cpp, of what many go through at once: singleflight, queue and map.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <exeunt/base/error.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sync/hash.hpp>
#include <exeunt/sync/map.hpp>
#include <exeunt/sync/queue.hpp>
#include <exeunt/sync/singleflight.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "sim/explore_all.hpp"

namespace exeunt {
namespace {

using test::explore_all;

// Some of these worlds are small enough for one more.
constexpr unsigned one_more = test::covered_preemptions + 1;

// --- singleflight

constexpr int key = 1;

// Functions of one key: how many have begun, and how many run.
class functions {
 public:
  // Its value is its number.
  int call(int at_most = 1) {
    EXPECT_LE(++running_, at_most);
    const int number = ++begun_;
    yield();
    --running_;
    return number;
  }
  [[nodiscard]] int begun() const { return begun_; }

 private:
  std::atomic<int> begun_{0};  // Nothing orders one call and the next.
  std::atomic<int> running_{0};
};

using number = flight_value<int>;

// That each knows whether it was given to others.
template <std::size_t Count>
void expect_shared_by_those_who_have_it(const std::array<std::optional<number>, Count>& given) {
  for (const auto& one : given) {
    if (!one) continue;
    int same = 0;
    for (const auto& other : given) same += other && **other == **one ? 1 : 0;
    EXPECT_EQ(one->shared(), same > 1);
  }
}

enum class form { plain, with_context };

// Goal:   while a function runs, all who ask get what it returns, and nobody begins another one.
template <std::size_t Count>
void callers_share(const std::string& name, const std::array<form, Count>& forms) {
  explore_all(name, [&forms] {
    singleflight<int, int> flights;
    functions tested;
    std::array<std::optional<number>, Count> given;
    wait_group group;
    for (std::size_t i = 0; i < Count; ++i) {
      group.go([&, i] {
        const auto function = [&tested] { return tested.call(); };
        auto got = forms[i] == form::plain ? flights.call(key, function)
                                           : flights.call(context::background(), key, function);
        ASSERT_TRUE(got);
        given[i] = *got;
      });
    }
    group.wait();
    EXPECT_EQ(flights.size(), 0U);
    expect_shared_by_those_who_have_it(given);
  });
}

TEST(covered_flows, one_call_answers_all_who_ask_meanwhile) {
  using enum form;
  callers_share<3>("singleflight_plain", {plain, plain, plain});
  callers_share<2>("singleflight_contexts", {with_context, with_context});
  callers_share<3>("singleflight_both", {with_context, plain, with_context});
}

// Goal:   an exception reaches each caller of its call.
TEST(covered_flows, an_exception_reaches_each_caller) {
  explore_all("singleflight_throws", [] {
    singleflight<int, int> flights;
    const auto throws = []() -> int { throw std::runtime_error{"no value"}; };
    wait_group group;
    group.go([&] {
      const auto got = flights.call(key, throws);
      EXPECT_TRUE(!got && got.error().is(errc::panic));
    });
    group.go([&] {
      const auto got = flights.call(context::background(), key, throws);
      EXPECT_TRUE(!got && got.error().is(errc::panic));
    });
    group.wait();
    EXPECT_EQ(flights.size(), 0U);
  });
}

// Goal:   when all callers have left, the function's context has ended, or it would wait for good,
//         and the key is free, whether the function has ended or not.
TEST(covered_flows, the_last_to_leave_ends_the_function_and_frees_the_key) {
  explore_all("singleflight_left", [] {
    singleflight<int, int> flights;
    const auto first = with_cancel(context::background());
    const auto second = with_cancel(context::background());
    wait_group group;
    for (const auto* by : {&first, &second}) {
      group.go([&, by] {
        const auto got = flights.call(by->ctx, key, [](const context& own) {
          own.wait();
          return 1;
        });
        EXPECT_TRUE(!got && got.error().is(errc::canceled));
      });
    }
    group.go([&] {
      first.cancel();
      second.cancel();
    });
    group.wait();
    EXPECT_EQ(flights.size(), 0U);
    const auto next = flights.call(key, [] { return 2; });
    ASSERT_TRUE(next);
    EXPECT_EQ(**next, 2);
    EXPECT_FALSE(next->shared());
  });
}

// Goal:   one that leaves takes nothing from one that stays: the function's context ends with the
//         function, and not before.
void one_leaves(const std::string& name, form of_who_stays) {
  struct answer {
    bool was_left = false;
    std::optional<context> own;  // Of a function with one.
  };
  explore_all(name, [of_who_stays] {
    singleflight<int, answer> flights;
    const auto end = with_cancel(context::background());
    const auto with_own = [](const context& own) {
      yield();
      return answer{own.err().has_value(), own};
    };
    const auto without = [] {
      yield();
      return answer{};
    };
    const auto expect_whole = [](const answer& given) {
      EXPECT_FALSE(given.was_left);
      EXPECT_TRUE(!given.own || given.own->err());
    };
    wait_group group;
    group.go([&] {
      const auto got = flights.call(end.ctx, key, with_own);
      EXPECT_TRUE(got || got.error().is(errc::canceled));
      if (got) expect_whole(**got);
    });
    group.go([&] {
      const auto got = of_who_stays == form::plain
                           ? flights.call(key, without)
                           : flights.call(context::background(), key, with_own);
      ASSERT_TRUE(got);
      expect_whole(**got);
    });
    group.go([&] { end.cancel(); });
    group.wait();
    EXPECT_EQ(flights.size(), 0U);
  });
}

TEST(covered_flows, one_that_leaves_takes_nothing_from_one_that_stays) {
  one_leaves("singleflight_one_leaves", form::with_context);
  one_leaves("singleflight_one_leaves_plain", form::plain);
}

// Goal:   an exception is not lost between a caller that leaves and a call that ends: who has not
//         left when it is over gets it.
// Method: a cancel that comes, if it comes, when the key is free, though nobody has left.
TEST(covered_flows, one_that_leaves_too_late_gets_what_was_thrown) {
  explore_all("singleflight_left_late", [] {
    singleflight<int, int> flights;
    const auto end = with_cancel(context::background());
    std::atomic<bool> thrown{false};
    wait_group group;
    group.go([&] {
      const auto got = flights.call(end.ctx, key, [&thrown]() -> int {
        thrown = true;
        throw std::runtime_error{"no value"};
      });
      EXPECT_TRUE(!got && got.error().is(errc::panic));
    });
    group.go([&] {
      yield();
      if (thrown && flights.size() == 0) end.cancel();
    });
    group.wait();
  });
}

// Goal:   whoever has made the key free gets what begins after that; the calls before and after go
//         on, each for those who have joined it, and the end of the first leaves the second its
//         key.
TEST(covered_flows, forget_makes_the_key_free_for_one_more_call) {
  explore_all("singleflight_forget", [] {
    singleflight<int, int> flights;
    functions tested;
    std::atomic<int> at_most{1};
    std::array<std::optional<number>, 3> given;
    const auto call = [&](std::size_t i) {
      auto got = flights.call(key, [&] { return tested.call(at_most); });
      ASSERT_TRUE(got);
      given[i] = *got;
    };
    wait_group group;
    group.go([&] { call(0); });
    group.go([&] { call(1); });
    group.go([&] {
      const int before = tested.begun();
      at_most = 2;
      const bool was_there = flights.forget(key);
      call(2);
      ASSERT_TRUE(given[2]);
      EXPECT_TRUE(!was_there || **given[2] > before);
    });
    group.wait();
    EXPECT_EQ(flights.size(), 0U);
    expect_shared_by_those_who_have_it(given);
  });
}

// --- queue

constexpr std::size_t unbounded = queue<int>::unbounded;

// Goal:   each value comes out once, those of a producer in their order, and never are there more
//         than there may be.
void each_comes_out_once(const std::string& name, std::size_t capacity, int consumers) {
  explore_all(name, [capacity, consumers] {
    queue<int> numbers{capacity};
    std::vector<std::vector<int>> taken(static_cast<std::size_t>(consumers));
    wait_group group;
    for (const int first : {0, 2}) {
      group.go([&numbers, first] {
        EXPECT_TRUE(numbers.push(first));
        EXPECT_TRUE(numbers.push(first + 1));
      });
    }
    for (std::vector<int>& mine : taken) {
      group.go([&] {
        for (int i = 0; i < 4 / consumers; ++i) {
          const std::optional<int> one = numbers.pop();
          ASSERT_TRUE(one);
          mine.push_back(*one);
        }
      });
    }
    group.wait();
    EXPECT_EQ(numbers.size(), 0U);
    EXPECT_LE(numbers.peak(), capacity);
    std::array<int, 4> times{};
    for (const std::vector<int>& mine : taken) {
      int last[2] = {-1, -1};
      for (const int one : mine) {
        ++times[static_cast<std::size_t>(one)];
        EXPECT_LT(last[one / 2], one);
        last[one / 2] = one;
      }
    }
    EXPECT_EQ(times, (std::array<int, 4>{1, 1, 1, 1}));
  });
}

TEST(covered_flows, each_value_of_a_queue_comes_out_once) {
  each_comes_out_once("queue_1_1", 1, 1);
  each_comes_out_once("queue_1_2", 1, 2);
  each_comes_out_once("queue_2_2", 2, 2);
  each_comes_out_once("queue_unbounded_1", unbounded, 1);
  each_comes_out_once("queue_unbounded_2", unbounded, 2);
}

// Goal:   the forms that never wait lose nothing either, and get on with one that waits.
TEST(covered_flows, what_is_tried_is_done_or_refused) {
  explore_all("queue_tried", one_more, [] {
    queue<int> numbers{1};
    std::atomic<int> pushed{0};
    std::atomic<int> popped{0};
    wait_group trying;
    wait_group waiting;
    for (int i = 0; i < 2; ++i) {
      trying.go([&] {
        if (numbers.try_push(1)) ++pushed;
        if (numbers.try_pop()) ++popped;
      });
    }
    waiting.go([&] {
      if (numbers.push(1)) ++pushed;
      if (numbers.pop()) ++popped;
    });
    trying.wait();
    numbers.close();  // Another one may have taken what it waits for.
    waiting.wait();
    if (numbers.try_pop()) ++popped;
    EXPECT_EQ(pushed, popped);
  });
}

// Goal:   a push whose context ends has put its value in, or still has it; who waits behind it gets
//         in.
TEST(covered_flows, a_push_that_is_canceled_keeps_its_value_or_has_put_it_in) {
  explore_all("queue_push_canceled", one_more, [] {
    queue<std::unique_ptr<int>> numbers{1};
    const auto end = with_cancel(context::background());
    bool is_in = false;
    EXPECT_TRUE(numbers.push(std::make_unique<int>(0)));
    wait_group group;
    group.go([&] {
      auto mine = std::make_unique<int>(1);
      const result<> pushed = numbers.push(end.ctx, std::move(mine));
      is_in = pushed.has_value();
      EXPECT_EQ(mine == nullptr, is_in);
      EXPECT_TRUE(is_in || pushed.error().is(errc::canceled));
    });
    group.go([&] { EXPECT_TRUE(numbers.push(std::make_unique<int>(2))); });
    group.go([&] { end.cancel(); });
    std::array<int, 3> times{};
    const auto count = [&](const std::optional<std::unique_ptr<int>>& one) {
      ASSERT_TRUE(one && *one);
      ++times[static_cast<std::size_t>(**one)];
    };
    while (times[2] == 0) count(numbers.pop());
    group.wait();
    while (auto left = numbers.try_pop()) count(left);
    EXPECT_EQ(times, (std::array<int, 3>{1, is_in ? 1 : 0, 1}));
  });
}

// Goal:   a pop whose context ends has a value, or has left it to who waits behind it.
void one_pop_is_canceled(const std::string& name, std::size_t capacity) {
  explore_all(name, one_more, [capacity] {
    queue<int> numbers{capacity};
    const auto end = with_cancel(context::background());
    wait_group first;
    wait_group others;
    int got_it = 0;
    first.go([&] {
      const result<int> one = numbers.pop(end.ctx);
      EXPECT_TRUE(one || one.error().is(errc::canceled));
      got_it = one ? *one : 0;
    });
    int behind = 0;
    others.go([&] { behind = numbers.pop().value_or(0); });
    others.go([&] { end.cancel(); });
    EXPECT_TRUE(numbers.push(1));
    first.wait();
    EXPECT_TRUE(got_it == 0 || numbers.push(2));
    others.wait();
    EXPECT_EQ(got_it + behind, got_it == 0 ? 1 : 3);
    EXPECT_FALSE(numbers.try_pop());
  });
}

TEST(covered_flows, a_pop_that_is_canceled_has_a_value_or_leaves_it) {
  one_pop_is_canceled("queue_pop_canceled_1", 1);
  one_pop_is_canceled("queue_pop_canceled", unbounded);
}

// Goal:   a value is taken once, or refused and still the producer's; a close leaves
//         nobody waiting.
void closed_in_use(const std::string& name, std::size_t capacity, std::size_t full) {
  explore_all(name, [capacity, full] {
    queue<std::unique_ptr<int>> numbers{capacity};
    for (std::size_t i = 0; i < full; ++i) EXPECT_TRUE(numbers.push(std::make_unique<int>(0)));
    std::atomic<std::size_t> taken{0};
    std::atomic<std::size_t> refused{0};
    wait_group group;
    for (int i = 0; i < 2; ++i) {
      group.go([&] {
        auto mine = std::make_unique<int>(1);
        if (!numbers.push(std::move(mine))) {
          EXPECT_TRUE(mine && numbers.closed());
          ++refused;
        }
      });
    }
    for (std::size_t i = 0; i < 2 - full; ++i) {
      group.go([&] {
        if (const auto one = numbers.pop()) {
          EXPECT_TRUE(*one);
          ++taken;
        } else {
          EXPECT_TRUE(numbers.closed());
        }
      });
    }
    group.go([&] { numbers.close(); });
    group.wait();
    EXPECT_FALSE(numbers.push(nullptr));
    std::size_t left = 0;
    while (const auto one = numbers.pop()) ++left;
    EXPECT_EQ(taken + refused + left, full + 2);
  });
}

TEST(covered_flows, a_close_of_a_queue_in_use_leaves_nobody_waiting) {
  closed_in_use("queue_closed_1", 1, 0);
  closed_in_use("queue_closed_full", 1, 1);
  closed_in_use("queue_closed", unbounded, 0);
}

// --- map

// Goal:   one of those who store first has stored, and all get its value.
TEST(covered_flows, one_of_three_stores_first) {
  explore_all("map_load_or_store", one_more, [] {
    map<int, int> values;
    std::array<int, 3> got{};
    std::atomic<int> winners{0};
    std::atomic<int> winner{0};
    wait_group group;
    for (int i = 0; i < 3; ++i) {
      group.go([&, i] {
        const auto [value, loaded] = values.load_or_store(key, i);
        got[static_cast<std::size_t>(i)] = value;
        if (loaded) return;
        ++winners;
        winner = i;
      });
    }
    group.wait();
    EXPECT_EQ(winners, 1);
    EXPECT_EQ(got, (std::array<int, 3>{winner, winner, winner}));
    EXPECT_EQ(values.load(key), winner);
  });
}

// Goal:   of those who swap the same value, one does; additions made so are all there.
TEST(covered_flows, compare_and_swap_excludes) {
  explore_all("map_compare_and_swap", one_more, [] {
    map<int, int> values;
    values.store(key, 0);
    std::atomic<int> swaps{0};
    wait_group group;
    for (int i = 1; i <= 3; ++i) {
      group.go([&, i] { swaps += values.compare_and_swap(key, 0, i) ? i : 0; });
    }
    group.wait();
    EXPECT_GT(swaps, 0);
    EXPECT_EQ(values.load(key), swaps);
  });
  explore_all("map_additions", one_more, [] {
    map<int, int> values;
    values.store(key, 0);
    wait_group group;
    for (int i = 0; i < 2; ++i) {
      group.go([&] {
        for (int times = 0; times < 2; ++times) {
          int before = values.load(key).value_or(-1);
          while (!values.compare_and_swap(key, before, before + 1)) {
            before = values.load(key).value_or(-1);
          }
        }
      });
    }
    group.wait();
    EXPECT_EQ(values.load(key), 4);
  });
}

// Goal:   what was stored comes out once, or is there at last.
// Method: three that take it out, each in another way, beside two stores.
TEST(covered_flows, each_value_of_a_map_is_taken_out_once) {
  explore_all("map_taken_out", one_more, [] {
    map<int, int> values;
    std::array<std::atomic<int>, 3> times{};
    const auto count = [&](std::optional<int> one) {
      if (one) ++times[static_cast<std::size_t>(*one)];
    };
    wait_group group;
    group.go([&] { count(values.swap(key, 1)); });
    group.go([&] {
      count(values.swap(key, 2));
      count(values.load_and_delete(key));
    });
    group.go([&] {
      if (values.compare_and_delete(key, 2)) count(2);
      count(values.load_and_delete(key));
    });
    group.wait();
    EXPECT_EQ(values.size(), values.contains(key) ? 1U : 0U);
    count(values.load(key));
    EXPECT_EQ(times[1], 1);
    EXPECT_EQ(times[2], 1);
  });
}

TEST(covered_flows, an_erase_takes_what_was_stored_or_leaves_it) {
  explore_all("map_erase", one_more, [] {
    map<int, int> values;
    bool erased = false;
    std::optional<int> seen;
    wait_group group;
    group.go([&] { values.store(key, 1); });
    group.go([&] { erased = values.erase(key); });
    group.go([&] { seen = values.load(key); });
    group.wait();
    EXPECT_EQ(values.contains(key), !erased);
    EXPECT_TRUE(!seen || *seen == 1);
  });
}

constexpr std::uint64_t unmixed(std::uint64_t hash) {
  hash ^= hash >> 33;
  hash *= 0x9cb4b2f8129337dbULL;
  hash ^= hash >> 33;
  hash *= 0x4f74430c22a54005ULL;
  hash ^= hash >> 33;
  return hash;
}
static_assert(detail::mixed_hash(unmixed(12345ULL << 44)) == 12345ULL << 44);

// Keys below 128 are neighbours in one shard, in their order, so that they move for one another.
struct in_a_row {
  std::size_t operator()(int one) const noexcept {
    return unmixed(static_cast<std::uint64_t>(one) << 57U);
  }
};

// Goal:   who stays is found all the time, while those around it come and go.
TEST(covered_flows, a_key_that_moves_is_there_all_the_time) {
  explore_all("map_neighbours", one_more, [] {
    map<int, int, in_a_row> values;
    for (const int one : {32, 33, 34}) values.store(one, one);
    wait_group group;
    group.go([&] { values.erase(32); });
    group.go([&] {
      for (const int one : {0, 1, 2, 35}) values.store(one, one);  // It may have to grow.
    });
    group.go([&] {
      for (const int one : {34, 33, 34}) EXPECT_EQ(values.load(one), one);
    });
    group.wait();
    EXPECT_EQ(values.size(), 6U);
  });
}

// Goal:   a range meets what stays once, and nothing twice, though it takes more than one look, and
//         all moves between them.
// Method: so many keys that it cannot copy all at once, and that the map grows with two more.
TEST(covered_flows, a_range_meets_what_stays_once) {
  explore_all("map_range", one_more, [] {
    constexpr int stay = 47;
    map<int, int, in_a_row> values;
    for (int i = 0; i < stay; ++i) values.store(2 * i, i);
    std::array<int, 2 * stay> seen{};
    wait_group group;
    group.go([&] {
      values.range([&](int one, int value) {
        ++seen[static_cast<std::size_t>(one)];
        EXPECT_EQ(value, one / 2);
      });
    });
    group.go([&] {
      values.store(1, 0);
      values.store(65, 32);
      values.erase(1);
    });
    group.wait();
    for (std::size_t i = 0; i < seen.size(); ++i) {
      if (i % 2 == 0) {
        EXPECT_EQ(seen[i], 1) << i;
      } else {
        EXPECT_LE(seen[i], 1) << i;
      }
    }
  });
}

}  // namespace
}  // namespace exeunt
