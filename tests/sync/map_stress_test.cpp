// SPDX-License-Identifier: Apache-2.0
// Goal:   the map, and the queue and the calls that go through one key at a time, lose and double
//         nothing when real threads race.
// Method: sums and counts; ThreadSanitizer looks at the plain data behind them.

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <exeunt/base/race.hpp>
#include <exeunt/base/random.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sync/map.hpp>
#include <exeunt/sync/queue.hpp>
#include <exeunt/sync/singleflight.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/on_workers.hpp"

namespace exeunt {
namespace {

#ifdef EXEUNT_HAS_TSAN
constexpr int scale = 1;
#else
constexpr int scale = 10;
#endif

class map_stress_test : public test::on_workers {};
EXEUNT_ON_WORKERS(map_stress_test);

// Each key's value goes from hand to hand: whoever takes it out owns it until he puts it back.
TEST_P(map_stress_test, what_is_taken_out_is_ones_own) {
  run([] {
    constexpr int keys = 40;
    map<int, std::unique_ptr<std::int64_t>> owners;
    for (int key = 0; key < keys; ++key) owners.store(key, std::make_unique<std::int64_t>(0));
    std::atomic<std::int64_t> added = 0;
    wait_group fibers;
    for (int f = 0; f < 8; ++f) {
      fibers.go([&, f] {
        detail::random_source random{static_cast<std::uint64_t>(f + 1)};
        for (int i = 0; i < 2'000 * scale; ++i) {
          const int key = static_cast<int>(random.below(keys));
          auto taken = owners.load_and_delete(key);
          if (!taken) continue;
          ++**taken;
          ++added;
          EXPECT_FALSE(owners.swap(key, std::move(*taken)));
        }
      });
    }
    fibers.wait();
    std::int64_t sum = 0;
    for (int key = 0; key < keys; ++key) sum += **owners.load_and_delete(key);
    EXPECT_EQ(sum, added);
  });
}

// Strings, so that a torn value is seen; tables grow and shrink all the time.
TEST_P(map_stress_test, values_are_whole_while_tables_grow_and_shrink) {
  run([] {
    map<std::string, std::string> texts;
    wait_group fibers;
    for (int f = 0; f < 6; ++f) {
      fibers.go([&, f] {
        detail::random_source random{static_cast<std::uint64_t>(f + 1)};
        for (int i = 0; i < 1'000 * scale; ++i) {
          const std::string key =
              "a key that is too long for a small string " + std::to_string(random.below(3'000));
          switch (random.below(f < 2 ? 2 : 4)) {
            case 0:
              texts.store(key, key);
              break;
            case 1:
              texts.erase(key);
              break;
            case 2:
              EXPECT_EQ(texts.load(key).value_or(key), key);
              break;
            default:
              if (i % 100 == 0) {
                texts.range([](const std::string& k, const std::string& v) { EXPECT_EQ(k, v); });
              }
              if (i % 500 == 0) texts.clear();
              break;
          }
        }
      });
    }
    fibers.wait();
    texts.range([](const std::string& k, const std::string& v) { EXPECT_EQ(k, v); });
  });
}

TEST_P(map_stress_test, a_queue_moves_each_value_once_while_waits_are_cancelled) {
  run([] {
    for (const std::size_t capacity : {std::size_t{3}, queue<std::int64_t>::unbounded}) {
      queue<std::unique_ptr<std::int64_t>> numbers{capacity};
      std::atomic<std::int64_t> pushed = 0;
      std::atomic<std::int64_t> popped = 0;
      wait_group making;
      wait_group taking;
      for (int f = 0; f < 4; ++f) {
        making.go([&, f] {
          detail::random_source random{static_cast<std::uint64_t>(f + 1)};
          for (int i = 0; i < 300 * scale; ++i) {
            auto mine = std::make_unique<std::int64_t>(i);
            if (random.below(4) != 0) {
              EXPECT_TRUE(numbers.push(std::move(mine)));
              pushed += i;
              continue;
            }
            auto [ctx, cancel] = with_cancel(context::background());
            go([stop = std::move(cancel)] { stop(); });
            if (numbers.push(ctx, std::move(mine))) pushed += i;
          }
        });
        taking.go([&] {
          for (int i = 0;; ++i) {
            if (i % 4 == 0) {
              auto [ctx, cancel] = with_cancel(context::background());
              go([stop = std::move(cancel)] { stop(); });
              const auto number = numbers.pop(ctx);
              if (number) popped += **number;
              continue;
            }
            const auto number = numbers.pop();
            if (!number) break;
            popped += **number;
          }
        });
      }
      making.wait();
      numbers.close();
      taking.wait();
      EXPECT_EQ(popped, pushed);
    }
  });
}

TEST_P(map_stress_test, calls_of_one_key_are_one_at_a_time) {
  run([] {
    singleflight<int, int> flights;
    std::atomic<int> calls[3] = {};
    std::atomic<int> running[3] = {};
    wait_group fibers;
    for (int f = 0; f < 8; ++f) {
      fibers.go([&, f] {
        for (int i = 0; i < 200 * scale; ++i) {
          const int key = (f + i) % 3;
          const auto function = [&, key] {
            EXPECT_EQ(++running[key], 1);
            const int call = ++calls[key];
            if (i % 3 == 0) yield();
            --running[key];
            return call;
          };
          // Nobody leaves, and so no call begins before the last one's end.
          const auto value = i % 2 == 0 ? flights.call(key, function)
                                        : flights.call(context::background(), key, function);
          ASSERT_TRUE(value);
          EXPECT_GE(**value, 1);
        }
      });
    }
    fibers.wait();
  });
}

}  // namespace
}  // namespace exeunt
