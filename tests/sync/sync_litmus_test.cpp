// SPDX-License-Identifier: Apache-2.0
// Message passing by what is no lock: what is written before a call comes before what is read after
// the one that has waited for it, or has found it, on real machines, too. The data is plain. No
// more is promised of these, so of the other small programs (see values_litmus_test.cpp) there is
// none.

#include <exeunt/sync/condition_variable.hpp>
#include <exeunt/sync/map.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/once.hpp>
#include <exeunt/sync/pool.hpp>
#include <exeunt/sync/queue.hpp>
#include <exeunt/sync/semaphore.hpp>
#include <exeunt/sync/singleflight.hpp>
#include <exeunt/sync/wait_group.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>

#include <gtest/gtest.h>

#include "support/litmus.hpp"

namespace exeunt {
namespace {

using test::litmus;

// Goal: a condition's waiter finds what was written before the flag that it waits for.
litmus condition_message_passing() {
  struct state {
    int data = 0;
    mutex lock;
    condition_variable changed;
    bool flag = false;
  };
  const auto s = std::make_shared<state>();
  return {{[s] {
             s->data = 1;
             const std::lock_guard guard{s->lock};
             s->flag = true;
             s->changed.notify_one();
           },
           [s] {
             {
               std::unique_lock guard{s->lock};
               s->changed.wait(guard, [&] { return s->flag; });
             }
             EXPECT_EQ(s->data, 1);
           }},
          [s] {
            s->data = 0;
            s->flag = false;
          }};
}
EXEUNT_LITMUS_TEST(sync_litmus, condition_message_passing, condition_message_passing, 4)

// Goal: of two that are done with their part and then wait for the other's, each finds it. (This is
//       message passing both ways; as store buffering it cannot end otherwise.)
litmus wait_group_both_ways() {
  struct state {
    int x = 0;
    int y = 0;
    wait_group x_is_written;
    wait_group y_is_written;
    state() { reset(); }
    void reset() {
      x = y = 0;
      x_is_written.add();
      y_is_written.add();
    }
    ~state() {
      x_is_written.done();
      y_is_written.done();
    }
  };
  const auto s = std::make_shared<state>();
  return {{[s] {
             s->x = 1;
             s->x_is_written.done();
             s->y_is_written.wait();
             EXPECT_EQ(s->y, 1);
           },
           [s] {
             s->y = 1;
             s->y_is_written.done();
             s->x_is_written.wait();
             EXPECT_EQ(s->x, 1);
           }},
          [s] { s->reset(); }};
}
EXEUNT_LITMUS_TEST(sync_litmus, wait_group_both_ways, wait_group_both_ways, 4)

// Goal: each that acquires finds what was written before the release.
litmus semaphore_message_passing() {
  struct state {
    int data = 0;
    semaphore units{1};
    bool taken = true;
    state() { units.acquire(); }
  };
  const auto s = std::make_shared<state>();
  return {{[s] { s->data = 1, s->units.release(); },
           [s] {
             s->taken = s->units.try_acquire();
             if (s->taken) {
               EXPECT_EQ(s->data, 1);
             }
           }},
          [s] {
            if (!s->taken) s->units.acquire();
            s->data = 0;
          }};
}
EXEUNT_LITMUS_TEST(sync_litmus, semaphore_message_passing, semaphore_message_passing, 4)

// Goal: whoever has called finds what the one call of the function has written.
litmus once_message_passing() {
  struct state {
    int data = 0;
    std::optional<once> o{std::in_place};
  };
  const auto s = std::make_shared<state>();
  const auto call = [s] {
    s->o->call([s] { ++s->data; });
    EXPECT_EQ(s->data, 1);
  };
  return {{call, call,
           [s] {
             if (s->o->done()) {
               EXPECT_EQ(s->data, 1);
             }
           }},
          [s] {
            s->data = 0;
            s->o.emplace();
          }};
}
EXEUNT_LITMUS_TEST(sync_litmus, once_message_passing, once_message_passing, 3)

// Goal: who pops a value, or finds that the queue is closed, finds what was written before.
// Method: one that waits takes the value, and one that looks.
litmus queue_message_passing() {
  struct state {
    int data = 0;
    int last = 0;
    std::optional<queue<int>> numbers{std::in_place};
  };
  const auto s = std::make_shared<state>();
  return {{[s] {
             s->data = 1;
             EXPECT_TRUE(s->numbers->push(1));
             s->last = 1;
             s->numbers->close();
           },
           [s] {
             if (s->numbers->pop()) {
               EXPECT_EQ(s->data, 1);
             } else {
               EXPECT_EQ(s->last, 1);
             }
           },
           [s] {
             if (s->numbers->try_pop()) {
               EXPECT_EQ(s->data, 1);
             }
           }},
          [s] {
            s->data = s->last = 0;
            s->numbers.emplace();
          }};
}
EXEUNT_LITMUS_TEST(sync_litmus, queue_message_passing, queue_message_passing, 3)

// Goal: who finds a key as it was made, or gone, finds what was written before that.
litmus map_message_passing() {
  static constexpr int key = 1;
  static constexpr int old = 2;
  struct state {
    int data = 0;
    int last = 0;
    map<int, int> entries;
    state() { entries.store(old, 0); }
  };
  const auto s = std::make_shared<state>();
  return {{[s] {
             s->data = 1;
             s->entries.store(key, 1);
             s->last = 1;
             s->entries.erase(old);
           },
           [s] {
             if (!s->entries.load(old)) {
               EXPECT_EQ(s->last, 1);
             }
             if (s->entries.load(key) == 1) {
               EXPECT_EQ(s->data, 1);
             }
           },
           [s] {
             if (s->entries.load_or_store(key, 2).loaded) {
               EXPECT_EQ(s->data, 1);
             }
           }},
          [s] {
            s->data = s->last = 0;
            s->entries.erase(key);
            s->entries.store(old, 0);
          }};
}
EXEUNT_LITMUS_TEST(sync_litmus, map_message_passing, map_message_passing, 3)

// Goal:   who gets an object finds what was written before it was given back.
// Method: what a worker keeps to itself is stolen, and what is common is taken.
template <std::uint32_t PerWorker>
litmus pool_message_passing() {
  struct state {
    int data = 0;
    pool<int> numbers{{.limits = {.per_worker = PerWorker}}};
    pooled<int> first = numbers.get();
    pooled<int> second;
  };
  const auto s = std::make_shared<state>();
  return {{[s] {
             s->data = 1;
             *s->first = 1;
             s->first.reset();
           },
           [s] {
             s->second = s->numbers.get();
             if (*s->second == 1) {
               EXPECT_EQ(s->data, 1);
             }
           }},
          [s] {
            s->data = 0;
            s->second.reset();
            s->numbers.trim();
            s->first = s->numbers.get();
          }};
}
EXEUNT_LITMUS_TEST(sync_litmus, pool_message_passing, pool_message_passing<0>, 4)
EXEUNT_LITMUS_TEST(sync_litmus, pool_message_passing_by_theft, pool_message_passing<1>, 4)

// Goal: whoever gets what a function returned finds what it has written.
litmus singleflight_message_passing() {
  static constexpr std::size_t callers = 3;
  struct state {
    singleflight<int, std::size_t> flights;
    std::atomic<std::size_t> begun{0};
    std::array<int, callers> data{};  // Of each call of a function: nothing orders two of them.
  };
  const auto s = std::make_shared<state>();
  const auto call = [s] {
    const auto got = s->flights.call(1, [s] {
      const std::size_t mine = s->begun.fetch_add(1, std::memory_order_relaxed);
      s->data[mine] = 1;
      return mine;
    });
    EXPECT_EQ(s->data[**got], 1);
  };
  return {{call, call, call}, [s] {
            s->begun = 0;
            s->data = {};
          }};
}
EXEUNT_LITMUS_TEST(sync_litmus, singleflight_message_passing, singleflight_message_passing, 2)

// Goal: a member of a group finds what was written before it began, and who waits, what it wrote.
void wait_group_starts() {
  test::start_and_end([](auto f) {
    auto group = std::make_shared<wait_group>();
    group->go(f);
    return [group] { group->wait(); };
  });
}
EXEUNT_START_LITMUS_TEST(sync_litmus, wait_group_starts, wait_group_starts)

}  // namespace
}  // namespace exeunt
