// SPDX-License-Identifier: Apache-2.0
// The runtime's parts that a simulation replaces: each is asked, and what it says is done.

#include "sched/seam.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <exeunt/sched/io.hpp>
#include <exeunt/sched/runtime.hpp>

#include "poll/poller.hpp"
#include "support/semaphore.hpp"

namespace exeunt {
namespace {

using test::semaphore;

// Takes the one that was queued last, and counts.
struct last_chooser final : detail::fiber_chooser {
  std::size_t choose(std::size_t ready_count) noexcept override {
    ++calls;
    most = std::max(most, ready_count);
    return ready_count - 1;
  }
  std::size_t calls = 0;
  std::size_t most = 0;
};

// Goal:   no fiber runs but by the chooser's choice, whichever queue it waits in.
// Method: one fiber starts more than a local queue holds, so that some are in the shared one at
//         every turn. From outside, a slow machine would take so long over it that the fiber they
//         wait behind would count as stuck.
TEST(chooser, is_asked_for_each_fiber_that_runs) {
  constexpr std::size_t count = 1'000;
  last_chooser chooser;
  detail::seam parts{.chooser = &chooser};
  runtime workers{{.procs = 1, .seam = &parts}};
  semaphore done;
  workers.go([&] {
    for (std::size_t i = 0; i < count; ++i) go([&] { done.post(); });
  });
  for (std::size_t i = 0; i < count; ++i) done.wait();
  EXPECT_EQ(workers.stop(), 0U);
  EXPECT_EQ(chooser.calls, count + 1);
  EXPECT_GT(chooser.most, count / 2);
}

TEST(chooser, decides_the_order) {
  last_chooser chooser;
  detail::seam parts{.chooser = &chooser};
  runtime workers{{.procs = 1, .seam = &parts}};
  std::mutex lock;  // That both run on one worker orders nothing.
  std::vector<int> order;
  workers.run([&] {
    semaphore done;
    for (int i = 0; i < 2; ++i) {
      go([&, i] {
        {
          const std::lock_guard guard{lock};
          order.push_back(i);
        }
        done.post();
      });
    }
    done.wait();
    done.wait();
  });
  EXPECT_EQ(workers.stop(), 0U);
  EXPECT_EQ(order, (std::vector{1, 0}));
}

#ifndef EXEUNT_FORCE_MIGRATION  // Which hands each fiber to one certain worker.
// Goal:   fibers that a worker takes over and does not run at once are not left with it while it
//         stays with another one, and the other worker looks for work.
// Method: the chooser stands between the taking and the run: there the other worker is let go, and
//         finds nothing that it may take. The first fiber then needs the second.
TEST(chooser, what_is_taken_and_not_run_is_found_by_another_worker) {
  struct waiting_chooser final : detail::fiber_chooser {
    std::size_t choose(std::size_t ready_count) noexcept override {
      if (ready_count < 2) return 0;
      *let_go = true;
      while (*busy > 0) std::this_thread::yield();
      return 0;  // The one that was started first.
    }
    std::atomic<int>* busy = nullptr;
    std::atomic<bool>* let_go = nullptr;
  } chooser;
  detail::seam parts{.chooser = &chooser};
  runtime workers{{.procs = 2, .seam = &parts}};
  std::atomic<int> busy{0};
  std::atomic<bool> first_may_end{false};
  std::atomic<bool> second_may_end{false};
  std::atomic<bool> needed_ran{false};
  chooser.busy = &busy;
  chooser.let_go = &second_may_end;
  for (std::atomic<bool>* const may_end : {&first_may_end, &second_may_end}) {
    workers.go([&busy, may_end] {
      ++busy;
      while (!*may_end) std::this_thread::yield();
      --busy;
    });
    while (busy == 0) std::this_thread::yield();
  }
  while (busy < 2) std::this_thread::yield();
  semaphore done;
  workers.go([&] {
    while (!needed_ran) std::this_thread::yield();
    done.post();
  });
  workers.go([&] { needed_ran = true; });
  first_may_end = true;
  done.wait();
  EXPECT_EQ(workers.stop(), 0U);
}
#endif

// Readiness by hand.
class hand_poller final : public poll::poller {
 public:
  result<> add(int fd, std::uint64_t token) noexcept override {
    const std::lock_guard guard{lock_};
    added.emplace_back(fd, token);
    return {};
  }
  void remove(int fd) noexcept override {
    if (in_remove) in_remove();
    const std::lock_guard guard{lock_};
    removed.push_back(fd);
  }
  std::size_t wait(poll::event* events, std::size_t room,
                   clock::time_point until) noexcept override {
    std::unique_lock guard{lock_};
    while (ready_.empty() && !woken_ && clock::now() < until) changed_.wait(guard);
    if (until > clock::time_point::min()) woken_ = false;
    std::size_t count = 0;
    for (; count < room && !ready_.empty(); ++count, ready_.pop_front()) {
      events[count] = ready_.front();
    }
    return count;
  }
  void wake() noexcept override {
    const std::lock_guard guard{lock_};
    woken_ = true;
    changed_.notify_all();
  }
  void make_readable(std::uint64_t token) {
    const std::lock_guard guard{lock_};
    ready_.push_back({.token = token, .readable = true});
    changed_.notify_all();
  }

  std::vector<std::pair<int, std::uint64_t>> added;
  std::vector<int> removed;
  std::function<void()> in_remove;

 private:
  std::mutex lock_;
  std::condition_variable changed_;
  std::deque<poll::event> ready_;
  bool woken_ = false;
};

TEST(poller, is_the_one_that_is_handed_in) {
  int fds[2] = {-1, -1};
  ASSERT_EQ(::pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
  hand_poller poller;
  detail::seam parts{.poller = &poller};
  {
    runtime workers{{.procs = 2, .seam = &parts}};
    detail::io_descriptor end;
    workers.run([&] { end = *detail::io_descriptor::adopt(fds[0]); });
    ASSERT_EQ(poller.added.size(), 1U);
    EXPECT_EQ(poller.added[0].first, fds[0]);

    semaphore woken;
    workers.go([&] {
      // Nothing is in the pipe; only the poller says so.
      EXPECT_TRUE(end.wait(detail::io_direction::read, detail::wait_reason::io_read, nullptr));
      woken.post();
    });
    poller.make_readable(poller.added[0].second);
    woken.wait();
    end.close();
    EXPECT_EQ(poller.removed, (std::vector{fds[0]}));
    EXPECT_EQ(workers.stop(), 0U);
  }
  ::close(fds[1]);
}

// Goal:   a runtime is not destroyed while another thread closes a descriptor of it.
// Method: the closing thread is held up inside the poller until the runtime has stopped, and then
//         for long enough that its end would most likely have come.
TEST(poller, is_not_destroyed_while_a_descriptor_is_taken_out) {
  int fds[2] = {-1, -1};
  ASSERT_EQ(::pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
  hand_poller poller;
  detail::seam parts{.poller = &poller};
  auto workers = std::make_unique<runtime>(runtime_options{.procs = 1, .seam = &parts});
  detail::io_descriptor end;
  workers->run([&] { end = *detail::io_descriptor::adopt(fds[0]); });
  std::atomic<bool> inside{false};
  std::atomic<bool> stopped{false};
  std::atomic<bool> destroyed{false};
  poller.in_remove = [&] {
    inside = true;
    while (!stopped) std::this_thread::yield();
    for (int i = 0; i < 10'000; ++i) std::this_thread::yield();
    EXPECT_FALSE(destroyed);
  };
  std::thread closes{[&] { end.close(); }};
  while (!inside) std::this_thread::yield();
  EXPECT_EQ(workers->stop(), 0U);
  stopped = true;
  workers.reset();
  destroyed = true;
  closes.join();
  ::close(fds[1]);
}

}  // namespace
}  // namespace exeunt
