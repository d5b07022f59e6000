// SPDX-License-Identifier: Apache-2.0
// Fibers that do not come back to their worker, and what goes on meanwhile. Each test ends, or does
// not: what they wait for could not happen without a thread in place of those that stay.

#include <gtest/gtest.h>

#include <poll.h>
#include <sched.h>
#include <unistd.h>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <exeunt/sched/io.hpp>
#include <exeunt/sched/runtime.hpp>

#include "support/semaphore.hpp"

namespace exeunt {
namespace {

using std::chrono::milliseconds;
using test::semaphore;

// How a fiber keeps its thread.
enum class stays_in : std::uint8_t { read, std_mutex, loop };

class stuck : public ::testing::TestWithParam<std::pair<unsigned, stays_in>> {
 protected:
  stuck() {
    EXPECT_EQ(::pipe(pipe_.data()), 0);
    mutex_.lock();
  }
  ~stuck() override {
    ::close(pipe_[0]);
    ::close(pipe_[1]);
  }
  static unsigned procs() { return GetParam().first; }

  void stay() {
    ++staying_;
    switch (GetParam().second) {
      case stays_in::read: {
        char byte = 0;
        while (::read(pipe_[0], &byte, 1) != 1) {
        }
        break;
      }
      case stays_in::std_mutex: {
        const std::lock_guard guard{mutex_};
        break;
      }
      case stays_in::loop:
        while (!over_) {
        }
        break;
    }
    ++back_;
  }
  // Lets those that stay go on. From the thread that made this.
  void release(unsigned count) {
    over_ = true;
    mutex_.unlock();
    const std::string bytes(count, 'x');
    EXPECT_EQ(::write(pipe_[1], bytes.data(), count), static_cast<ssize_t>(count));
  }
  // Starts as many as there are workers, and waits until all have theirs.
  void keep_all(runtime& workers) {
    for (unsigned i = 0; i < procs(); ++i) workers.go([this] { stay(); });
    while (staying_ != procs()) std::this_thread::yield();
  }
  static void wait_until_threads_are(const runtime& workers, unsigned count) {
    while (workers.stats().threads != count) std::this_thread::yield();
  }

  std::array<int, 2> pipe_{};
  std::mutex mutex_;
  std::atomic<bool> over_{false};
  std::atomic<unsigned> staying_{0};
  std::atomic<unsigned> back_{0};
};

TEST_P(stuck, others_run_timers_fire_and_descriptors_are_seen) {
  runtime workers{{.procs = procs()}};
  keep_all(workers);
  std::atomic<bool> seen{false};
  workers.run([&] {
    for (int i = 0; i < 20; ++i) sleep(milliseconds{1});
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    auto end = detail::io_descriptor::adopt(ends[0]);
    ASSERT_TRUE(end);
    go([fd = ends[1]] {
      sleep(milliseconds{1});
      EXPECT_EQ(::write(fd, "x", 1), 1);
      ::close(fd);
    });
    char byte = 0;
    while (::read(end->fd(), &byte, 1) != 1) {
      ASSERT_TRUE(end->wait(detail::io_direction::read, detail::wait_reason::io_read, nullptr));
    }
    seen = true;
  });
  EXPECT_TRUE(seen);
  EXPECT_EQ(back_, 0U);
  release(procs());
  while (back_ != procs()) std::this_thread::yield();
  EXPECT_EQ(workers.stop(), 0U);
}

TEST_P(stuck, what_waited_behind_them_is_run_by_others) {
  runtime workers{{.procs = procs()}};
  std::atomic<unsigned> ran{0};
  workers.run([&] {
    for (unsigned i = 0; i < procs(); ++i) {
      go([&] {
        // The next to run, and two in the queue, all of this worker alone.
        for (int k = 0; k < 3; ++k) go([&] { ++ran; });
        semaphore gate;
        go([&] { gate.post(); });
        gate.wait();
        go([&] { ++ran; });
        stay();
      });
    }
    while (staying_ != procs() || ran != 4 * procs()) sleep(milliseconds{1});
  });
  EXPECT_EQ(back_, 0U);
  release(procs());
  while (back_ != procs()) std::this_thread::yield();
  EXPECT_EQ(workers.stop(), 0U);
}

TEST_P(stuck, no_thread_remains_afterwards) {
  runtime workers{{.procs = procs()}};
  for (int round = 0; round < 2; ++round) {
    keep_all(workers);
    workers.run([] { sleep(milliseconds{1}); });
    EXPECT_GT(workers.stats().threads, procs());
    release(procs());
    while (back_ != procs()) std::this_thread::yield();
    // All places are taken by workers that are idle now; who was in them for a while has gone.
    wait_until_threads_are(workers, procs());
    workers.run([] { sleep(milliseconds{1}); });
    mutex_.lock();
    over_ = false;
    staying_ = back_ = 0;
  }
  mutex_.unlock();
  EXPECT_EQ(workers.stop(), 0U);
}

TEST_P(stuck, a_bounded_stop_does_not_wait_for_them) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const int code = run(
            [this] {
              for (unsigned i = 0; i < procs(); ++i) go([this] { stay(); });
              while (staying_ != procs()) sleep(milliseconds{1});
            },
            {.procs = procs()});
        std::_Exit(code);
      },
      ::testing::ExitedWithCode(0), "is running, started at .*monitor_test");
}

std::string name_of(const ::testing::TestParamInfo<stuck::ParamType>& kind) {
  constexpr std::array names{"read", "std_mutex", "loop"};
  return std::string{names[static_cast<std::size_t>(kind.param.second)]} + "_on_" +
         std::to_string(kind.param.first);
}
INSTANTIATE_TEST_SUITE_P(
    workers, stuck,
    ::testing::Values(std::pair{1U, stays_in::read}, std::pair{1U, stays_in::std_mutex},
                      std::pair{1U, stays_in::loop}, std::pair{2U, stays_in::read},
                      std::pair{2U, stays_in::std_mutex}, std::pair{2U, stays_in::loop}),
    name_of);

// Goal:   fibers that burn the processor do not keep others of the same worker from ending them.
TEST(monitor, a_fiber_that_waits_for_another_by_looking_ends) {
  for (const unsigned procs : {1U, 2U}) {
    runtime workers{{.procs = procs}};
    workers.run([] {
      std::atomic<bool> flag{false};
      go([&] { flag = true; });
      while (!flag) {
      }
    });
    EXPECT_EQ(workers.stop(), 0U);
  }
}

// SC-07: two that take turns by looking, without a single call of the library, on any number of
// workers: a worker that is kept is replaced.
TEST(monitor, two_that_take_turns_by_looking_end) {
  for (const unsigned procs : {1U, 2U}) {
    runtime workers{{.procs = procs}};
    workers.run([] {
      std::atomic<int> turn{0};
      semaphore done;
      for (int me = 0; me < 2; ++me) {
        go([&, me] {
          for (int lap = 0; lap < 5; ++lap) {
            while (turn != me) {
            }
            turn = 1 - me;
          }
          done.post();
        });
      }
      done.wait();
      done.wait();
    });
    EXPECT_EQ(workers.stop(), 0U);
  }
}

// SC-03: as many as there are workers run at the same time.
TEST(monitor, as_many_run_at_once_as_there_are_workers) {
  if (std::thread::hardware_concurrency() < 2) GTEST_SKIP() << "one CPU runs one at a time";
  constexpr int count = 4;
  for (int attempt = 0; attempt < 10; ++attempt) {
    runtime workers{{.procs = count}};
    workers.run([] {
      std::atomic<int> passed{0};
      semaphore done;
      for (int me = 0; me < count; ++me) {
        go([&, me] {
          for (int lap = 0; lap < 3; ++lap) {
            while (passed != lap * count + me) {
            }
            ++passed;
          }
          done.post();
        });
      }
      for (int me = 0; me < count; ++me) done.wait();
    });
    EXPECT_EQ(workers.stop(), 0U);
  }
}

// Goal:   what waits behind a stuck fiber runs though all others are busy and never search.
TEST(monitor, what_waits_behind_a_stuck_fiber_runs_though_nobody_is_idle) {
  runtime workers{{.procs = 2}};
  workers.run([] {
    std::atomic<bool> over{false};
    semaphore done;
    for (int i = 0; i < 3; ++i) {
      go([&] {
        while (!over) yield();
        done.post();
      });
    }
    std::atomic<bool> stays{false};
    go([&] {
      stays = true;
      while (!over) {
      }
      done.post();
    });
    while (!stays) yield();
    for (int i = 0; i < 2'000; ++i) yield();  // Behind it, sooner or later.
    over = true;
    for (int i = 0; i < 4; ++i) done.wait();
  });
  EXPECT_EQ(workers.stop(), 0U);
}

// Goal:   a thousand stuck fibers in turn do not leave a trail of threads, nor lose anything.
TEST(monitor, stuck_fibers_come_and_go) {
  constexpr int count = 200;
  runtime workers{{.procs = 2}};
  std::atomic<int> done{0};
  workers.run([&] {
    semaphore all;
    for (int i = 0; i < count; ++i) {
      go([&, i] {
        if (i % 10 == 0) ::poll(nullptr, 0, 5);  // Keeps the thread, asleep.
        sleep(milliseconds{1});
        ++done;
        all.post();
      });
    }
    for (int i = 0; i < count; ++i) all.wait();
  });
  EXPECT_EQ(done, count);
  EXPECT_EQ(workers.stop(), 0U);
}

// SC-28: with fibers that start each other without end.
TEST(monitor, procs_can_be_changed_again_and_again_while_fibers_start_fibers) {
  runtime workers{{.procs = 2}};
  std::atomic<bool> over{false};
  std::atomic<int> lines{0};
  struct line {
    static void go_on(std::atomic<bool>& over, std::atomic<int>& lines) {
      if (over) {
        --lines;
      } else {
        go([&] { go_on(over, lines); });
      }
    }
  };
  for (int i = 0; i < 4; ++i) {
    ++lines;
    workers.go([&] { line::go_on(over, lines); });
  }
  for (unsigned i = 0; i < 1000; ++i) workers.set_procs(1 + i % 4);
  over = true;
  while (lines != 0) std::this_thread::yield();
  EXPECT_EQ(workers.stop(), 0U);
}

TEST(monitor, procs_can_be_raised_and_lowered_while_fibers_run) {
  runtime workers{{.procs = 1}};
  EXPECT_EQ(workers.procs(), 1U);
  std::atomic<bool> over{false};
  std::atomic<long> turns{0};
  for (int i = 0; i < 6; ++i) {
    workers.go([&] {
      while (!over) {
        ++turns;
        yield();
      }
    });
  }
  for (const unsigned count : {4U, 2U, 3U, 1U}) {
    workers.set_procs(count);
    EXPECT_EQ(workers.procs(), count);
    while (workers.stats().threads != count) {
      const long before = turns;
      while (turns == before) std::this_thread::yield();
      std::this_thread::yield();
    }
  }
  over = true;
  EXPECT_EQ(workers.stop(), 0U);
}

// Lets all threads of the process run on `cpus` only.
void run_all_threads_on(const cpu_set_t& cpus) {
  for (const auto& entry : std::filesystem::directory_iterator{"/proc/self/task"}) {
    ::sched_setaffinity(std::stoi(entry.path().filename()), sizeof cpus, &cpus);
  }
}

TEST(monitor, procs_follow_the_affinity_mask_unless_they_were_set) {
  cpu_set_t all;
  ASSERT_EQ(::sched_getaffinity(0, sizeof all, &all), 0);
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; CPU_COUNT(&one) == 0; ++cpu) {
    if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
  }
  runtime workers;
  const unsigned at_first = workers.procs();
  if (at_first == 1 || std::getenv("EXEUNT_PROCS") != nullptr) GTEST_SKIP() << "nothing to follow";
  std::atomic<bool> over{false};
  workers.go([&] {
    while (!over) yield();
  });
  run_all_threads_on(one);
  while (workers.procs() != 1) std::this_thread::yield();
  while (workers.stats().threads != 1) std::this_thread::yield();
  run_all_threads_on(all);
  while (workers.procs() != at_first) std::this_thread::yield();
  // Once set it follows no more; one that does tells when it would have.
  workers.set_procs(at_first + 1);
  runtime other;
  other.go([&] {
    while (!over) yield();
  });
  run_all_threads_on(one);
  while (other.procs() != 1) std::this_thread::yield();
  run_all_threads_on(all);
  while (other.procs() != at_first) std::this_thread::yield();
  EXPECT_EQ(workers.procs(), at_first + 1);
  over = true;
  EXPECT_EQ(other.stop(), 0U);
  EXPECT_EQ(workers.stop(), 0U);
}

TEST(monitor, procs_can_be_lowered_while_all_sleep) {
  runtime workers{{.procs = 4}};
  workers.run([] { sleep(milliseconds{1}); });
  workers.set_procs(1);
  while (workers.stats().threads != 1) std::this_thread::yield();
  workers.run([] { sleep(milliseconds{1}); });
  EXPECT_EQ(workers.stop(), 0U);
}

}  // namespace
}  // namespace exeunt
