// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <sys/socket.h>
#include <unistd.h>
#include <cerrno>
#include <thread>

#include <exeunt/sched/blocking.hpp>
#include <exeunt/sched/cancel.hpp>
#include <exeunt/sched/io.hpp>
#include <exeunt/sched/runtime.hpp>

#include "support/on_workers.hpp"
#include "support/semaphore.hpp"

namespace exeunt::detail {
namespace {

struct two_ends {
  io_descriptor a;
  io_descriptor b;
};

two_ends make_pair() {
  int fds[2] = {-1, -1};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  auto a = io_descriptor::adopt(fds[0]);
  auto b = io_descriptor::adopt(fds[1]);
  EXPECT_TRUE(a && b);
  return {std::move(*a), std::move(*b)};
}

result<> wait_read(io_descriptor& fd, cancel_node* cancel = nullptr,
                   clock::time_point deadline = no_deadline) {
  return fd.wait(io_direction::read, wait_reason::io_read, cancel, deadline);
}

// Reads one byte as every user of a descriptor does: try, wait, try again.
char read_byte(io_descriptor& fd) {
  char byte = 0;
  while (::read(fd.fd(), &byte, 1) != 1) {
    EXPECT_EQ(errno, EAGAIN);
    EXPECT_TRUE(wait_read(fd));
  }
  return byte;
}

class io_test : public test::on_workers {};
EXEUNT_ON_WORKERS(io_test);

TEST_P(io_test, bytes_go_back_and_forth) {
  run([] {
    auto [a, b] = make_pair();
    test::semaphore done;
    constexpr int rounds = 500;
    go([&] {
      for (int i = 0; i < rounds; ++i) {
        const char byte = read_byte(b);
        EXPECT_EQ(::write(b.fd(), &byte, 1), 1);
      }
      done.post();
    });
    for (int i = 0; i < rounds; ++i) {
      const char byte = static_cast<char>('a' + i % 26);
      EXPECT_EQ(::write(a.fd(), &byte, 1), 1);
      EXPECT_EQ(read_byte(a), byte);
    }
    done.wait();
  });
}

TEST_P(io_test, a_plain_thread_may_wait_too) {
  run([] {
    auto [a, b] = make_pair();
    char seen = 0;
    std::thread reader{[&] { seen = read_byte(b); }};
    EXPECT_EQ(::write(a.fd(), "x", 1), 1);
    blocking([&] { reader.join(); });
    EXPECT_EQ(seen, 'x');
  });
}

TEST_P(io_test, a_deadline_ends_a_wait) {
  run([] {
    auto [a, b] = make_pair();
    // A fresh socket is ready to write once; only reading waits.
    const auto outcome = wait_read(a, nullptr, clock::now() + std::chrono::microseconds{200});
    ASSERT_FALSE(outcome);
    EXPECT_TRUE(outcome.error().is(errc::deadline_exceeded));
  });
}

TEST_P(io_test, a_cancelled_node_ends_a_wait) {
  run([] {
    auto [a, b] = make_pair();
    const auto node = cancel_node::make(nullptr);
    go([&, keep = node] { keep->cancel(errc::canceled, errc::canceled); });
    const auto outcome = wait_read(a, node.get());
    ASSERT_FALSE(outcome);
    EXPECT_TRUE(outcome.error().is(errc::canceled));
    EXPECT_FALSE(wait_read(a, node.get())) << "a wait under a cancelled node ends at once";
  });
}

TEST_P(io_test, shut_down_ends_waits_now_and_later) {
  run([] {
    auto [a, b] = make_pair();
    test::semaphore done;
    go([&] {
      const auto outcome = wait_read(a);
      EXPECT_FALSE(outcome);
      done.post();
    });
    yield();
    a.shut_down();
    done.wait();
    const auto later = wait_read(a);
    ASSERT_FALSE(later);
    EXPECT_TRUE(later.error().is(errc::closed));
  });
}

TEST_P(io_test, readiness_starts_a_fiber_and_only_once) {
  run([] {
    auto [a, b] = make_pair();
    struct state {
      test::semaphore started;
      io_descriptor* fd = nullptr;
      int starts = 0;
    } shared;
    shared.fd = &b;
    const auto body = [](void* argument) {
      auto& s = *static_cast<state*>(argument);
      ++s.starts;
      EXPECT_EQ(read_byte(*s.fd), 'y');
      s.started.post();
    };
    b.start_when_readable(body, &shared);
    EXPECT_EQ(::write(a.fd(), "y", 1), 1);
    shared.started.wait();
    EXPECT_EQ(shared.starts, 1);

    // Of another one: the kernel may have reported that byte twice, which starts at once, too.
    auto [c, d] = make_pair();
    d.start_when_readable(body, &shared);
    EXPECT_TRUE(d.cancel_start());
    EXPECT_FALSE(d.cancel_start());

    // What arrived while nobody was registered starts it at once.
    EXPECT_EQ(::write(a.fd(), "y", 1), 1);
    b.start_when_readable(body, &shared);
    shared.started.wait();
    EXPECT_EQ(shared.starts, 2);
  });
}

TEST_P(io_test, descriptors_are_reused_without_old_events) {
  run([] {
    for (int i = 0; i < 200; ++i) {
      auto [a, b] = make_pair();
      EXPECT_EQ(::write(a.fd(), "z", 1), 1);
      EXPECT_EQ(read_byte(b), 'z');
    }
  });
}

TEST(io_descriptor, refuses_what_is_no_descriptor) {
  const auto adopted = io_descriptor::adopt(-1);
  ASSERT_FALSE(adopted);
  EXPECT_TRUE(adopted.error().is(std::errc::bad_file_descriptor));
}

}  // namespace
}  // namespace exeunt::detail
