// SPDX-License-Identifier: Apache-2.0
// What one busy fiber may not hold up: timers, descriptors, fibers from outside and its own peers.
// Each test ends, or does not.

#include <gtest/gtest.h>

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <exeunt/sched/io.hpp>
#include <exeunt/sched/runtime.hpp>

#include "support/on_workers.hpp"
#include "support/semaphore.hpp"

namespace exeunt {
namespace {

using test::semaphore;

// How the busy fiber passes its time.
enum class busy_by : std::uint8_t { yielding, succeeding, handing_over };

class starvation : public ::testing::TestWithParam<std::pair<unsigned, busy_by>> {
 protected:
  // Keeps the workers busy until `flag`: one fiber, or a pair, on each.
  static void run(const std::function<void(std::atomic<bool>& flag)>& start) {
    const unsigned procs = GetParam().first;
    const busy_by by = GetParam().second;
    runtime workers{{.procs = procs}};
    workers.run([&] {
      std::atomic<bool> flag{false};
      semaphore done;
      start(flag);
      for (unsigned i = 1; i < procs; ++i) {
        go([&] {
          keep_busy(by, flag);
          done.post();
        });
      }
      keep_busy(by, flag);
      for (unsigned i = 1; i < procs; ++i) done.wait();
    });
    EXPECT_EQ(workers.stop(), 0U);
  }

 private:
  static void keep_busy(busy_by by, const std::atomic<bool>& flag) {
    switch (by) {
      case busy_by::yielding:
        while (!flag) yield();
        return;
      case busy_by::succeeding: {
        // As a primitive does that never finds a reason to park.
        semaphore always;
        while (!flag) {
          always.post();
          always.wait();
          detail::checkpoint();
        }
        return;
      }
      case busy_by::handing_over: {
        semaphore there;
        semaphore back;
        semaphore ended;
        std::atomic<bool> last{false};
        go([&] {
          for (bool more = true; more;) {
            there.wait();
            more = !last;
            back.post();
          }
          ended.post();
        });
        for (bool more = true; more;) {
          more = !flag;
          if (!more) last = true;
          there.post();
          back.wait();
        }
        ended.wait();
        return;
      }
    }
  }
};

TEST_P(starvation, a_timer_fires) {
  run([](std::atomic<bool>& flag) {
    go([&] {
      sleep(std::chrono::milliseconds{1});
      flag = true;
    });
  });
}

TEST_P(starvation, a_ready_descriptor_is_seen) {
  run([](std::atomic<bool>& flag) {
    int fds[2] = {-1, -1};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    semaphore waits;
    go([&flag, &waits, fd = fds[0]] {
      auto end = *detail::io_descriptor::adopt(fd);
      waits.post();
      char byte = 0;
      while (::read(end.fd(), &byte, 1) != 1) {
        EXPECT_TRUE(end.wait(detail::io_direction::read, detail::wait_reason::io_read, nullptr));
      }
      flag = true;
    });
    waits.wait();
    yield();
    EXPECT_EQ(::write(fds[1], "x", 1), 1);
    ::close(fds[1]);
  });
}

TEST_P(starvation, a_fiber_started_by_a_thread_runs) {
  run([](std::atomic<bool>& flag) {
    std::thread{[&flag, &home = runtime::current()] { home.go([&flag] { flag = true; }); }}.join();
  });
}

TEST_P(starvation, a_fiber_at_the_end_of_the_queue_runs) {
  run([](std::atomic<bool>& flag) { go([&flag] { flag = true; }); });
}

// Goal:   of more busy descriptors than a worker's queue has room for, each gets its turns.
// Method: fibers that make their own descriptor ready and wait for it, until one of them has had
//         many turns. A queue that overflows lets its older half wait behind all that comes later:
//         the least favoured then had none while the most favoured had all of them.
TEST(fairness, many_busy_descriptors_take_turns) {
  constexpr std::size_t fibers = 600;
  constexpr int turns = 100;
  runtime workers{{.procs = 1}};
  workers.run([&] {
    std::vector<int> had(fibers, 0);
    std::atomic<bool> over{false};
    semaphore done;
    for (int& mine : had) {
      go([&] {
        const int fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        ASSERT_GE(fd, 0);
        auto own = detail::io_descriptor::adopt(fd);
        ASSERT_TRUE(own);
        std::uint64_t one = 1;
        while (!over) {
          ASSERT_EQ(::write(own->fd(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
          ASSERT_TRUE(own->wait(detail::io_direction::read, detail::wait_reason::io_read, nullptr));
          ASSERT_EQ(::read(own->fd(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
          if (++mine == turns) over = true;
        }
        done.post();
      });
    }
    for (std::size_t i = 0; i < fibers; ++i) done.wait();
    EXPECT_GE(*std::ranges::min_element(had), turns / 2);
  });
  EXPECT_EQ(workers.stop(), 0U);
}

std::string name_of(const ::testing::TestParamInfo<starvation::ParamType>& kind) {
  constexpr std::array names{"yielding", "succeeding", "handing_over"};
  return std::string{names[static_cast<std::size_t>(kind.param.second)]} + "_on_" +
         std::to_string(kind.param.first);
}
INSTANTIATE_TEST_SUITE_P(
    workers, starvation,
    ::testing::Values(std::pair{1U, busy_by::yielding}, std::pair{1U, busy_by::succeeding},
                      std::pair{1U, busy_by::handing_over}, std::pair{2U, busy_by::yielding},
                      std::pair{2U, busy_by::succeeding}, std::pair{2U, busy_by::handing_over}),
    name_of);

}  // namespace
}  // namespace exeunt
