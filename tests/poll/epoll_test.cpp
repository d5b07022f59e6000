// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cerrno>
#include <cstddef>
#include <iterator>
#include <thread>

#include "poll/poller.hpp"

namespace exeunt::poll {
namespace {

constexpr auto just_look = clock::time_point::min();

struct pipe_ends {
  pipe_ends() {
    int fds[2] = {-1, -1};
    EXPECT_EQ(::pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
    reader = fds[0];
    writer = fds[1];
  }
  ~pipe_ends() {
    ::close(reader);
    ::close(writer);
  }
  pipe_ends(const pipe_ends&) = delete;
  pipe_ends& operator=(const pipe_ends&) = delete;

  int reader = -1;
  int writer = -1;
};

TEST(epoll, reports_each_edge_once) {
  const auto poller = make_epoll_poller();
  const pipe_ends ends;
  ASSERT_TRUE(poller->add(ends.reader, 7));
  event found[4];
  EXPECT_EQ(poller->wait(found, 4, just_look), 0U);
  ASSERT_EQ(::write(ends.writer, "a", 1), 1);
  ASSERT_EQ(poller->wait(found, 4, just_look), 1U);
  EXPECT_EQ(found[0].token, 7U);
  EXPECT_TRUE(found[0].readable);
  EXPECT_EQ(poller->wait(found, 4, just_look), 0U) << "the edge was reported twice";
  ASSERT_EQ(::write(ends.writer, "b", 1), 1);
  EXPECT_EQ(poller->wait(found, 4, just_look), 1U) << "new data is a new edge";
}

TEST(epoll, says_readable_when_the_peer_closes) {
  const auto poller = make_epoll_poller();
  pipe_ends ends;
  ASSERT_TRUE(poller->add(ends.reader, 1));
  ::close(ends.writer);
  event found[4];
  ASSERT_EQ(poller->wait(found, 4, just_look), 1U);
  EXPECT_TRUE(found[0].readable);
  EXPECT_TRUE(found[0].writable);
  ends.writer = ::dup(ends.reader);
}

TEST(epoll, a_removed_descriptor_is_silent) {
  const auto poller = make_epoll_poller();
  const pipe_ends ends;
  ASSERT_TRUE(poller->add(ends.reader, 1));
  poller->remove(ends.reader);
  ASSERT_EQ(::write(ends.writer, "a", 1), 1);
  event found[4];
  EXPECT_EQ(poller->wait(found, 4, just_look), 0U);
}

TEST(epoll, refuses_what_cannot_be_watched) {
  const auto poller = make_epoll_poller();
  const auto added = poller->add(-1, 1);
  ASSERT_FALSE(added);
  EXPECT_TRUE(added.error().is(std::errc::bad_file_descriptor));
}

// SC-27: more wakes than one are no more than one.
TEST(epoll, wakes_may_be_repeated) {
  const auto poller = make_epoll_poller();
  event found[4];
  for (int i = 0; i < 1000; ++i) poller->wake();
  EXPECT_EQ(poller->wait(found, 4, no_deadline), 0U);
  EXPECT_EQ(poller->wait(found, 4, just_look), 0U);
}

TEST(epoll, a_wake_before_the_wait_is_not_lost) {
  const auto poller = make_epoll_poller();
  event found[4];
  poller->wake();
  EXPECT_EQ(poller->wait(found, 4, just_look), 0U);
  // A look in passing must leave the wake-up to the one that blocks.
  EXPECT_EQ(poller->wait(found, 4, no_deadline), 0U);
}

// SC-27.
TEST(epoll, a_wake_from_another_thread_ends_the_wait) {
  const auto poller = make_epoll_poller();
  std::thread other{[&] { poller->wake(); }};
  event found[4];
  EXPECT_EQ(poller->wait(found, 4, no_deadline), 0U);
  other.join();
}

TEST(epoll, the_wait_ends_at_its_deadline_and_not_before) {
  const auto poller = make_epoll_poller();
  event found[4];
  const auto until = clock::now() + std::chrono::microseconds{300};
  EXPECT_EQ(poller->wait(found, 4, until), 0U);
  EXPECT_GE(clock::now(), until);
}

// Makes the calling thread's epoll_pwait2 fail with `number`. Returns: false where that cannot be.
bool refuse_pwait2(unsigned number) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_pwait2, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | number),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{.len = std::size(program), .filter = program};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// Old kernels say ENOSYS; old sandboxes, which do not know the call, EPERM.
TEST(epoll, waits_where_the_newer_system_call_is_refused) {
  for (const unsigned number : {ENOSYS, EPERM}) {
    std::thread{[number] {
      if (!refuse_pwait2(number)) GTEST_SKIP() << "no filters of system calls here";
      const auto poller = make_epoll_poller();
      event found[4];
      const auto until = clock::now() + std::chrono::milliseconds{3};
      EXPECT_EQ(poller->wait(found, 4, until), 0U);
      EXPECT_GE(clock::now(), until);
    }}.join();
  }
}

}  // namespace
}  // namespace exeunt::poll
