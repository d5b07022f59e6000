// SPDX-License-Identifier: Apache-2.0
// shared_mutex, and read_mostly_mutex, which promises the same.

#include <exeunt/sync/shared_mutex.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <map>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sim/gtest.hpp>
#include <exeunt/sync/read_mostly_mutex.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/explored.hpp"
#include "support/lock_reports.hpp"
#include "support/until_parked.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using detail::wait_reason;

// SY-29, for the readers-writer locks.
static_assert(!std::is_copy_constructible_v<shared_mutex>);
static_assert(!std::is_move_constructible_v<shared_mutex>);
static_assert(!std::is_copy_constructible_v<read_mostly_mutex>);
static_assert(!std::is_move_constructible_v<read_mostly_mutex>);
static_assert(sizeof(shared_mutex) <= 24);
constinit shared_mutex global_shared;
constinit read_mostly_mutex global_read_mostly;

template <typename M>
struct kind {
  using type = M;
};

// Calls `f` with kind<M> of each lock.
template <typename F>
void each_lock(F f) {
  f(kind<shared_mutex>{});
  f(kind<read_mostly_mutex>{});
}

void until_waiting(std::size_t count) { test::until_parked(count, wait_reason::shared_mutex); }

class shared_mutex_test : public test::explored {};

// SY-09.
TEST_P(shared_mutex_test, sy_09_the_try_forms) {
  run([] {
    each_lock([]<typename M>(kind<M>) {
      M m;
      m.lock();
      EXPECT_FALSE(m.try_lock());
      EXPECT_FALSE(m.try_lock_shared());
      m.unlock();
      EXPECT_TRUE(m.try_lock());
      m.unlock();
      EXPECT_TRUE(m.try_lock_shared());
      EXPECT_TRUE(m.try_lock_shared());
      EXPECT_FALSE(m.try_lock());
      m.unlock_shared();
      EXPECT_FALSE(m.try_lock());
      m.unlock_shared();
      EXPECT_TRUE(m.try_lock());
      m.unlock();
    });
  });
}

// SY-07.
TEST_P(shared_mutex_test, sy_07_readers_are_in_at_the_same_time) {
  run([] {
    each_lock([]<typename M>(kind<M>) {
      for (const int readers : {1, 3, 4}) {
        M m;
        wait_group inside;
        wait_group release;
        wait_group left;
        inside.add(readers);
        release.add();
        for (int r = 0; r < readers; ++r) {
          left.go([&] {
            const std::shared_lock held{m};
            inside.done();
            release.wait();
          });
        }
        inside.wait();
        release.done();
        left.wait();
        EXPECT_TRUE(m.try_lock());
        m.unlock();
      }
    });
  });
}

// SY-08: a reader counts 1, a writer 10 000.
TEST_P(shared_mutex_test, sy_08_hammer) {
  const int rounds = is_simulated() ? 5 : 300;
  run([rounds] {
    each_lock([rounds]<typename M>(kind<M>) {
      for (const int readers : {1, 3, 5, 10}) {
        M m;
        std::atomic<int> activity{0};
        int written = 0;  // Plain: a missing edge is a race under ThreadSanitizer.
        const auto stay = [](int round) {
          if (round % 16 == 0) yield();
        };
        const auto read = [&] {
          for (int i = 0; i < rounds; ++i) {
            const std::shared_lock held{m};
            const int seen = activity += 1;
            EXPECT_TRUE(seen >= 1 && seen < 10'000) << seen;
            EXPECT_GE(written, 0);
            stay(i);
            activity -= 1;
          }
        };
        const auto write = [&] {
          for (int i = 0; i < rounds; ++i) {
            const std::lock_guard held{m};
            const int seen = activity += 10'000;
            EXPECT_EQ(seen, 10'000);
            ++written;
            stay(i);
            activity -= 10'000;
          }
        };
        wait_group all;
        all.go(write);
        for (int r = 0; r < readers / 2; ++r) all.go(read);
        all.go(write);
        for (int r = readers / 2; r < readers; ++r) all.go(read);
        all.wait();
        EXPECT_EQ(written, 2 * rounds);
        EXPECT_TRUE(m.try_lock());
        m.unlock();
      }
    });
  });
}

TEST_P(shared_mutex_test, a_waiting_writer_holds_new_readers_back) {
  run([] {
    each_lock([]<typename M>(kind<M>) {
      M m;
      std::vector<std::string> order;
      wait_group fibers;
      m.lock_shared();
      fibers.go([&] {
        const std::lock_guard held{m};
        order.emplace_back("writer");
      });
      until_waiting(1);
      EXPECT_FALSE(m.try_lock_shared());
      fibers.go([&] {
        const std::shared_lock held{m};
        EXPECT_EQ(order.size(), 1U);
      });
      until_waiting(2);
      m.unlock_shared();
      fibers.wait();
      EXPECT_EQ(order.size(), 1U);
    });
  });
}

// Two writers and three readers that all came while a writer was in.
TEST_P(shared_mutex_test, readers_that_waited_go_before_the_next_writer) {
  run([] {
    each_lock([]<typename M>(kind<M>) {
      M m;
      std::atomic<int> readers_done{0};
      std::vector<int> writers;
      wait_group fibers;
      m.lock();
      for (int w = 0; w < 2; ++w) {
        fibers.go([&, w] {
          const std::lock_guard held{m};
          EXPECT_EQ(readers_done, 3);
          writers.push_back(w);
        });
        until_waiting(static_cast<std::size_t>(w) + 1);
      }
      for (std::size_t r = 0; r < 3; ++r) {
        fibers.go([&] {
          const std::shared_lock held{m};
          EXPECT_TRUE(writers.empty());
          ++readers_done;
        });
        until_waiting(r + 3);
      }
      m.unlock();
      fibers.wait();
      EXPECT_EQ(writers, (std::vector{0, 1}));
    });
  });
}

// A writer that gives up lets those go on whom it held back, while a reader is still in.
TEST_P(shared_mutex_test, a_writer_that_gives_up_frees_the_readers_behind_it) {
  run([] {
    each_lock([]<typename M>(kind<M>) {
      M m;
      auto [ctx, cancel] = with_cancel(context::background());
      wait_group writer;
      wait_group readers;
      m.lock_shared();
      writer.go([&, &end = ctx] {
        const result<> locked = m.lock(end);
        ASSERT_FALSE(locked);
        EXPECT_TRUE(locked.error().is(errc::canceled));
      });
      until_waiting(1);
      for (std::size_t r = 0; r < 2; ++r) {
        readers.go([&] { const std::shared_lock held{m}; });
        until_waiting(r + 2);
      }
      cancel();
      readers.wait();
      writer.wait();
      EXPECT_TRUE(m.try_lock_shared());
      m.unlock_shared();
      EXPECT_FALSE(m.try_lock());
      m.unlock_shared();
      EXPECT_TRUE(m.try_lock());
      m.unlock();
    });
  });
}

// One of two writers gives up: the readers still wait for the other.
TEST_P(shared_mutex_test, a_writer_that_gives_up_leaves_the_queue_sound) {
  run([] {
    each_lock([]<typename M>(kind<M>) {
      for (std::size_t canceled = 0; canceled < 2; ++canceled) {
        M m;
        auto [ctx, cancel] = with_cancel(context::background());
        bool written = false;
        wait_group loser;
        wait_group others;
        m.lock_shared();
        for (std::size_t w = 0; w < 2; ++w) {
          if (w == canceled) {
            loser.go([&, &end = ctx] { EXPECT_FALSE(m.lock(end)); });
          } else {
            others.go([&] {
              const std::lock_guard held{m};
              written = true;
            });
          }
          until_waiting(w + 1);
        }
        others.go([&] {
          const std::shared_lock held{m};
          EXPECT_TRUE(written);
        });
        until_waiting(3);
        cancel();
        loser.wait();
        until_waiting(2);
        EXPECT_FALSE(m.try_lock_shared());
        m.unlock_shared();
        others.wait();
        EXPECT_TRUE(m.try_lock());
        m.unlock();
      }
    });
  });
}

TEST_P(shared_mutex_test, a_reader_that_gives_up_leaves_the_queue_sound) {
  run([] {
    each_lock([]<typename M>(kind<M>) {
      M m;
      auto [ctx, cancel] = with_cancel(context::background());
      wait_group loser;
      wait_group other;
      m.lock();
      loser.go([&, &end = ctx] { EXPECT_FALSE(m.lock_shared(end)); });
      until_waiting(1);
      other.go([&] { const std::shared_lock held{m}; });
      until_waiting(2);
      cancel();
      loser.wait();
      m.unlock();
      other.wait();
      EXPECT_FALSE(m.lock_shared(ctx));
      EXPECT_FALSE(m.lock(ctx));
      EXPECT_TRUE(m.try_lock());
      m.unlock();
    });
  });
}

TEST_P(shared_mutex_test, the_timed_forms) {
  const test::unwatched_locks on_purpose;  // It waits for a lock that it holds.
  run([] {
    each_lock([]<typename M>(kind<M>) {
      M m;
      m.lock();
      EXPECT_FALSE(m.try_lock_for(0s));
      EXPECT_FALSE(m.try_lock_for(1ms));
      EXPECT_FALSE(m.try_lock_until(clock::now()));
      EXPECT_FALSE(m.try_lock_shared_for(-1s));
      EXPECT_FALSE(m.try_lock_shared_for(1ms));
      EXPECT_FALSE(m.try_lock_shared_until(clock::now()));
      const result<> late = m.lock_shared(with_timeout(context::background(), 1ms));
      ASSERT_FALSE(late);
      EXPECT_TRUE(late.error().is(errc::deadline_exceeded));
      m.unlock();
      {
        std::shared_lock later{m, std::defer_lock};
        EXPECT_TRUE(later.try_lock_for(1s));
        EXPECT_FALSE(m.try_lock_for(1ms));
        EXPECT_TRUE(m.try_lock_shared_until(clock::now() + 1s));
        m.unlock_shared();
      }
      std::unique_lock later{m, std::defer_lock};
      EXPECT_TRUE(later.try_lock_for(1s));
      later.unlock();
      EXPECT_TRUE(later.try_lock_until(clock::now() + 1s));
    });
  });
}

TEST_P(shared_mutex_test, waits_end_with_the_unlock_that_comes_in_time) {
  run([] {
    each_lock([]<typename M>(kind<M>) {
      M m;
      wait_group waiting;
      m.lock_shared();
      waiting.go([&] {
        EXPECT_TRUE(m.try_lock_for(1h));
        m.unlock();
      });
      until_waiting(1);
      waiting.go([&] {
        EXPECT_TRUE(m.try_lock_shared_for(1h));
        m.unlock_shared();
      });
      until_waiting(2);
      m.unlock_shared();
      waiting.wait();
    });
  });
}

// Whoever wins, nobody holds the lock without knowing it, and nobody is left behind.
TEST_P(shared_mutex_test, cancel_against_unlock_loses_no_lock) {
  const int rounds = is_simulated() ? 10 : 200;
  run([rounds] {
    each_lock([rounds]<typename M>(kind<M>) {
      M m;
      for (int round = 0; round < rounds; ++round) {
        auto [ctx, cancel] = with_cancel(context::background());
        wait_group racing;
        m.lock_shared();
        racing.go([&, &end = ctx] {
          if (m.lock(end)) m.unlock();
        });
        if (round % 2 == 0) yield();
        racing.go([&] { const std::shared_lock held{m}; });
        racing.go([&, &end = ctx] {
          if (m.lock_shared(end)) m.unlock_shared();
        });
        if (round % 3 == 0) yield();
        racing.go([&, &stop = cancel] { stop(); });
        m.unlock_shared();
        racing.wait();
        ASSERT_TRUE(m.try_lock());
        m.unlock();
      }
    });
  });
}

// Read locks that are given back by others than took them, on whatever CPU they are.
TEST_P(shared_mutex_test, another_fiber_may_unlock) {
  const test::unwatched_locks on_purpose;  // It waits for a lock that it holds.
  run([] {
    each_lock([]<typename M>(kind<M>) {
      M m;
      int data = 0;
      wait_group fibers;
      for (int i = 0; i < 8; ++i) m.lock_shared();
      for (int i = 0; i < 8; ++i) {
        fibers.go([&] {
          yield();
          m.unlock_shared();
        });
      }
      m.lock();
      fibers.go([&] {
        data = 42;
        m.unlock();
      });
      m.lock_shared();
      EXPECT_EQ(data, 42);
      m.unlock_shared();
      fibers.wait();
    });
  });
}

template <typename M>
void lock_from_threads(M& m) {
  std::array<int, 2> pair{};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 2000; ++i) {
        if ((i + t) % 8 == 0) {
          const std::lock_guard held{m};
          ++pair[0];
          ++pair[1];
        } else {
          const std::shared_lock held{m};
          EXPECT_EQ(pair[0], pair[1]);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(pair[0], 4 * 2000 / 8);
}

TEST(shared_mutex_on_threads, needs_no_fiber_at_all) {
  lock_from_threads(global_shared);
  lock_from_threads(global_read_mostly);
}

// As docs/guide/locks.md has it.
// [table]
class table {
 public:
  std::optional<std::string> find(const std::string& key) const {
    const std::shared_lock reading{lock_};
    const auto at = rows_.find(key);
    return at == rows_.end() ? std::nullopt : std::optional{at->second};
  }
  result<> set(const context& ctx, std::string key, std::string value) {
    if (const result<> writing = lock_.lock(ctx); !writing) return writing;
    const std::lock_guard held{lock_, std::adopt_lock};
    rows_.insert_or_assign(std::move(key), std::move(value));
    return {};
  }

 private:
  mutable shared_mutex lock_;
  std::map<std::string, std::string> rows_;
};
// [table]

TEST_P(shared_mutex_test, guards_a_table) {
  run([] {
    table names;
    const auto ended = with_cancel(context::background());
    ended.cancel();
    EXPECT_TRUE(names.set(context::background(), "one", "eins"));
    EXPECT_FALSE(names.set(ended.ctx, "two", "zwei"));
    EXPECT_EQ(names.find("one"), "eins");
    EXPECT_EQ(names.find("two"), std::nullopt);
  });
}

// The simulation's own clock, and its knowledge of who waits.
EXEUNT_SIM_TEST(shared_mutex_sim, readers_without_end_do_not_keep_a_writer_out) {
  shared_mutex m;
  std::atomic<bool> written{false};
  wait_group fibers;
  for (int r = 0; r < 2; ++r) {
    fibers.go([&, r] {
      sleep(r * 5ms);
      while (!written) {
        const std::shared_lock held{m};  // Two that overlap, for ever.
        sleep(10ms);
      }
    });
  }
  sleep(7ms);
  const clock::time_point begin = clock::now();
  m.lock();
  EXPECT_LE(clock::now() - begin, 10ms);
  written = true;
  m.unlock();
  fibers.wait();
}

// SY-03: the six programs.
template <typename M>
void misuse(const char* write_unlock_of_free, const char* write_unlock_of_read,
            const char* read_unlock_of_free, const char* read_unlock_of_written) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        M m;
        m.unlock();
      },
      write_unlock_of_free);
  EXPECT_DEATH(
      {
        M m;
        m.lock_shared();
        m.unlock();
      },
      write_unlock_of_read);
  EXPECT_DEATH(
      {
        M m;
        m.lock();
        m.unlock();
        m.unlock();
      },
      write_unlock_of_free);
  // read_mostly_mutex finds out when somebody writes.
  EXPECT_DEATH(
      {
        M m;
        m.unlock_shared();
        m.lock();
      },
      read_unlock_of_free);
  EXPECT_DEATH(
      {
        M m;
        m.lock();
        m.unlock_shared();
        m.unlock();
        m.lock();
      },
      read_unlock_of_written);
  EXPECT_DEATH(
      {
        M m;
        m.lock_shared();
        m.unlock_shared();
        m.unlock_shared();
        m.lock();
      },
      read_unlock_of_free);
}

TEST(shared_mutex_death, sy_03_misuse) {
  misuse<shared_mutex>("unlock of unlocked shared_mutex",
                       "unlock of a shared_mutex that readers hold",
                       "unlock_shared of unlocked shared_mutex",
                       "unlock_shared of a shared_mutex that a writer holds");
}

TEST(shared_mutex_death, sy_03_misuse_of_read_mostly) {
  misuse<read_mostly_mutex>("unlock of a read_mostly_mutex that no writer holds",
                            "unlock of a read_mostly_mutex that no writer holds",
                            "unlock_shared of unlocked read_mostly_mutex",
                            "unlock_shared of unlocked read_mostly_mutex");
}

EXEUNT_EXPLORED(shared_mutex_test);

}  // namespace
}  // namespace exeunt
