// SPDX-License-Identifier: Apache-2.0
// How a process ends that has used the default runtime: in child processes, as it ends once only.

#include <gtest/gtest.h>

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include <exeunt/base/log.hpp>
#include <exeunt/sched/io.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sched/timer_node.hpp>

#include "support/child.hpp"
#include "support/semaphore.hpp"
#include "support/until_parked.hpp"

namespace exeunt {
namespace {

using test::child;
using test::semaphore;

// What a fiber that never ends refers to must not end either.
template <typename T>
T& for_ever() {
  static auto* const made = new T;
  return *made;
}

std::size_t count_of(const std::string& text, const std::string& what) {
  std::size_t count = 0;
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

TEST(runtime_exit, a_leaked_fiber_is_reported_with_its_start_line_and_the_exit_code_kept) {
  static int line = 0;
  if (child::body() == "leak") {
    auto& parked = for_ever<semaphore>();
    line = __LINE__ + 1;
    go({.name = "left behind"}, [&] {
      parked.post();
      for_ever<std::pair<int, semaphore>>().second.wait();
    });
    parked.wait();
    test::say("line " + std::to_string(line) + ".");
    std::exit(7);
  }
  child leaks{"leak"};
  EXPECT_EQ(leaks.finish(), 7);
  const std::string& text = leaks.output();
  EXPECT_EQ(count_of(text, "leaked fiber"), 1U) << text;
  EXPECT_NE(text.find("\"left behind\" waits for semaphore"), std::string::npos) << text;
  const auto at = text.find("line ") + 5;
  const std::string place = "runtime_exit_test.cpp:" + text.substr(at, text.find('.', at) - at);
  EXPECT_NE(text.find(place + "\n"), std::string::npos) << text;
}

TEST(runtime_exit, nothing_is_said_when_nothing_is_left) {
  if (child::body() == "clean") {
    semaphore done;
    go([&] { done.post(); });
    done.wait();
    std::exit(0);
  }
  child clean{"clean"};
  EXPECT_EQ(clean.finish(), 0);
  EXPECT_EQ(clean.output().find("exeunt"), std::string::npos) << clean.output();
}

[[noreturn, gnu::noinline]] void spins_for_ever() {
  for (;;) asm volatile("");
}

// That it ends at all is the test; the bound of 100 ms is a constant in the source.
TEST(runtime_exit, a_fiber_that_never_yields_does_not_hold_it_up) {
  if (child::body() == "spin") {
    auto& runs = for_ever<semaphore>();
    go({.name = "spins"}, [&] {
      runs.post();
      spins_for_ever();
    });
    runs.wait();
    std::exit(5);
  }
  child spins{"spin"};
  EXPECT_EQ(spins.finish(), 5);
  const std::string& text = spins.output();
  EXPECT_NE(text.find("does not reach a scheduling point"), std::string::npos) << text;
  EXPECT_NE(text.find("\"spins\" is running"), std::string::npos) << text;
  EXPECT_NE(text.find("runtime_exit_test.cpp:"), std::string::npos) << text;
#if !EXEUNT_TSAN  // It keeps signals back until the thread makes a call that it knows.
  EXPECT_NE(text.find("spins_for_ever"), std::string::npos) << text;
#endif
}

TEST(runtime_exit, fibers_that_always_yield_are_stopped_and_reported) {
  if (child::body() == "yield") {
    auto& runs = for_ever<semaphore>();
    for (int i = 0; i < 3; ++i) {
      go([&] {
        runs.post();
        for (;;) yield();
      });
    }
    for (int i = 0; i < 3; ++i) runs.wait();
    std::exit(0);
  }
  child yields{"yield"};
  EXPECT_EQ(yields.finish(), 0);
  EXPECT_EQ(count_of(yields.output(), "leaked fiber"), 3U) << yields.output();
}

TEST(runtime_exit, may_be_called_by_a_fiber) {
  if (child::body() == "inside") {
    go({.name = "calls exit"}, [] { std::exit(3); });
    semaphore never;
    never.wait();
  }
  child inside{"inside"};
  EXPECT_EQ(inside.finish(), 3);
  EXPECT_EQ(inside.output().find("exeunt"), std::string::npos) << inside.output();
}

// Whatever the destructors of static objects do, they must not need the loop of a worker that is
// in the middle of exit().
TEST(runtime_exit, may_be_called_by_a_fiber_before_destructors_that_wait) {
  if (child::body() == "inside, then waits") {
    // Made before the runtime is first used, and so destroyed after it has stopped.
    static struct waits {
      ~waits() {
        for (int i = 0; i < 300; ++i) detail::checkpoint();
        yield();
        sleep(std::chrono::milliseconds{1});
        semaphore posted;
        std::thread other{[&] { posted.post(); }};
        posted.wait();
        other.join();
        if (!runtime::on_fiber()) test::say("destroyed");
      }
    } const at_end;
    go([] { std::exit(3); });
    semaphore never;
    never.wait();
  }
  child inside{"inside, then waits"};
  EXPECT_EQ(inside.finish(), 3) << inside.output();
  EXPECT_NE(inside.output().find("destroyed"), std::string::npos) << inside.output();
}

// A listener in a static object is closed after the default runtime has stopped.
TEST(runtime_exit, static_objects_may_close_descriptors_that_fibers_wait_on) {
  if (child::body() == "static") {
    static detail::io_descriptor end;
    static int fds[2] = {-1, -1};
    // Made before the runtime is first used, and so destroyed after it has stopped.
    static struct closes {
      ~closes() {
        end.close();
        char byte = 0;
        if (::read(fds[1], &byte, 1) == 0) test::say("closed");
      }
    } const at_end;
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    end = *detail::io_descriptor::adopt(fds[0]);
    auto& waits = for_ever<semaphore>();
    go([&] {
      waits.post();
      static_cast<void>(
          end.wait(detail::io_direction::read, detail::wait_reason::io_read, nullptr));
    });
    waits.wait();
    std::exit(0);
  }
  child statics{"static"};
  EXPECT_EQ(statics.finish(), 0) << statics.output();
  EXPECT_NE(statics.output().find("closed"), std::string::npos) << statics.output();
  EXPECT_NE(statics.output().find("network read"), std::string::npos) << statics.output();
}

TEST(runtime_exit, a_forked_child_may_exit_and_reports_nothing) {
  if (child::body() == "fork") {
    auto& parked = for_ever<semaphore>();
    go([&] {
      parked.post();
      for_ever<std::pair<int, semaphore>>().second.wait();
    });
    parked.wait();
    const pid_t forked = ::fork();
    if (forked == 0) std::exit(4);
    int status = 0;
    EXPECT_EQ(::waitpid(forked, &status, 0), forked);
    EXPECT_EQ(WEXITSTATUS(status), 4);
    std::exit(0);
  }
  child forks{"fork"};
  EXPECT_EQ(forks.finish(), 0) << forks.output();
  EXPECT_EQ(count_of(forks.output(), "leaked fiber"), 1U) << forks.output();
}

// A child's copies of the parent's descriptors are destroyed by its exit(), and share the poller.
TEST(runtime_exit, a_forked_childs_exit_leaves_the_parents_descriptors_registered) {
  if (child::body() == "fork with descriptor") {
    static detail::io_descriptor end;
    static runtime second{{.procs = 1}};
    int fds[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    second.run([&] { end = *detail::io_descriptor::adopt(fds[0]); });
    const pid_t forked = ::fork();
    if (forked == 0) std::exit(4);
    int status = 0;
    EXPECT_EQ(::waitpid(forked, &status, 0), forked);
    EXPECT_EQ(WEXITSTATUS(status), 4);
    EXPECT_EQ(::write(fds[1], "x", 1), 1);
    second.run([] {
      EXPECT_TRUE(end.wait(detail::io_direction::read, detail::wait_reason::io_read, nullptr));
    });
    end.close();
    EXPECT_EQ(second.stop(), 0U);
    test::say("still registered");
    std::exit(0);
  }
  child forks{"fork with descriptor"};
  EXPECT_EQ(forks.finish(), 0) << forks.output();
  EXPECT_NE(forks.output().find("still registered"), std::string::npos) << forks.output();
}

TEST(runtime_exit, each_call_of_a_forked_child_that_needs_a_runtime_says_so) {
  struct attempt {
    const char* said;
    void (*make)();
  };
  static const attempt attempts[] = {
      {"yields", [] { yield(); }},
      {"waits", [] { semaphore{}.wait(); }},
      {"waits until a time", [] { sleep(std::chrono::milliseconds{1}); }},
      {"makes a runtime", [] { const runtime another{{.procs = 1}}; }},
      {"needs a runtime", [] { static_cast<void>(runtime::current()); }},
      {"registers a descriptor",
       [] { static_cast<void>(detail::io_descriptor::adopt(::dup(STDOUT_FILENO))); }},
      {"returns from the fiber that forked it", nullptr},
  };
  if (child::body() == "fork and call") {
    runtime workers{{.procs = 1}};
    for (const attempt& made : attempts) {
      int status = 0;
      workers.run([&] {
        const pid_t forked = ::fork();
        if (forked == 0 && made.make == nullptr) return;
        if (forked == 0) {
          made.make();
          std::_Exit(0);
        }
        EXPECT_EQ(::waitpid(forked, &status, 0), forked);
      });
      EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) << made.said;
    }
    std::exit(testing::Test::HasFailure() ? 1 : 0);
  }
  child forks{"fork and call"};
  EXPECT_EQ(forks.finish(), 0) << forks.output();
  for (const attempt& made : attempts) {
    const std::string text = std::string{"a forked child "} + made.said + "; only exec is allowed";
    EXPECT_EQ(count_of(forks.output(), text), 1U) << text << " in\n" << forks.output();
  }
}

// What only touches memory goes on, so that exit() may destroy what the child has inherited.
TEST(runtime_exit, a_forked_child_may_wake_stop_and_destroy_what_it_inherited) {
  if (child::body() == "fork and destroy") {
    auto* const workers = new runtime{{.procs = 1}};
    semaphore gate;
    int fds[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    detail::io_descriptor end;
    workers->run([&] {
      end = *detail::io_descriptor::adopt(fds[0]);
      go([&] { gate.wait(); });
      test::until_parked(1, detail::wait_reason::semaphore);
    });
    auto several = std::make_unique<detail::ticket>();
    auto timeout =
        std::make_unique<detail::timeout_waiter>(*several, clock::now() + std::chrono::hours{1});
    const pid_t forked = ::fork();
    if (forked == 0) {
      gate.post();
      gate.post();
      gate.wait();  // Which finds the second.
      timeout.reset();
      end.shut_down();
      end.close();
      EXPECT_EQ(workers->stop(), 0U);
      delete workers;
      std::_Exit(testing::Test::HasFailure() ? 1 : 0);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(forked, &status, 0), forked);
    EXPECT_EQ(status, 0);
    timeout.reset();
    gate.post();
    end.close();
    EXPECT_EQ(workers->stop(), 0U);
    delete workers;
    std::exit(testing::Test::HasFailure() ? 1 : 0);
  }
  child forks{"fork and destroy"};
  EXPECT_EQ(forks.finish(), 0) << forks.output();
}

TEST(runtime_exit, a_forked_child_that_goes_on_is_told_why_it_may_not) {
  if (child::body() == "fork on") {
    semaphore done;
    int status = 0;
    go([&] {
      const pid_t forked = ::fork();
      if (forked == 0) {
        go([] {});
        std::_Exit(0);
      }
      ::waitpid(forked, &status, 0);
      done.post();
    });
    done.wait();
    std::exit(WIFSIGNALED(status) ? WTERMSIG(status) : 0);
  }
  child forks{"fork on"};
  EXPECT_EQ(forks.finish(), SIGABRT);
  EXPECT_NE(forks.output().find("only exec is allowed after fork"), std::string::npos)
      << forks.output();
}

#if !EXEUNT_ASAN  // UBSan opens a pipe to look at an object, and takes it for broken without one.
// Calls that cannot fail, such as the start of a timer, end the process with the reason.
TEST(runtime_exit, a_default_runtime_that_cannot_start_says_what_was_refused) {
  if (child::body() == "no descriptors") {
    const rlimit none{0, 0};
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
    sleep(std::chrono::microseconds{1});
    test::say("a thread sleeps by itself.");
    try {
      go([] {});
    } catch (const std::system_error& refused) {
      test::say("go() throws.");
    }
    struct alarm : detail::timer_node {
      alarm() : timer_node{[](timer_node&, clock::time_point) noexcept { return no_deadline; }} {}
    } late;
    late.start(clock::now() + std::chrono::hours{1});
    std::exit(0);
  }
  child refused{"no descriptors"};
  EXPECT_EQ(refused.finish(), 1000 + SIGABRT);
  for (const char* const part : {"sleeps by itself", "go() throws", "default runtime cannot start",
                                 "epoll_create1: Too many open files", "ulimit -n"}) {
    EXPECT_NE(refused.output().find(part), std::string::npos) << part << " in " << refused.output();
  }
}

#endif

#if !EXEUNT_ASAN && !EXEUNT_TSAN  // They need all the address space there is.
// To what there is, and so many bytes more.
void limit_address_space(std::size_t more) {
  std::ifstream statm{"/proc/self/statm"};
  std::size_t pages = 0;
  statm >> pages;
  const rlim_t bytes = pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) + more;
  const rlimit limit{bytes, bytes};
  EXPECT_EQ(::setrlimit(RLIMIT_AS, &limit), 0);
}

// SC-25: as many workers as anybody may ask for, where there is room for them.
TEST(runtime_exit, a_thousand_workers_start) {
#if defined(EXEUNT_TSAN)
  constexpr unsigned count = 128;  // The tool has room for some thousand threads and fibers.
#else
  constexpr unsigned count = 1024;
#endif
  if (std::getenv("EXEUNT_TEST_PROGRAM") != nullptr) GTEST_SKIP() << "too many for qemu";
  runtime workers{{.procs = count}};
  EXPECT_EQ(workers.run([] { return 6; }), 6);
  EXPECT_EQ(workers.stop(), 0U);
}

// SC-25: a limit of the system.
TEST(runtime_exit, a_thread_that_the_system_refuses_is_an_exception_and_leaves_nothing) {
  if (child::body() == "refused") {
    limit_address_space(96U << 20U);
    try {
      const runtime too_many{{.procs = 512}};
      test::say("no exception");
    } catch (const std::system_error& refused) {
      test::say("refused");
    }
    runtime few{{.procs = 2}};
    std::exit(few.run([] { return 6; }));
  }
  if (std::getenv("EXEUNT_TEST_PROGRAM") != nullptr) {
    GTEST_SKIP() << "qemu keeps limits of the address space for itself";
  }
  child refused{"refused"};
  EXPECT_EQ(refused.finish(), 6) << refused.output();
  EXPECT_NE(refused.output().find("refused"), std::string::npos) << refused.output();
}

// Goal:   a fiber for whose stack there is no memory runs when others have ended, and is told of.
// Method: a limit that admits some of the fibers, which wait until the shortage has been told.
TEST(runtime_exit, fibers_without_memory_for_a_stack_wait_for_others_to_end) {
  if (child::body() == "few stacks") {
    constexpr int count = 300;
    auto& [told, done] = for_ever<std::pair<semaphore, semaphore>>();
    runtime workers{{.procs = 2}};
    set_log_sink([](std::string_view text) noexcept {
      test::say(text);
      if (text.find("no address space") == text.npos) return;
      for_ever<std::pair<semaphore, semaphore>>().first.post();
    });
    limit_address_space(96U << 20U);
    for (int i = 0; i < count; ++i) {
      workers.go({.stack_size = std::size_t{1} << 20U}, [&told, &done] {
        told.wait();
        told.post();
        done.post();
      });
    }
    for (int i = 0; i < count; ++i) done.wait();
    std::exit(static_cast<int>(workers.stop()));
  }
  if (std::getenv("EXEUNT_TEST_PROGRAM") != nullptr) {
    GTEST_SKIP() << "qemu keeps limits of the address space for itself";
  }
  child few{"few stacks"};
  EXPECT_EQ(few.finish(), 0) << few.output();
  EXPECT_NE(few.output().find("no address space is left for another fiber's stack"),
            std::string::npos)
      << few.output();
}
#endif

}  // namespace
}  // namespace exeunt
