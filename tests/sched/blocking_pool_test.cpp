// SPDX-License-Identifier: Apache-2.0
// The side pool by itself: its bound, its growth, its order, and the end of its threads.

#include "sched/blocking_pool.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

#include "sched/thread_mask.hpp"

namespace exeunt::sched {
namespace {

using namespace std::chrono_literals;

/// Counts what the pool does with it. A thread waits for it.
class job final : public detail::blocking_job {
 public:
  explicit job(std::function<void()> body = [] {}) : body_{std::move(body)} {}

  void run() noexcept override {
    ++runs;
    body_();
  }
  void finish() noexcept override { through_.release(); }
  void refuse(const error& why) noexcept override {
    refused = why;
    through_.release();
  }
  void wait() { through_.acquire(); }

  std::atomic<int> runs{0};
  std::optional<error> refused;

 private:
  const std::function<void()> body_;
  std::binary_semaphore through_{0};
};

// Whether it becomes true, in more time than any machine needs.
bool soon(const std::function<bool()>& holds) {
  const auto limit = std::chrono::steady_clock::now() + 60s;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::this_thread::yield();
  }
  return true;
}

// The threads of all pools that the kernel knows of.
int threads_of_process() {
  int count = 0;
  for (const auto& task : std::filesystem::directory_iterator{"/proc/self/task"}) {
    std::ifstream file{task.path() / "comm"};
    std::string name;
    if (std::getline(file, name) && name == "exeunt-blocking") ++count;
  }
  return count;
}

// What the next starts of a thread shall fail with; set by each test that wants it.
std::function<int()>& on_start() {
  static std::function<int()> asked;
  return asked;
}

class blocking_pool_test : public ::testing::Test {
 protected:
  ~blocking_pool_test() override { on_start() = nullptr; }

  blocking_pool& make(unsigned threads_max, clock::duration keep_alive = 1h) {
    return pool_.emplace(mask_of_users(), blocking_limits{.threads_max = threads_max,
                                                          .keep_alive = keep_alive,
                                                          .refuse_thread = []() noexcept {
                                                            return on_start() ? on_start()() : 0;
                                                          }});
  }

  /// `count` jobs that stay until open() is called; all of them run when this returns.
  void occupy(unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
      std::binary_semaphore begun{0};
      held_.emplace_back([&] {
        begun.release();
        gate_.wait(false);
      });
      pool_->post(held_.back());
      begun.acquire();
    }
  }
  void open() {
    gate_ = true;
    gate_.notify_all();
    for (job& one : held_) one.wait();
    held_.clear();
    gate_ = false;
  }

 private:
  std::optional<blocking_pool> pool_;
  std::atomic<bool> gate_{false};
  std::deque<job> held_;
};

// A caller that comes back at once finds the thread that served it, though that has not slept yet.
TEST_F(blocking_pool_test, starts_no_thread_while_one_is_idle) {
  blocking_pool& pool = make(8);
  for (int i = 0; i < 1'000; ++i) {
    job one;
    pool.post(one);
    one.wait();
    EXPECT_EQ(pool.stats().threads, 1U);
    EXPECT_EQ(pool.stats().idle, 1U);
  }
  EXPECT_EQ(pool.stats().completed, 1'000U);
}

TEST_F(blocking_pool_test, starts_one_for_each_job_up_to_the_bound) {
  blocking_pool& pool = make(3);
  for (unsigned i = 1; i <= 3; ++i) {
    occupy(1);
    EXPECT_EQ(pool.stats().threads, i);
    EXPECT_EQ(pool.stats().idle, 0U);
  }
  std::deque<job> waiting(7);
  for (job& one : waiting) pool.post(one);
  EXPECT_EQ(pool.stats().threads, 3U);
  EXPECT_EQ(pool.stats().queued, 7U);
  EXPECT_EQ(pool.stats().completed, 0U);
  open();
  for (job& one : waiting) one.wait();
  EXPECT_EQ(pool.stats().threads, 3U);
  EXPECT_EQ(pool.stats().queued, 0U);
  EXPECT_EQ(pool.stats().completed, 10U);
}

TEST_F(blocking_pool_test, takes_a_bound_of_none_for_one) {
  blocking_pool& pool = make(0);
  job one;
  pool.post(one);
  one.wait();
  EXPECT_EQ(one.runs, 1);
}

TEST_F(blocking_pool_test, runs_what_waits_in_order) {
  blocking_pool& pool = make(1);
  occupy(1);
  std::vector<int> order;
  std::deque<job> waiting;
  for (int i = 0; i < 50; ++i) waiting.emplace_back([&order, i] { order.push_back(i); });
  for (job& one : waiting) pool.post(one);
  open();
  for (job& one : waiting) one.wait();
  for (int i = 0; i < 50; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST_F(blocking_pool_test, idle_threads_end) {
  EXPECT_TRUE(soon([] { return threads_of_process() == 0; })) << "those of other tests are ending";
  blocking_pool& pool = make(8, 2ms);
  occupy(5);
  EXPECT_EQ(threads_of_process(), 5);
  open();
  EXPECT_TRUE(soon([&] { return pool.stats().threads == 0; }));
  EXPECT_EQ(pool.stats().idle, 0U);
  EXPECT_TRUE(soon([&] { return threads_of_process() == 0; }));
  job again;
  pool.post(again);
  again.wait();
  EXPECT_EQ(again.runs, 1);
}

TEST_F(blocking_pool_test, a_keep_alive_without_an_end_overflows_nothing) {
  blocking_pool& pool = make(2, clock::duration::max());
  for (int i = 0; i < 3; ++i) {
    job one;
    pool.post(one);
    one.wait();
    EXPECT_EQ(pool.stats().threads, 1U);
  }
}

// Goal:   those that the load does not need end, though it never pauses.
// Method: one job after the other. Were idle threads used in turn, each would be used too often to
//         end.
TEST_F(blocking_pool_test, threads_beyond_the_load_end_under_load) {
  blocking_pool& pool = make(8, 20ms);
  occupy(6);
  open();
  EXPECT_TRUE(soon([&] {
    job one;
    pool.post(one);
    one.wait();
    return pool.stats().threads == 1;
  }));
}

TEST_F(blocking_pool_test, gives_back_what_has_not_begun) {
  blocking_pool& pool = make(1);
  occupy(1);
  job first;
  job second;
  job third;
  for (job* const one : {&first, &second, &third}) pool.post(*one);
  EXPECT_TRUE(blocking_pool::withdraw(second));
  EXPECT_FALSE(blocking_pool::withdraw(second));
  EXPECT_EQ(pool.stats().queued, 2U);
  open();
  first.wait();
  third.wait();
  EXPECT_EQ(second.runs, 0);
  EXPECT_FALSE(blocking_pool::withdraw(first));
  EXPECT_EQ(pool.stats().completed, 3U);
}

TEST_F(blocking_pool_test, refuses_a_job_if_there_is_no_thread_and_none_can_be_started) {
  blocking_pool& pool = make(2);
  on_start() = [] { return EAGAIN; };
  job one;
  pool.post(one);
  one.wait();
  ASSERT_TRUE(one.refused);
  EXPECT_TRUE(one.refused->is(std::errc::resource_unavailable_try_again));
  EXPECT_NE(one.refused->message().find("blocking: no thread can be started"), std::string::npos);
  EXPECT_EQ(one.runs, 0);
  EXPECT_EQ(pool.stats().threads, 0U);
  EXPECT_EQ(pool.stats().queued, 0U);
  on_start() = nullptr;
  job next;
  pool.post(next);
  next.wait();
  EXPECT_EQ(next.runs, 1);
}

TEST_F(blocking_pool_test, a_job_waits_for_a_thread_if_no_other_can_be_started) {
  blocking_pool& pool = make(8);
  occupy(1);
  on_start() = [] { return EAGAIN; };
  std::deque<job> waiting(3);
  for (job& one : waiting) pool.post(one);
  EXPECT_EQ(pool.stats().threads, 1U);
  EXPECT_EQ(pool.stats().queued, 3U);
  open();
  for (job& one : waiting) {
    one.wait();
    EXPECT_EQ(one.runs, 1);
  }
}

// Goal:   who counted on a thread that was being started is not forgotten when the start fails.
// Method: he comes while the system is asked; the bound lets him start none of his own.
TEST_F(blocking_pool_test, a_failing_start_refuses_those_that_counted_on_it) {
  blocking_pool& pool = make(1);
  job first;
  job second;
  on_start() = [&] {
    pool.post(second);
    return EAGAIN;
  };
  pool.post(first);
  first.wait();
  second.wait();
  EXPECT_TRUE(first.refused);
  EXPECT_TRUE(second.refused);
  EXPECT_EQ(pool.stats().queued, 0U);
}

// Goal:   the same where there is a thread by then: it is woken for him.
// Method: the only thread is released while the system is asked, does the job that wanted another
//         one, and falls idle. The next job finds one coming, and wakes nobody.
TEST_F(blocking_pool_test, a_failing_start_wakes_one_for_those_that_counted_on_it) {
  blocking_pool& pool = make(2);
  occupy(1);
  job first;
  job second;
  on_start() = [&] {
    open();
    first.wait();
    EXPECT_EQ(pool.stats().idle, 1U);
    pool.post(second);
    EXPECT_EQ(pool.stats().idle, 1U);
    return EAGAIN;
  };
  pool.post(first);
  second.wait();
  EXPECT_EQ(first.runs, 1);
  EXPECT_EQ(second.runs, 1);
  EXPECT_EQ(pool.stats().threads, 1U);
}

TEST_F(blocking_pool_test, begins_nothing_after_its_close) {
  blocking_pool& pool = make(1, 1h);
  std::binary_semaphore begun{0};
  std::binary_semaphore may_end{0};
  job runs{[&] {
    begun.release();
    may_end.acquire();
  }};
  job waits;
  pool.post(runs);
  begun.acquire();
  pool.post(waits);
  pool.close();
  waits.wait();
  ASSERT_TRUE(waits.refused);
  EXPECT_TRUE(waits.refused->is(errc::shutting_down));
  job late;
  pool.post(late);
  late.wait();
  EXPECT_TRUE(late.refused);
  may_end.release();
  runs.wait();
  EXPECT_FALSE(runs.refused);
  EXPECT_EQ(waits.runs + late.runs, 0);
  EXPECT_TRUE(soon([&] { return pool.stats().threads == 0; }));
}

TEST_F(blocking_pool_test, close_ends_idle_threads) {
  blocking_pool& pool = make(4, 1h);
  occupy(4);
  open();
  pool.close();
  EXPECT_TRUE(soon([&] { return pool.stats().threads == 0; }));
}

TEST_F(blocking_pool_test, is_quiet_when_all_jobs_are_through) {
  blocking_pool& pool = make(2);
  pool.wait_until_quiet(clock::time_point::max());
  std::binary_semaphore begun{0};
  std::binary_semaphore may_end{0};
  job one{[&] {
    begun.release();
    may_end.acquire();
  }};
  pool.post(one);
  begun.acquire();
  pool.wait_until_quiet(clock::now() + 1ms);
  EXPECT_EQ(pool.stats().completed, 0U);
  std::thread other{[&] { may_end.release(); }};
  pool.wait_until_quiet(clock::now() + 1h);
  EXPECT_EQ(pool.stats().completed, 1U);
  one.wait();
  other.join();
}

}  // namespace
}  // namespace exeunt::sched
