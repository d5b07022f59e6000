// SPDX-License-Identifier: Apache-2.0
// The classic small programs that tell memory models apart, by what guards a number or holds one:
// two such numbers have the outcomes of a machine that takes one step at a time. What is under a
// lock is plain.
//
// The locks: each pair of sections of one lock of which one writes is ordered. The map: so is each
// pair of changes of one key; a load and the store after it are not, so what reads is a change,
// too.

#include <exeunt/sync/atomic_value.hpp>
#include <exeunt/sync/basic_mutex.hpp>
#include <exeunt/sync/map.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/read_mostly_mutex.hpp>
#include <exeunt/sync/semaphore.hpp>
#include <exeunt/sync/shared_mutex.hpp>

#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <type_traits>

#include <gtest/gtest.h>

#include "support/litmus.hpp"

namespace exeunt {
namespace {

using test::litmus;

template <typename Mutex, template <typename> typename ReadGuard = std::lock_guard>
class locked {
 public:
  void write(int value) {
    const std::lock_guard guard{lock_};
    value_ = value;
  }
  int read() {
    const ReadGuard<Mutex> guard{lock_};
    return value_;
  }

 private:
  Mutex lock_;
  int value_ = 0;
};

template <typename Mutex>
using read_shared = locked<Mutex, std::shared_lock>;

// A semaphore of one unit as a lock.
struct unit {
  void lock() { one.acquire(); }
  void unlock() { one.release(); }
  semaphore one{1};
};

class stored {
 public:
  void write(int next) { value_.store(next); }
  int read() { return *value_.load(); }

 private:
  atomic_value<int> value_{0};
};

class entry {
 public:
  void write(int value) { entries_.store(key, value); }
  int read() { return entries_.compare_and_swap(key, 0, 0) ? 0 : 1; }

 private:
  static constexpr int key = 1;
  map<int, int> entries_;
};

template <typename Cell>
class values_litmus : public ::testing::Test {};

// Not in core_model: what one schedule leaves of the slots of snapshots is steps of the next. Its
// steps are explored by model/snapshot_steps_test.cpp.
using cells =
    ::testing::Types<locked<mutex>, locked<basic_mutex<barging>>, locked<basic_mutex<handoff>>,
                     locked<basic_mutex<spinning>>, locked<unit>, read_shared<shared_mutex>,
                     read_shared<read_mostly_mutex>, entry
#ifndef EXEUNT_CORE_MODEL
                     ,
                     stored
#endif
                     >;

struct names {
  template <typename>
  static std::string GetName(int at) {
    static constexpr const char* all[] = {
        "mutex",        "barging",           "handoff", "spinning",    "semaphore",
        "shared_mutex", "read_mostly_mutex", "map",     "atomic_value"};
    return all[at];
  }
};
TYPED_TEST_SUITE(values_litmus, cells, names);

template <typename Cell>
struct two {
  Cell x;
  Cell y;
  int seen[4] = {};
  two() { reset(); }
  void reset() {
    x.write(0);
    y.write(0);
  }
};

// AV-09. Goal: of two that each write and then read what the other writes, one finds it.
template <typename Cell>
litmus store_buffering() {
  const auto s = std::make_shared<two<Cell>>();
  return {{[s] { s->x.write(1), s->seen[0] = s->y.read(); },
           [s] { s->y.write(1), s->seen[1] = s->x.read(); }},
          [s] {
            EXPECT_TRUE(s->seen[0] == 1 || s->seen[1] == 1);
            s->reset();
          }};
}
EXEUNT_TYPED_LITMUS_TEST(values_litmus, store_buffering, store_buffering, 3,
                         test::litmus_rounds / 4)

// Goal: not both of two that each read and then write for the other have read what was written.
template <typename Cell>
litmus load_buffering() {
  const auto s = std::make_shared<two<Cell>>();
  return {{[s] { s->seen[0] = s->x.read(), s->y.write(1); },
           [s] { s->seen[1] = s->y.read(), s->x.write(1); }},
          [s] {
            EXPECT_FALSE(s->seen[0] == 1 && s->seen[1] == 1);
            s->reset();
          }};
}
EXEUNT_TYPED_LITMUS_TEST(values_litmus, load_buffering, load_buffering, 3, test::litmus_rounds / 4)

// Goal: who finds the flag finds what was written before it.
template <typename Cell>
litmus message_passing() {
  struct state {
    int data = 0;
    Cell flag;
    state() { flag.write(0); }
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
EXEUNT_TYPED_LITMUS_TEST(values_litmus, message_passing, message_passing, 4,
                         test::litmus_rounds / 4)

// With four parties, for each of which a writer of read_mostly_mutex has many steps.
template <typename Cell>
constexpr unsigned few =
    test::many_steps && std::is_same_v<Cell, read_shared<read_mostly_mutex>> ? 0 : 1;

// Goal: two that look at two independent writes do not see them in opposite orders.
template <typename Cell>
litmus independent_reads_of_independent_writes() {
  const auto s = std::make_shared<two<Cell>>();
  return {{[s] { s->x.write(1); }, [s] { s->y.write(1); },
           [s] { s->seen[0] = s->x.read(), s->seen[1] = s->y.read(); },
           [s] { s->seen[2] = s->y.read(), s->seen[3] = s->x.read(); }},
          [s] {
            EXPECT_FALSE(s->seen[0] == 1 && s->seen[1] == 0 && s->seen[2] == 1 && s->seen[3] == 0);
            s->reset();
          }};
}
EXEUNT_TYPED_LITMUS_TEST(values_litmus, independent_reads_of_independent_writes,
                         independent_reads_of_independent_writes, few<TypeParam>,
                         test::litmus_rounds / 20)

}  // namespace
}  // namespace exeunt
