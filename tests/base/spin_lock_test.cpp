// SPDX-License-Identifier: Apache-2.0
#include <exeunt/base/spin_lock.hpp>

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace exeunt::detail {
namespace {

TEST(spin_lock, try_lock_fails_while_held) {
  spin_lock lock;
  EXPECT_TRUE(lock.try_lock());
  EXPECT_FALSE(lock.try_lock());
  lock.unlock();
  EXPECT_TRUE(lock.try_lock());
  lock.unlock();
}

TEST(spin_lock, a_guard_may_give_its_duty_away) {
  spin_lock lock;
  {
    spin_guard guard{lock};
    EXPECT_EQ(&guard.release(), &lock);
  }
  EXPECT_FALSE(lock.try_lock()) << "the guard unlocked what it had given away";
  lock.unlock();
  {
    spin_guard guard{lock};
    guard.unlock();
    EXPECT_TRUE(lock.try_lock());
    lock.unlock();
  }
  EXPECT_TRUE(lock.try_lock());
  lock.unlock();
}

#ifndef EXEUNT_TSAN
// ThreadSanitizer is not told of this lock, so what it guards would be reported.
TEST(spin_lock, excludes_threads_from_one_another) {
  spin_lock lock;
  long sum = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20'000; ++i) {
        const spin_guard guard{lock};
        ++sum;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(sum, 80'000);
}
#endif

}  // namespace
}  // namespace exeunt::detail
