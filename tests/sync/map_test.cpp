// SPDX-License-Identifier: Apache-2.0

#include <exeunt/sync/map.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <exeunt/base/random.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/explored.hpp"

namespace exeunt {
namespace {

static_assert(!std::is_copy_constructible_v<map<int, int>>);
static_assert(!std::is_move_constructible_v<map<int, int>>);
constinit map<int, int> global_map;

class map_test : public test::explored {};
EXEUNT_EXPLORED(map_test);

// --- one caller: against a map that everybody understands

// Hashes that meet, in the whole word or in what chooses the place.
struct same_hash {
  std::size_t operator()(int) const noexcept { return 7; }
};
struct few_hashes {
  std::size_t operator()(int key) const noexcept { return static_cast<std::size_t>(key % 5); }
};

template <typename Map>
std::unordered_map<int, int> content(const Map& of) {
  std::unordered_map<int, int> all;
  of.range([&](int key, int value) { EXPECT_TRUE(all.emplace(key, value).second) << key; });
  return all;
}

template <typename Hash>
void follows_a_plain_map(int keys, int steps) {
  map<int, int, Hash> tested;
  std::unordered_map<int, int> model;
  const auto known = [&](int key) {
    const auto at = model.find(key);
    return at == model.end() ? std::nullopt : std::optional{at->second};
  };
  detail::random_source random{20'240'607};
  for (int step = 0; step < steps; ++step) {
    const int key = static_cast<int>(random.below(static_cast<std::uint32_t>(keys)));
    const int value = static_cast<int>(random.below(3));
    const int other = static_cast<int>(random.below(3));
    const std::optional<int> before = known(key);
    switch (random.below(10)) {
      case 0:
        ASSERT_EQ(tested.load(key), before);
        ASSERT_EQ(tested.contains(key), before.has_value());
        break;
      case 1:
      case 2:
        tested.store(key, value);
        model[key] = value;
        break;
      case 3: {
        const auto got = tested.load_or_store(key, value);
        ASSERT_EQ(got.loaded, before.has_value());
        ASSERT_EQ(got.value, before.value_or(value));
        model.emplace(key, value);
        break;
      }
      case 4:
        ASSERT_EQ(tested.load_and_delete(key), before);
        model.erase(key);
        break;
      case 5:
        ASSERT_EQ(tested.erase(key), before.has_value());
        model.erase(key);
        break;
      case 6:
        ASSERT_EQ(tested.swap(key, value), before);
        model[key] = value;
        break;
      case 7:
        ASSERT_EQ(tested.compare_and_swap(key, other, value), before == other);
        if (before == other) model[key] = value;
        break;
      case 8:
        ASSERT_EQ(tested.compare_and_delete(key, other), before == other);
        if (before == other) model.erase(key);
        break;
      default:
        if (random.below(200) == 0) {
          tested.clear();
          model.clear();
        }
        ASSERT_EQ(tested.size(), model.size());
        ASSERT_EQ(tested.empty(), model.empty());
        break;
    }
  }
  EXPECT_EQ(content(tested), model);
}

// SY-35.
TEST(map_against_a_plain_one, sy_35_few_keys) { follows_a_plain_map<std::hash<int>>(8, 20'000); }
TEST(map_against_a_plain_one, sy_35_many_keys) {
  follows_a_plain_map<std::hash<int>>(5'000, 100'000);
}
TEST(map_against_a_plain_one, sy_35_keys_of_one_hash) {
  follows_a_plain_map<same_hash>(100, 20'000);
}
TEST(map_against_a_plain_one, sy_35_keys_of_few_hashes) {
  follows_a_plain_map<few_hashes>(100, 20'000);
}

TEST(map_alone, grows_and_shrinks) {
  map<std::uint64_t, std::uint64_t> squares;
  constexpr std::uint64_t count = 100'000;
  for (std::uint64_t i = 0; i < count; ++i) squares.store(i, i * i);
  EXPECT_EQ(squares.size(), count);
  for (std::uint64_t i = 0; i < count; ++i) ASSERT_EQ(squares.load(i), i * i);
  EXPECT_FALSE(squares.load(count));
  for (std::uint64_t i = 0; i < count; i += 2) ASSERT_EQ(squares.load_and_delete(i), i * i);
  for (std::uint64_t i = 0; i < count; ++i) ASSERT_EQ(squares.contains(i), i % 2 == 1);
  for (std::uint64_t i = 1; i < count; i += 2) ASSERT_TRUE(squares.erase(i));
  EXPECT_TRUE(squares.empty());
}

// SY-38.
TEST(map_alone, sy_38_what_is_not_there_is_neither_exchanged_nor_found) {
  map<std::string, std::string> words;
  EXPECT_FALSE(words.compare_and_swap("key", "", "value"));
  EXPECT_FALSE(words.load("key"));
  words.store("key", "value");
  EXPECT_TRUE(words.erase("key"));
  EXPECT_FALSE(words.erase("key"));
  EXPECT_FALSE(words.load("key"));
  words.store("key", "value");
  words.clear();
  EXPECT_FALSE(words.load("key"));
  words.store("key", "again");
  EXPECT_EQ(words.load("key"), "again");
  EXPECT_EQ(words.size(), 1U);
}

TEST(map_alone, finds_strings_by_views_of_them) {
  map<std::string, int> numbers;
  numbers.store("one", 1);
  const std::string_view line = "one two";
  EXPECT_EQ(numbers.load(line.substr(0, 3)), 1);
  EXPECT_FALSE(numbers.contains(line.substr(4)));
  EXPECT_EQ(numbers.load("one"), 1);
  EXPECT_TRUE(numbers.compare_and_swap(line.substr(0, 3), 1, 2));
  EXPECT_TRUE(numbers.erase(line.substr(0, 3)));
}

struct pair_hash {
  std::size_t operator()(const std::pair<int, int>& key) const noexcept {
    return static_cast<std::size_t>(key.first * 1000 + key.second);
  }
};

TEST(map_alone, takes_keys_in_braces_and_what_converts) {
  map<std::pair<int, int>, int, pair_hash> places;
  places.store({1, 2}, 3);
  EXPECT_EQ(places.load({1, 2}), 3);
  map<std::int64_t, int> numbers;
  numbers.store(5, 1);
  EXPECT_EQ(numbers.load(5), 1);
  EXPECT_EQ(numbers.load(short{5}), 1);
}

TEST(map_alone, values_may_be_move_only) {
  map<int, std::unique_ptr<int>> owners;
  owners.store(1, std::make_unique<int>(10));
  EXPECT_TRUE(owners.contains(1));
  const auto before = owners.swap(1, std::make_unique<int>(20));
  ASSERT_TRUE(before);
  EXPECT_EQ(**before, 10);
  const auto last = owners.load_and_delete(1);
  ASSERT_TRUE(last);
  EXPECT_EQ(**last, 20);
  owners.store(2, std::make_unique<int>(30));
}

TEST(map_alone, keys_may_be_move_only) {
  struct pointer_hash {
    std::size_t operator()(const std::unique_ptr<int>& key) const noexcept {
      return static_cast<std::size_t>(*key);
    }
  };
  struct pointer_equal {
    bool operator()(const std::unique_ptr<int>& a, const std::unique_ptr<int>& b) const noexcept {
      return *a == *b;
    }
  };
  map<std::unique_ptr<int>, int, pointer_hash, pointer_equal> numbers;
  for (int i = 0; i < 100; ++i) numbers.store(std::make_unique<int>(i), i);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(numbers.load(std::make_unique<int>(i)), i);
}

// SY-40, TestIssue40999: what is erased, replaced or cleared is gone, also from ever new keys.
TEST(map_alone, sy_40_keeps_no_key_and_no_value_alive) {
  using shared = std::shared_ptr<int>;
  map<shared, shared> some;
  std::vector<std::weak_ptr<int>> keys;
  std::vector<std::weak_ptr<int>> values;
  for (int i = 0; i < 1000; ++i) {
    auto key = std::make_shared<int>(i);
    auto value = std::make_shared<int>(i);
    keys.emplace_back(key);
    values.emplace_back(value);
    some.store(key, value);
    some.store(key, std::make_shared<int>(-i));
    EXPECT_TRUE(values.back().use_count() == 1) << "replaced: the test's own";
    if (i % 2 == 0) {
      EXPECT_TRUE(some.erase(key));
    }
  }
  for (std::size_t i = 0; i < keys.size(); ++i) EXPECT_EQ(keys[i].expired(), i % 2 == 0);
  for (const auto& value : values) EXPECT_TRUE(value.expired());
  some.clear();
  for (const auto& key : keys) EXPECT_TRUE(key.expired());
}

struct counts_copies {
  static inline int budget = -1;
  int number = 0;
  explicit counts_copies(int n) : number{n} {}
  counts_copies(const counts_copies& other) : number{other.number} {
    if (budget == 0) throw std::runtime_error{"no more copies"};
    --budget;
  }
  counts_copies(counts_copies&&) noexcept = default;
  counts_copies& operator=(counts_copies&&) noexcept = default;
};

TEST(map_alone, a_copy_that_throws_changes_nothing) {
  map<int, counts_copies> some;
  some.store(1, counts_copies{10});
  counts_copies::budget = 0;
  EXPECT_THROW(static_cast<void>(some.load(1)), std::runtime_error);
  EXPECT_THROW(static_cast<void>(some.load_or_store(2, counts_copies{20})), std::runtime_error);
  EXPECT_THROW(some.range([](int, const counts_copies&) {}), std::runtime_error);
  counts_copies::budget = -1;
  EXPECT_FALSE(some.contains(2));
  EXPECT_EQ(some.load(1)->number, 10);
}

TEST(map_alone, range_ends_when_it_is_told_to) {
  map<int, int> numbers;
  for (int i = 0; i < 1000; ++i) numbers.store(i, i);
  int visited = 0;
  numbers.range([&](int, int) { return ++visited < 10; });
  EXPECT_EQ(visited, 10);
}

// The call-back may change the map under the range's feet: nothing comes twice, and what was not
// touched comes.
TEST(map_alone, range_lets_its_call_back_use_the_map) {
  map<int, int> numbers;
  constexpr int count = 2'000;
  for (int i = 0; i < count; ++i) numbers.store(i, 0);
  std::set<int> seen;
  numbers.range([&](int key, int) {
    EXPECT_TRUE(seen.insert(key).second) << key;
    if (key < count) {
      numbers.store(key + count, 1);         // Grows it.
      numbers.store(key, 1);                 // Is there already.
      if (key % 2 == 1) numbers.erase(key);  // And comes back.
      if (key % 4 == 1) numbers.store(key, 2);
    }
  });
  for (int i = 0; i < count; ++i) EXPECT_TRUE(seen.contains(i)) << i;
}

TEST(map_alone, range_may_erase_everything) {
  map<int, int> numbers;
  for (int i = 0; i < 5'000; ++i) numbers.store(i, 0);
  std::set<int> seen;
  numbers.range([&](int key, int) {
    EXPECT_TRUE(seen.insert(key).second) << key;
    numbers.erase(key);
  });
  EXPECT_EQ(seen.size(), 5'000U);
  EXPECT_TRUE(numbers.empty());
}

TEST(map_alone, range_meets_all_keys_of_one_hash) {
  map<int, int, same_hash> numbers;
  for (int i = 0; i < 300; ++i) numbers.store(i, i);
  EXPECT_EQ(content(numbers).size(), 300U);
}

// --- many callers

TEST_P(map_test, one_of_many_stores_first) {
  run([] {
    map<int, int> winners;
    std::atomic<int> stored = 0;
    std::atomic<int> winner = -1;
    int got[8] = {};
    wait_group fibers;
    for (int f = 0; f < 8; ++f) {
      fibers.go([&, f] {
        const auto result = winners.load_or_store(1, f);
        got[f] = result.value;
        if (!result.loaded) {
          ++stored;
          winner = f;
        }
      });
    }
    fibers.wait();
    EXPECT_EQ(stored, 1);
    for (const int value : got) EXPECT_EQ(value, winner);
  });
}

TEST_P(map_test, counts_by_compare_and_swap_lose_nothing) {
  run([] {
    map<int, int> counts;
    for (int key = 0; key < 3; ++key) counts.store(key, 0);
    wait_group fibers;
    for (int f = 0; f < 4; ++f) {
      fibers.go([&] {
        for (int i = 0; i < 30; ++i) {
          for (;;) {
            const int seen = *counts.load(i % 3);
            if (counts.compare_and_swap(i % 3, seen, seen + 1)) break;
            yield();
          }
        }
      });
    }
    fibers.wait();
    for (int key = 0; key < 3; ++key) EXPECT_EQ(counts.load(key), 40);
  });
}

// SY-39.
TEST_P(map_test, sy_39_stores_loads_and_clears_at_once) {
  run([] {
    map<int, int> numbers;
    wait_group fibers;
    for (int f = 0; f < 10; ++f) {
      fibers.go([&, f] { numbers.store(f, f); });
      fibers.go([&, f] { EXPECT_EQ(numbers.load(f).value_or(f), f); });
      fibers.go([&] { numbers.clear(); });
    }
    fibers.wait();
    numbers.clear();
    numbers.range([](int key, int) { ADD_FAILURE() << key; });
    EXPECT_TRUE(numbers.empty());
  });
}

// What is written before a change is plain; so is what is read by who finds it.
TEST_P(map_test, a_change_comes_before_what_finds_it) {
  run([] {
    map<int, int*> places;
    int written[3] = {};
    bool over = false;
    wait_group both;
    both.go([&] {
      for (int i = 0; i < 3; ++i) {
        written[i] = 1;
        places.store(i, &written[i]);
      }
      over = true;
      places.erase(0);
    });
    both.go([&] {
      for (int i = 2; i >= 0; --i) {
        std::optional<int*> found;
        while (!(found = places.load(i)) && i != 0) yield();
        if (found) {
          EXPECT_EQ(**found, 1);
        }
      }
      while (places.contains(0)) yield();
      EXPECT_TRUE(over);
    });
    both.wait();
  });
}

TEST_P(map_test, a_range_beside_writers_meets_what_stays_and_nothing_twice) {
  run([] {
    map<int, int> numbers;
    for (int i = 0; i < 200; ++i) numbers.store(i, 0);
    wait_group fibers;
    for (int f = 0; f < 2; ++f) {
      fibers.go([&, f] {
        for (int i = 0; i < 100; ++i) {
          numbers.store(1000 + f * 1000 + i, 1);
          if (i % 3 == 0) numbers.erase(1000 + f * 1000 + i / 2);
          if (i % 16 == 0) yield();
        }
      });
    }
    fibers.go([&] {
      std::set<int> seen;
      numbers.range([&](int key, int) {
        EXPECT_TRUE(seen.insert(key).second) << key;
        if (key % 32 == 0) yield();
      });
      EXPECT_EQ(std::count_if(seen.begin(), seen.end(), [](int key) { return key < 200; }), 200);
    });
    fibers.wait();
  });
}

TEST(map_on_threads, a_global_one_needs_no_fiber_at_all) {
  global_map.store(1, 2);
  EXPECT_EQ(global_map.load(1), 2);
  global_map.clear();
}

}  // namespace
}  // namespace exeunt
