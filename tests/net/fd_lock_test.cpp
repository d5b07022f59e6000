// SPDX-License-Identifier: Apache-2.0

#include "net/fd_lock.hpp"

#include <gtest/gtest.h>

#include <chrono>

#include <exeunt/chan/chan.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>

#include "chan/parked.hpp"
#include "support/on_workers.hpp"

namespace exeunt::net {
namespace {

using detail::wait_reason;
using test::until_parked;

const detail::atomic<clock::rep> never{no_deadline.time_since_epoch().count()};
const detail::atomic<clock::rep> long_ago{0};

class net_fd_lock_test : public test::on_workers {};

TEST(net_fd_lock, directions_are_independent) {
  fd_lock lock;
  ASSERT_TRUE(lock.lock(io_direction::read, nullptr, never).has_value());
  ASSERT_TRUE(lock.lock(io_direction::write, nullptr, never).has_value());
  EXPECT_FALSE(lock.unlock(io_direction::read));
  EXPECT_FALSE(lock.unlock(io_direction::write));
}

TEST(net_fd_lock, one_a_direction) {
  fd_lock lock;
  ASSERT_TRUE(lock.lock(io_direction::read, nullptr, never).has_value());
  EXPECT_TRUE(lock.lock(io_direction::read, nullptr, long_ago).error().is(errc::deadline_exceeded));
  EXPECT_FALSE(lock.unlock(io_direction::read));
  EXPECT_TRUE(lock.lock(io_direction::read, nullptr, long_ago).has_value());
}

// NE-07: the descriptor is released only when the last user leaves; a second close fails.
TEST(net_fd_lock, last_to_leave_after_close_frees) {
  fd_lock lock;
  ASSERT_TRUE(lock.lock(io_direction::read, nullptr, never).has_value());
  ASSERT_TRUE(lock.enter());
  ASSERT_TRUE(lock.close());
  EXPECT_FALSE(lock.close());
  EXPECT_FALSE(lock.enter());
  EXPECT_TRUE(lock.lock(io_direction::write, nullptr, never).error().is(errc::closed));
  EXPECT_FALSE(lock.leave());  // That of close().
  EXPECT_FALSE(lock.unlock(io_direction::read));
  EXPECT_TRUE(lock.leave());
}

// NE-07: close wakes all who wait.
TEST_P(net_fd_lock_test, close_wakes_those_in_line) {
  run([] {
    fd_lock lock;
    ASSERT_TRUE(lock.lock(io_direction::read, nullptr, never).has_value());
    constexpr std::size_t waiters = 4;
    chan<bool> closed{waiters};
    for (std::size_t i = 0; i < waiters; ++i) {
      go([&] {
        closed.send(lock.lock(io_direction::read, nullptr, never).error().is(errc::closed));
      });
    }
    until_parked(waiters, wait_reason::io_read);
    ASSERT_TRUE(lock.close());
    for (std::size_t i = 0; i < waiters; ++i) EXPECT_TRUE(*closed.recv());
    EXPECT_FALSE(lock.leave());
    EXPECT_TRUE(lock.unlock(io_direction::read));
  });
}

TEST_P(net_fd_lock_test, one_who_gives_up_takes_nobodys_turn) {
  run([] {
    fd_lock lock;
    auto [ctx, cancel] = with_cancel(context::background());
    ASSERT_TRUE(lock.lock(io_direction::write, nullptr, never).has_value());
    chan<bool> gave_up{1};
    chan<bool> got{1};
    go([&, own = context{ctx}] {
      const auto outcome = lock.lock(io_direction::write, detail::node_of(own), never);
      gave_up.send(!outcome && outcome.error().is(errc::canceled));
    });
    until_parked(1, wait_reason::io_write);
    go([&] {
      got.send(lock.lock(io_direction::write, nullptr, never).has_value());
      EXPECT_FALSE(lock.unlock(io_direction::write));
    });
    until_parked(2, wait_reason::io_write);
    cancel();
    EXPECT_TRUE(*gave_up.recv());
    EXPECT_FALSE(lock.unlock(io_direction::write));
    EXPECT_TRUE(*got.recv());
  });
}

TEST_P(net_fd_lock_test, excludes_and_loses_no_turn) {
  run([] {
    fd_lock lock;
    constexpr int fibers = 8;
    constexpr int rounds = 500;
    int counter = 0;
    chan<void> done{fibers};
    for (int i = 0; i < fibers; ++i) {
      go([&] {
        for (int r = 0; r < rounds; ++r) {
          EXPECT_TRUE(lock.lock(io_direction::read, nullptr, never).has_value());
          ++counter;
          if (r % 16 == 0) yield();
          EXPECT_FALSE(lock.unlock(io_direction::read));
        }
        done.send();
      });
    }
    for (int i = 0; i < fibers; ++i) EXPECT_TRUE(done.recv());
    EXPECT_EQ(counter, fibers * rounds);
  });
}

EXEUNT_ON_WORKERS(net_fd_lock_test);

TEST(net_fd_lock_death, unbalanced_release_aborts) {
  fd_lock lock;
  EXPECT_DEATH(static_cast<void>(lock.unlock(io_direction::read)), "nobody uses");
  EXPECT_DEATH(static_cast<void>(lock.leave()), "nobody uses");
}

}  // namespace
}  // namespace exeunt::net
