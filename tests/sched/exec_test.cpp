// SPDX-License-Identifier: Apache-2.0
// Programs that fibers start, by fork() and exec, posix_spawn() and system(): what comes of them,
// and what others do meanwhile. The mask of a child before its exec is in thread_mask_test.cpp.

#include <gtest/gtest.h>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <exeunt/sched/runtime.hpp>

#include "support/on_workers.hpp"
#include "support/partner.hpp"
#include "support/semaphore.hpp"

namespace exeunt {
namespace {

using test::semaphore;

enum class started_by : std::uint8_t { fork, posix_spawn, system };

int status_of(pid_t child) {
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status;
}

class exec_test : public ::testing::TestWithParam<started_by> {
 protected:
  // What a shell that is in the background, or nohup, lets be ignored, programs would inherit.
  exec_test() { former_ = ::signal(SIGPIPE, SIG_DFL); }
  ~exec_test() override { ::signal(SIGPIPE, former_); }

  // Runs `command` in a shell, and waits for its end as a plain thread does.
  // Returns: the status of waitpid(2).
  static int status_after(const std::string& command) {
    const char* const words[] = {"sh", "-c", command.c_str(), nullptr};
    char* const* const argv = const_cast<char* const*>(words);
    switch (GetParam()) {
      case started_by::fork: {
        const pid_t child = ::fork();
        if (child == 0) {
          ::execv("/bin/sh", argv);
          ::_exit(127);
        }
        return status_of(child);
      }
      case started_by::posix_spawn: {
        // As runtime's documentation has it, for a child that is to end by SIGPIPE.
        posix_spawnattr_t attributes;
        EXPECT_EQ(::posix_spawnattr_init(&attributes), 0);
        sigset_t none;
        sigemptyset(&none);
        EXPECT_EQ(::posix_spawnattr_setsigmask(&attributes, &none), 0);
        EXPECT_EQ(::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK), 0);
        pid_t child = -1;
        EXPECT_EQ(::posix_spawn(&child, "/bin/sh", nullptr, &attributes, argv, environ), 0);
        EXPECT_EQ(::posix_spawnattr_destroy(&attributes), 0);
        return status_of(child);
      }
      case started_by::system:
        return std::system(command.c_str());
    }
    return -1;
  }

 private:
  void (*former_)(int) = nullptr;
};

std::string name_of(const ::testing::TestParamInfo<started_by>& way) {
  constexpr std::array names{"fork", "posix_spawn", "system"};
  return names[static_cast<std::size_t>(way.param)];
}
INSTANTIATE_TEST_SUITE_P(ways, exec_test,
                         ::testing::Values(started_by::fork, started_by::posix_spawn,
                                           started_by::system),
                         name_of);

// Goal:   who waits for a program keeps his thread and nobody else's, whatever their number.
// Method: more programs than there are workers, each of which has begun and ends when it has read a
//         line, which is written after many hand-overs.
TEST_P(exec_test, the_status_is_seen_and_other_fibers_run_on) {
  constexpr int programs = 3;
  constexpr int rounds = 1'000;
  std::array<int, 2> begun{};
  std::array<int, 2> lines{};
  ASSERT_EQ(::pipe2(begun.data(), O_CLOEXEC | O_NONBLOCK), 0);
  ASSERT_EQ(::pipe2(lines.data(), O_CLOEXEC), 0);
  // What the programs inherit.
  const std::array<int, 2> ends{::dup(begun[1]), ::dup(lines[0])};
  const std::string command = "echo > /proc/self/fd/" + std::to_string(ends[0]) +
                              "; read line < /proc/self/fd/" + std::to_string(ends[1]) +
                              " && exit 7";
  test::run_on(2, [&] {
    semaphore done;
    for (int i = 0; i < programs; ++i) {
      go([&] {
        const int status = status_after(command);
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7) << status;
        done.post();
      });
    }
    char byte = 0;
    for (int i = 0; i < programs; ++i) {
      while (::read(begun[0], &byte, 1) != 1) yield();
    }
    {
      test::partner other{rounds};
      for (int i = 0; i < rounds; ++i) other.call();
    }
    // A byte each, as several that read at once may not share longer lines.
    for (int i = 0; i < programs; ++i) EXPECT_EQ(::write(lines[1], "\n", 1), 1);
    for (int i = 0; i < programs; ++i) done.wait();
  });
  for (const auto& both : {begun, lines, ends}) {
    for (const int fd : both) ::close(fd);
  }
}

// Goal:   programs that are started at the same time on several threads each report to their own
//         starter.
TEST_P(exec_test, many_at_once_each_have_their_status) {
  test::run_on(2, [] {
    constexpr int fibers = 8;
    constexpr int each = 3;
    std::atomic<int> right{0};
    semaphore done;
    for (int i = 0; i < fibers; ++i) {
      go([&, i] {
        for (int k = 0; k < each; ++k) {
          const int wanted = 1 + i * each + k;
          const int status = status_after("exit " + std::to_string(wanted));
          right += WIFEXITED(status) && WEXITSTATUS(status) == wanted ? 1 : 0;
          yield();
        }
        done.post();
      });
    }
    for (int i = 0; i < fibers; ++i) done.wait();
    EXPECT_EQ(right, fibers * each);
  });
}

// Goal:   a signal ends a program that a fiber has started, as one that a plain process starts.
TEST_P(exec_test, a_program_can_be_ended_by_signals) {
  if (std::getenv("EXEUNT_TEST_PROGRAM") != nullptr) {
    GTEST_SKIP() << "a program inherits the mask of qemu's own thread";
  }
  test::run_on(2, [] {
    for (const int number : {SIGTERM, SIGUSR1, SIGPIPE}) {
      // system() hands the mask on as it is, and a worker's blocks SIGPIPE.
      if (number == SIGPIPE && GetParam() == started_by::system) continue;
      const int status = status_after("kill -s " + std::to_string(number) + " $$; exit 3");
      EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == number) << number << ": " << status;
    }
  });
}

// Goal:   a program that cannot be executed is told to the fiber, as to anybody.
TEST(exec, of_what_is_not_there_fails_in_the_child_or_at_once) {
  test::run_on(2, [] {
    const char* const words[] = {"/nowhere/program", nullptr};
    char* const* const argv = const_cast<char* const*>(words);
    const pid_t forked = ::fork();
    if (forked == 0) {
      ::execv(words[0], argv);
      ::_exit(errno == ENOENT ? 5 : 6);
    }
    const int status = status_of(forked);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 5) << status;
    if (std::getenv("EXEUNT_TEST_PROGRAM") != nullptr) return;  // qemu's vfork() is a fork().
    pid_t spawned = -1;
    EXPECT_EQ(::posix_spawn(&spawned, words[0], nullptr, nullptr, argv, environ), ENOENT);
  });
}

}  // namespace
}  // namespace exeunt
