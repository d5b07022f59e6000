// SPDX-License-Identifier: Apache-2.0
// Goal:   no wake-up of the pure forms and the readers-writer locks is lost, doubled or given to
// the
//         wrong one when everything races.
// Method: sums; a lost wake-up hangs. Under ThreadSanitizer the plain counters show missing edges.

#include <chrono>
#include <cstdint>
#include <mutex>
#include <thread>

#include <gtest/gtest.h>

#include <exeunt/base/race.hpp>
#include <exeunt/base/random.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sync/basic_mutex.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/read_mostly_mutex.hpp>
#include <exeunt/sync/shared_mutex.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/on_workers.hpp"

namespace exeunt {
namespace {

#ifdef EXEUNT_HAS_TSAN
constexpr int scale = 1;
#else
constexpr int scale = 10;
#endif

class locks_stress_test : public test::on_workers {};

std::chrono::microseconds short_while(detail::random_source& random) {
  return std::chrono::microseconds{random.below(50)};
}

template <typename Mutex>
bool lock_somehow(Mutex& m, detail::random_source& random) {
  switch (random.below(8)) {
    case 0:
      return m.try_lock();
    case 1:
      return m.try_lock_for(short_while(random));
    case 2:
      return m.lock(with_timeout(context::background(), short_while(random))).has_value();
    default:
      m.lock();
      return true;
  }
}

template <typename Mutex>
bool lock_shared_somehow(Mutex& m, detail::random_source& random) {
  switch (random.below(8)) {
    case 0:
      return m.try_lock_shared();
    case 1:
      return m.try_lock_shared_for(short_while(random));
    case 2:
      return m.lock_shared(with_timeout(context::background(), short_while(random))).has_value();
    default:
      m.lock_shared();
      return true;
  }
}

// Runs `hammer(seed)`, which returns how often it has written, in 12 fibers and a thread.
template <typename F>
std::int64_t hammered(F hammer) {
  std::int64_t sum = 0;
  mutex sum_lock;
  const auto add = [&](std::uint64_t seed) {
    const std::int64_t mine = hammer(seed);
    const std::lock_guard guard{sum_lock};
    sum += mine;
  };
  wait_group fibers;
  for (std::uint64_t f = 1; f <= 12; ++f) {
    fibers.go([&, f] { add(f); });
  }
  std::thread thread{[&] { add(99); }};
  fibers.wait();
  thread.join();
  return sum;
}

template <typename Policy>
void hammer_form() {
  basic_mutex<Policy> m;
  std::int64_t counter = 0;
  const std::int64_t expected = hammered([&](std::uint64_t seed) {
    detail::random_source random{seed};
    std::int64_t locked = 0;
    for (int i = 0; i < 150 * scale; ++i) {
      if (!lock_somehow(m, random)) continue;
      ++counter;
      ++locked;
      if (random.below(32) == 0) yield();
      m.unlock();
    }
    return locked;
  });
  EXPECT_EQ(counter, expected);
  EXPECT_TRUE(m.try_lock());
}

TEST_P(locks_stress_test, barging_with_every_way_to_lock_it) {
  run([] { hammer_form<barging>(); });
}
TEST_P(locks_stress_test, handoff_with_every_way_to_lock_it) {
  run([] { hammer_form<handoff>(); });
}
TEST_P(locks_stress_test, spinning_with_every_way_to_lock_it) {
  run([] { hammer_form<spinning>(); });
}

template <typename Mutex>
void hammer_readers_and_writers() {
  for (const std::uint32_t one_writes_of : {2U, 10U, 100U}) {
    Mutex m;
    std::int64_t pair[2] = {};
    const std::int64_t expected = hammered([&](std::uint64_t seed) {
      detail::random_source random{seed};
      std::int64_t written = 0;
      for (int i = 0; i < 150 * scale; ++i) {
        if (random.below(one_writes_of) == 0) {
          if (!lock_somehow(m, random)) continue;
          ++pair[0];
          if (random.below(16) == 0) yield();
          ++pair[1];
          ++written;
          m.unlock();
        } else {
          if (!lock_shared_somehow(m, random)) continue;
          const std::int64_t seen = pair[0];
          if (random.below(16) == 0) yield();
          EXPECT_EQ(pair[1], seen);
          m.unlock_shared();
        }
      }
      return written;
    });
    EXPECT_EQ(pair[0], expected);
    EXPECT_TRUE(m.try_lock());
  }
}

TEST_P(locks_stress_test, shared_mutex_with_every_way_to_lock_it) {
  run([] { hammer_readers_and_writers<shared_mutex>(); });
}
TEST_P(locks_stress_test, read_mostly_mutex_with_every_way_to_lock_it) {
  run([] { hammer_readers_and_writers<read_mostly_mutex>(); });
}

EXEUNT_ON_WORKERS(locks_stress_test);

}  // namespace
}  // namespace exeunt
