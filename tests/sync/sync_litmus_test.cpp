// SPDX-License-Identifier: Apache-2.0
// The classic small programs that tell memory models apart, by locks, groups and their kin: what is
// written before one comes before what is read after it, on real machines, too. The data is plain.
//
// On data under locks all four programs have the outcomes of a machine that takes one step at a
// time. Of the others only what a call that has waited may know is promised.

#include <exeunt/sync/condition_variable.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/once.hpp>
#include <exeunt/sync/semaphore.hpp>
#include <exeunt/sync/wait_group.hpp>

#include <memory>
#include <mutex>
#include <optional>

#include <gtest/gtest.h>

#include "support/litmus.hpp"

namespace exeunt {
namespace {

using test::litmus;

// A plain number under a lock of its own.
class cell {
 public:
  void write(int value) {
    const std::lock_guard guard{lock_};
    value_ = value;
  }
  int read() {
    const std::lock_guard guard{lock_};
    return value_;
  }

 private:
  mutex lock_;
  int value_ = 0;
};

struct two_cells {
  cell x;
  cell y;
  int first = 0;
  int second = 0;
  void reset() {
    x.write(0);
    y.write(0);
  }
};

// Goal: of two that each write and then read what the other writes, one finds it.
litmus mutex_store_buffering() {
  const auto s = std::make_shared<two_cells>();
  return {{[s] { s->x.write(1), s->first = s->y.read(); },
           [s] { s->y.write(1), s->second = s->x.read(); }},
          [s] {
            EXPECT_TRUE(s->first == 1 || s->second == 1);
            s->reset();
          }};
}
EXEUNT_LITMUS_TEST(sync_litmus, mutex_store_buffering, mutex_store_buffering, 3)

// Goal: not both of two that each read and then write for the other have read what was written.
litmus mutex_load_buffering() {
  const auto s = std::make_shared<two_cells>();
  return {{[s] { s->first = s->x.read(), s->y.write(1); },
           [s] { s->second = s->y.read(), s->x.write(1); }},
          [s] {
            EXPECT_FALSE(s->first == 1 && s->second == 1);
            s->reset();
          }};
}
EXEUNT_LITMUS_TEST(sync_litmus, mutex_load_buffering, mutex_load_buffering, 3)

// Goal: who finds the flag finds what was written before it.
litmus mutex_message_passing() {
  struct state {
    int data = 0;
    cell flag;
  };
  const auto s = std::make_shared<state>();
  return {{[s] { s->data = 1, s->flag.write(1); },
           [s] {
             if (s->flag.read() == 1) {
               EXPECT_EQ(s->data, 1);
             }
           }},
          [s] {
            s->data = 0;
            s->flag.write(0);
          }};
}
EXEUNT_LITMUS_TEST(sync_litmus, mutex_message_passing, mutex_message_passing, 4)

// Goal: two that look at two independent writes do not see them in opposite orders.
litmus mutex_independent_reads_of_independent_writes() {
  struct state : two_cells {
    int seen[4] = {};
  };
  const auto s = std::make_shared<state>();
  return {{[s] { s->x.write(1); }, [s] { s->y.write(1); },
           [s] { s->seen[0] = s->x.read(), s->seen[1] = s->y.read(); },
           [s] { s->seen[2] = s->y.read(), s->seen[3] = s->x.read(); }},
          [s] {
            EXPECT_FALSE(s->seen[0] == 1 && s->seen[1] == 0 && s->seen[2] == 1 && s->seen[3] == 0);
            s->reset();
          }};
}
EXEUNT_LITMUS_TEST(sync_litmus, mutex_independent_reads_of_independent_writes,
                   mutex_independent_reads_of_independent_writes, 1)

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

}  // namespace
}  // namespace exeunt
