// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <exeunt/base/log.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/sched/blocking.hpp>
#include <exeunt/sched/fiber_local.hpp>
#include <exeunt/sched/runtime.hpp>

#include "sched/seam.hpp"
#include "support/child.hpp"
#include "support/semaphore.hpp"
#include "support/without_monitor.hpp"

namespace exeunt {
namespace {

using test::child;
using test::semaphore;

// A library's thread-local, reached by the rule of docs/guide/thread-locals.md. Fibers of one
// thread have it in turn, of which ThreadSanitizer is told nothing.
thread_local const char* span_of_thread = nullptr;
[[gnu::noinline]] EXEUNT_NO_TSAN const char*& span() {
  const char** here = &span_of_thread;
  asm volatile("" : "+r"(here) : : "memory");
  return *here;
}
EXEUNT_NO_TSAN const char* get_span() { return span(); }
EXEUNT_NO_TSAN void set_span(const char* to) { span() = to; }

void swap_span(void* state) noexcept { std::swap(*static_cast<const char**>(state), span()); }

TEST(switch_hooks, a_thread_local_goes_with_each_fiber) {
  detail::seam parts{.migrate_always = true};
  runtime workers{
      {.procs = 3, .on_switch = {{.enter = swap_span, .leave = swap_span}}, .seam = &parts}};
  workers.run([] {
    semaphore done;
    static constexpr const char* names[] = {"a", "b", "c", "d", "e"};
    set_span("main");
    for (const char* const name : names) {
      go([&done, name] {
        EXPECT_EQ(get_span(), nullptr) << "a fiber begins with nothing";
        set_span(name);
        for (int i = 0; i < 100; ++i) {
          yield();
          EXPECT_EQ(get_span(), name);
          if (i % 25 == 0) {
            blocking([] { EXPECT_EQ(get_span(), nullptr); });
          }
          try {
            throw std::runtime_error{"x"};
          } catch (const std::exception&) {
            yield();
            EXPECT_EQ(get_span(), name);
          }
        }
        done.post();
      });
    }
    for (int i = 0; i < 5; ++i) done.wait();
    EXPECT_STREQ(get_span(), "main");
  });
  EXPECT_EQ(workers.stop(), 0U);
  EXPECT_EQ(get_span(), nullptr);
}

// Everything that is called, by a letter, the hook's number and the fiber.
struct journal {
  static void add(char what, int hook, void* state) {
    const std::lock_guard guard{lock};
    lines.push_back(std::string{what} + std::to_string(hook));
    states.push_back(state);
    fibers.push_back(this_fiber::id());
  }
  static void clear() {
    lines.clear();
    states.clear();
    fibers.clear();
  }
  static inline std::mutex lock;
  static inline std::vector<std::string> lines;
  static inline std::vector<void*> states;
  static inline std::vector<std::uint64_t> fibers;
};

template <int Hook, std::size_t Bytes = sizeof(void*)>
constexpr switch_hook writes_down() {
  return {.state_bytes = Bytes,
          .start = [](void* state) noexcept { journal::add('s', Hook, state); },
          .enter = [](void* state) noexcept { journal::add('+', Hook, state); },
          .leave = [](void* state) noexcept { journal::add('-', Hook, state); },
          .end = [](void* state) noexcept { journal::add('e', Hook, state); }};
}

TEST(switch_hooks, are_called_in_pairs_and_nested) {
  journal::clear();
  runtime workers{{.procs = 1, .on_switch = {writes_down<1, 1>(), writes_down<2, 24>()}}};
  std::uint64_t id = 0;
  workers.run([&] {
    id = this_fiber::id();
    sleep(std::chrono::microseconds{1});
  });
  EXPECT_EQ(workers.stop(), 0U);
  EXPECT_EQ(journal::lines, (std::vector<std::string>{"s1", "s2", "+1", "+2", "-2", "-1", "+1",
                                                      "+2", "-2", "-1", "e2", "e1"}));
  ASSERT_EQ(journal::states.size(), 12U);
  const auto first = reinterpret_cast<std::uintptr_t>(journal::states[0]);
  EXPECT_EQ(first % alignof(std::max_align_t), 0U);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(journal::states[1]),
            first + alignof(std::max_align_t));
  for (std::size_t i = 2; i < journal::lines.size(); ++i) {
    EXPECT_EQ(journal::states[i], journal::states[journal::lines[i][1] == '1' ? 0 : 1]) << i;
    EXPECT_EQ(journal::fibers[i], id) << i;
  }
}

TEST(switch_hooks, a_fiber_may_begin_with_what_its_starter_has) {
  runtime workers{
      {.procs = 2,
       .on_switch = {
           {.start = [](void* state) noexcept { *static_cast<const char**>(state) = span(); },
            .enter = swap_span,
            .leave = swap_span}}}};
  set_span("of the thread");
  workers.run([] {
    EXPECT_STREQ(get_span(), "of the thread");
    set_span("of the parent");
    semaphore done;
    go([&] {
      EXPECT_STREQ(get_span(), "of the parent");
      set_span("of the child");
      done.post();
    });
    done.wait();
    EXPECT_STREQ(get_span(), "of the parent");
  });
  EXPECT_STREQ(get_span(), "of the thread");
  set_span(nullptr);
}

// Goal:   the values of a fiber's fiber_locals go while its state is on the thread, and the hooks
//         are called for their waits.
TEST(switch_hooks, see_the_fiber_until_its_values_are_gone) {
  journal::clear();
  struct value {
    ~value() {
      EXPECT_STREQ(get_span(), "mine");
      sleep(std::chrono::microseconds{1});
      EXPECT_STREQ(get_span(), "mine");
      journal::add('v', 0, nullptr);
    }
  };
  fiber_local<value> local;
  runtime workers{
      {.procs = 1, .on_switch = {{.enter = swap_span, .leave = swap_span}, writes_down<1>()}}};
  workers.run([&] {
    set_span("mine");
    *local;
  });
  EXPECT_EQ(workers.stop(), 0U);
  EXPECT_EQ(journal::lines, (std::vector<std::string>{"s1", "+1", "-1", "+1", "v0", "-1", "e1"}));
}

// Goal:   who is started is ended, once: at its end, or with the runtime if it never ran.
// Method: a fiber keeps the only worker until the stop complains of it, so that what is started
//         after it never runs.
TEST(switch_hooks, end_once_for_each_fiber_though_it_never_ran) {
  static std::atomic<int> started;
  static std::atomic<int> ended;
  static std::atomic<bool> complained;
  started = ended = 0;
  complained = false;
  set_log_sink([](std::string_view text) noexcept {
    if (text.find("does not reach a scheduling point") != text.npos) complained = true;
  });
  {
    test::without_monitor alone;
    runtime workers{{.procs = 1,
                     .on_switch = {{.start = [](void*) noexcept { ++started; },
                                    .end = [](void*) noexcept { ++ended; }}},
                     .seam = alone.seam()}};
    workers.run([] {
      semaphore done;
      for (int i = 0; i < 10; ++i) go([&] { done.post(); });
      for (int i = 0; i < 10; ++i) done.wait();
    });
    std::atomic<bool> runs{false};
    workers.go([&] {
      runs = true;
      while (!complained) std::this_thread::yield();
    });
    while (!runs) std::this_thread::yield();
    for (int i = 0; i < 5; ++i) workers.go([] { ADD_FAILURE() << "ran after the stop"; });
    EXPECT_EQ(workers.stop(), 5U);
    EXPECT_EQ(ended, 12);
  }
  set_log_sink(nullptr);
  EXPECT_EQ(started, 17);
  EXPECT_EQ(ended, 17);
}

TEST(switch_hooks, do_not_end_for_an_abandoned_fiber) {
  static std::atomic<int> left;
  static std::atomic<int> ended;
  left = ended = 0;
  semaphore never;
  {
    runtime workers{{.procs = 1,
                     .on_switch = {{.leave = [](void*) noexcept { ++left; },
                                    .end = [](void*) noexcept { ++ended; }}}}};
    workers.go([&] { never.wait(); });
    testing::internal::CaptureStderr();
    EXPECT_EQ(workers.stop(), 1U);
    static_cast<void>(testing::internal::GetCapturedStderr());
  }
  EXPECT_EQ(left, 1);
  EXPECT_EQ(ended, 0);
}

TEST(switch_hooks, that_wait_are_fatal) {
  if (child::body() == "waits") {
    runtime workers{{.procs = 1, .on_switch = {{.leave = [](void*) noexcept {
                                   sleep(std::chrono::microseconds{1});
                                 }}}}};
    workers.run([] { sleep(std::chrono::microseconds{1}); });
  }
  child waits{"waits"};
  EXPECT_EQ(waits.finish(), 1000 + SIGABRT);
  EXPECT_NE(waits.output().find("a switch hook made a call that waits"), std::string::npos)
      << waits.output();
}

}  // namespace
}  // namespace exeunt
