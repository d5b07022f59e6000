// SPDX-License-Identifier: Apache-2.0
// Goal:   no value is destroyed while somebody holds it, and each is in the end; orders hold.
// Method: values that check themselves, fibers that move between threads while they hold some, and
//         plain threads beside them. The classic small programs are in values_litmus_test.cpp.

#include <exeunt/sync/atomic_value.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <exeunt/base/random.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/counted.hpp"
#include "support/hand_over.hpp"
#include "support/on_workers.hpp"

namespace exeunt {
namespace {

using test::counted;

#if defined(EXEUNT_TSAN) || defined(EXEUNT_ASAN)
constexpr int scale = 1;
#else
constexpr int scale = 4;
#endif

void look_at(const atomic_value<counted>::snapshot& held) { EXPECT_GE(held->number(), 0); }

class atomic_value_stress_test : public test::on_workers {};
EXEUNT_ON_WORKERS(atomic_value_stress_test);

// Numbers only grow, for readers as for the writers, and for each value apart.
TEST_P(atomic_value_stress_test, nothing_is_destroyed_early_or_never) {
  counted::alive = 0;
  std::atomic<int> most{0};
  run([&] {
    using snapshot = atomic_value<counted>::snapshot;
    constexpr int readers = 8;
    constexpr std::size_t held_max = 4;
    constexpr int values = 2;
    atomic_value<counted> all[values];
    for (auto& one : all) one.store(counted{0});
    std::atomic<int> handed{0};
    test::hand_over<snapshot> hands;
    std::atomic<bool> over{false};

    const auto read = [&](std::uint64_t seed, int rounds) {
      detail::random_source random{seed};
      int last[values] = {};
      std::vector<snapshot> held(held_max);
      for (int i = 0; i < rounds; ++i) {
        const std::size_t which = random.below(values);
        snapshot seen = all[which].load();
        EXPECT_GE(seen->number(), last[which]);
        last[which] = seen->number();
        const int live = counted::alive.load(std::memory_order_relaxed);
        for (int old = most; live > old && !most.compare_exchange_weak(old, live);) {
        }
        switch (random.below(8)) {
          case 0:
            yield();
            break;
          case 1: {
            snapshot& place = held[random.below(held_max)];
            if (place) look_at(place);
            place = std::move(seen);
            break;
          }
          case 2:
            if (handed.fetch_add(1) < 4) {
              hands.give(std::move(seen));
            } else {
              --handed;
            }
            break;
          case 3:
            if (const auto given = hands.try_take()) {
              --handed;
              look_at(*given);
            }
            break;
          default:
            break;
        }
        if (seen) look_at(seen);
      }
    };

    wait_group group;
    for (std::uint64_t r = 1; r <= readers; ++r) {
      group.go([&, r] { read(r, 1000 * scale); });
    }
    std::thread reader{[&] { read(99, 1000 * scale); }};
    wait_group writers;
    writers.go([&] {
      for (int i = 1; !over.load(); ++i) {
        all[0].store(counted{i});
        yield();
      }
    });
    std::thread writer{[&] {
      while (!over.load()) all[1].update([](counted& c) { c = counted{c.number() + 1}; });
    }};
    group.wait();
    reader.join();
    over = true;
    writers.wait();
    writer.join();
    while (hands.try_take()) {
    }
    EXPECT_EQ(counted::alive, values);
    // What readers hold (each some places and one in hand), what is handed over, what is being
    // stored (a value, its copies, the one it replaces), and one by each of the eleven who are in a
    // call.
    EXPECT_LE(most, values + (readers + 1) * (static_cast<int>(held_max) + 2) + 2 * 4 + 2 * 4 + 11);
  });
  EXPECT_EQ(counted::alive, 0);
}

// AV-05 in its short size: each number that was stored comes out once, by an exchange or at last.
TEST_P(atomic_value_stress_test, av_05_a_million_exchanges_lose_nothing) {
  run([] {
    constexpr std::int64_t fibers = 250 * scale;
    constexpr std::int64_t rounds = scale > 1 ? 1000 : 100;
    atomic_value<std::int64_t> number;
    std::vector<std::int64_t> returned(fibers);
    wait_group group;
    for (std::int64_t f = 0; f < fibers; ++f) {
      group.go([&number, &sum = returned[static_cast<std::size_t>(f)], f] {
        for (std::int64_t i = 0; i < rounds; ++i) {
          if (const auto old = number.exchange(f * rounds + i)) sum += *old;
        }
      });
    }
    group.wait();
    std::int64_t sum = *number.load();
    for (const std::int64_t part : returned) sum += part;
    constexpr std::int64_t count = fibers * rounds;
    EXPECT_EQ(sum, count * (count - 1) / 2);
  });
}

// AV-08: two take turns to publish two plain fields, and check each other's.
TEST_P(atomic_value_stress_test, av_08_publishes_plain_fields) {
  run([] {
    struct fields {
      std::int64_t one;
      alignas(64) std::int64_t two;
    };
    const int rounds = 200 * scale;
    atomic_value<int> turn{0};
    fields shared{};
    wait_group both;
    for (int me = 0; me < 2; ++me) {
      both.go([&, me] {
        for (int i = me; i < rounds; i += 2) {
          while (*turn.load() != i) yield();
          EXPECT_EQ(shared.one, i);
          EXPECT_EQ(shared.two, -i);
          shared.one = i + 1;
          shared.two = -i - 1;
          turn.store(i + 1);
        }
      });
    }
    both.wait();
  });
}

}  // namespace
}  // namespace exeunt
