// SPDX-License-Identifier: Apache-2.0
// Fibers that a runtime's end leaves behind: what refers to them must stay harmless.

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <unistd.h>
#include <array>
#include <atomic>
#include <thread>
#include <utility>

#include <exeunt/sched/blocking.hpp>
#include <exeunt/sched/cancel.hpp>
#include <exeunt/sched/io.hpp>
#include <exeunt/sched/runtime.hpp>

#include "support/semaphore.hpp"
#include "support/until_parked.hpp"
#include "support/without_monitor.hpp"

namespace exeunt {
namespace {

using detail::wait_reason;
using test::semaphore;
using test::until_parked;

// Stops and destroys a runtime in which `body` has left one fiber that waits for `why`.
template <typename F>
void abandon_one(wait_reason why, F&& body) {
  runtime workers{{.procs = 2}};
  workers.run([&] {
    body();
    until_parked(1, why);
  });
  testing::internal::CaptureStderr();
  EXPECT_EQ(workers.stop(), 1U);
  const std::string report = testing::internal::GetCapturedStderr();
  EXPECT_NE(report.find("leaked fiber"), std::string::npos) << report;
  EXPECT_NE(report.find("abandoned_test.cpp:"), std::string::npos) << report;
}

TEST(abandoned, a_wake_up_for_one_may_come_after_its_runtime) {
  semaphore late;
  abandon_one(wait_reason::semaphore, [&] { go([&] { late.wait(); }); });
  late.post();
}

TEST(abandoned, a_blocking_job_may_end_after_the_runtime) {
  std::atomic<bool> may_end{false};
  semaphore ended;
  abandon_one(wait_reason::blocking, [&] {
    go([&] {
      std::array<char, 4096> on_stack{};
      blocking([&] {
        while (!may_end) std::this_thread::yield();
        on_stack.fill('x');
        ended.post();
        return on_stack;
      });
    });
  });
  may_end = true;
  ended.wait();
}

TEST(abandoned, a_cancel_may_come_after_the_runtime) {
  const auto node = detail::cancel_node::make(nullptr);
  abandon_one(wait_reason::context, [&] { go([node = node.get()] { node->wait(); }); });
  EXPECT_TRUE(node->cancel(errc::canceled, errc::canceled));
}

TEST(abandoned, a_sleeper_is_never_woken) {
  abandon_one(wait_reason::sleep, [] { go([] { sleep(std::chrono::hours{1}); }); });
}

// The descriptor's owner lives on, its waiter does not.
TEST(abandoned, a_descriptor_may_be_closed_after_the_runtime) {
  for (const bool shut_down_first : {false, true}) {
    int fds[2] = {-1, -1};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    detail::io_descriptor end;
    abandon_one(wait_reason::io_read, [&] {
      end = *detail::io_descriptor::adopt(fds[0]);
      go([&] {
        static_cast<void>(end.wait(detail::io_direction::read, wait_reason::io_read, nullptr));
        ADD_FAILURE() << "an abandoned fiber ran";
      });
    });
    if (shut_down_first) end.shut_down();
    end.close();
    ::close(fds[1]);
  }
}

// Who waits on a descriptor need not be a fiber of the descriptor's runtime.
TEST(abandoned, a_runtimes_end_ends_the_waits_of_others_on_its_descriptors) {
  int fds[2] = {-1, -1};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  runtime other{{.procs = 1}};
  detail::io_descriptor ends[2];
  result<> outcomes[2];
  std::thread thread;
  other.run([&] {
    semaphore done;
    {
      runtime workers{{.procs = 1}};
      workers.run([&] {
        for (int i = 0; i < 2; ++i) ends[i] = *detail::io_descriptor::adopt(fds[i]);
      });
      go([&] {
        outcomes[0] = ends[0].wait(detail::io_direction::read, wait_reason::io_read, nullptr,
                                   clock::now() + std::chrono::hours{1});
        done.post();
      });
      // It waits before the end or after it; the outcome is the same.
      thread = std::thread{[&] {
        outcomes[1] = ends[1].wait(detail::io_direction::read, wait_reason::io_read, nullptr);
      }};
      until_parked(1, wait_reason::io_read);
    }
    done.wait();
  });
  thread.join();
  for (const auto& outcome : outcomes) {
    ASSERT_FALSE(outcome);
    EXPECT_TRUE(outcome.error().is(errc::closed));
  }
  EXPECT_EQ(other.stop(), 0U);
}

TEST(abandoned, a_descriptor_may_be_closed_between_stop_and_the_end) {
  int fds[2] = {-1, -1};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  runtime workers{{.procs = 1}};
  detail::io_descriptor end;
  workers.run([&] {
    end = *detail::io_descriptor::adopt(fds[0]);
    end.start_when_readable([](void*) { ADD_FAILURE() << "started after the end"; }, nullptr);
    EXPECT_TRUE(end.cancel_start());
    go([&] {
      static_cast<void>(end.wait(detail::io_direction::read, wait_reason::io_read, nullptr));
    });
    until_parked(1, wait_reason::io_read);
  });
  testing::internal::CaptureStderr();
  EXPECT_EQ(workers.stop(), 1U);
  testing::internal::GetCapturedStderr();
  end.close();
  ::close(fds[1]);
}

// Goal:   a body that never ran is destroyed, and may wake fibers that are left.
// Method: one worker is kept from its queue until stop() gives up waiting for quiet, without a
//         monitor; what is queued then owns something whose destructor posts.
TEST(abandoned, bodies_that_never_ran_are_destroyed_while_the_rest_is_there) {
  struct posts_at_end {
    semaphore* at;
    int* count;
    posts_at_end(semaphore* s, int* c) : at{s}, count{c} {}
    posts_at_end(posts_at_end&& other) noexcept
        : at{std::exchange(other.at, nullptr)}, count{other.count} {}
    ~posts_at_end() {
      if (at == nullptr) return;
      at->post();
      ++*count;
    }
  };
  test::without_monitor alone;
  constexpr int queued = 100;  // More than a slab.
  semaphore gate;
  int destroyed = 0;
  testing::internal::CaptureStderr();
  {
    runtime workers{{.procs = 1, .seam = alone.seam()}};
    workers.run([&] {
      go([&] { gate.wait(); });
      until_parked(1, wait_reason::semaphore);
      go([&] {
        for (int i = 0; i < queued; ++i) {
          go([owned = posts_at_end{&gate, &destroyed}] { static_cast<void>(owned); });
        }
        // Longer than stop() waits. Should it be called late, the bodies run, and end as well.
        const auto until = clock::now() + std::chrono::milliseconds{200};
        while (clock::now() < until) {
        }
      });
    });
  }
  testing::internal::GetCapturedStderr();
  EXPECT_EQ(destroyed, queued);
}

}  // namespace
}  // namespace exeunt
