// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <exeunt/base/function.hpp>
#include <exeunt/sched/blocking.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sched/timer_node.hpp>

#include "support/on_workers.hpp"
#include "support/semaphore.hpp"

namespace exeunt {
namespace {

using test::run_on;
using test::semaphore;

class runtime_test : public test::on_workers {};
EXEUNT_ON_WORKERS(runtime_test);

TEST_P(runtime_test, runs_every_fiber_once) {
  run([] {
    constexpr int count = 5'000;
    semaphore done;
    std::atomic<int> sum{0};
    for (int i = 0; i < count; ++i) {
      go([&, i] {
        sum += i;
        done.post();
      });
    }
    for (int i = 0; i < count; ++i) done.wait();
    EXPECT_EQ(sum, count * (count - 1) / 2);
  });
}

TEST_P(runtime_test, go_takes_arguments_by_value_and_move_only_callables) {
  run([] {
    semaphore done;
    auto owned = std::make_unique<int>(7);
    int seen = 0;
    go(
        [&](std::unique_ptr<int> value) {
          seen = *value;
          done.post();
        },
        std::move(owned));
    done.wait();
    EXPECT_EQ(seen, 7);
    EXPECT_EQ(owned, nullptr);
  });
}

// SC: fibers that yield take turns, on any number of workers.
TEST_P(runtime_test, yield_lets_others_run) {
  run([] {
    std::atomic<bool> other_ran{false};
    go([&] { other_ran = true; });
    while (!other_ran) yield();
    SUCCEED();
  });
}

TEST_P(runtime_test, a_deep_chain_of_starts_ends) {
  run([] {
    semaphore done;
    struct chain {
      static void link(int left, semaphore& end) {
        if (left == 0) return end.post();
        go([left, &end] { link(left - 1, end); });
      }
    };
    chain::link(10'000, done);
    done.wait();
  });
}

TEST_P(runtime_test, sleep_lasts_at_least_as_long_as_asked) {
  run([] {
    const auto until = clock::now() + std::chrono::milliseconds{2};
    sleep(std::chrono::milliseconds{2});
    EXPECT_GE(clock::now(), until);
  });
}

TEST_P(runtime_test, sleepers_wake_in_the_order_of_their_deadlines) {
  run([] {
    std::mutex lock;
    std::vector<int> order;
    semaphore done;
    const auto start = clock::now();
    for (const int delay : {5, 1, 3}) {
      go([&, delay] {
        detail::ticket one;
        detail::timeout_waiter timeout{one, start + std::chrono::milliseconds{delay}};
        detail::park(one, detail::wait_reason::sleep, nullptr);
        {
          const std::lock_guard guard{lock};
          order.push_back(delay);
        }
        done.post();
      });
    }
    for (int i = 0; i < 3; ++i) done.wait();
    // Several workers may run what woke in order in any order.
    if (runtime::current().stats().workers == 1) {
      EXPECT_EQ(order, (std::vector{1, 3, 5}));
    }
    EXPECT_EQ(order.size(), 3U);
  });
}

// Goal:   what is started on one worker is run by two.
// Method: each fiber waits, without parking, until a second thread has shown up.
TEST(runtime_on_two_workers, spreads_fibers_started_on_one) {
  run_on(2, [] {
    std::atomic<int> first_thread{0};
    std::atomic<bool> two_threads{false};
    semaphore done;
    for (int i = 0; i < 2; ++i) {
      go([&] {
        int none = 0;
        if (!first_thread.compare_exchange_strong(none, ::gettid()) && none != ::gettid()) {
          two_threads = true;
        }
        while (!two_threads) {
        }
        done.post();
      });
    }
    done.wait();
    done.wait();
    EXPECT_TRUE(two_threads);
  });
}

TEST(runtime_life, several_live_at_once_and_do_not_mix) {
  runtime first{{.procs = 1}};
  runtime second{{.procs = 2}};
  std::set<runtime*> seen;
  first.run([&] { seen.insert(&runtime::current()); });
  second.run([&] { seen.insert(&runtime::current()); });
  EXPECT_EQ(seen, (std::set{&first, &second}));
}

TEST(runtime_life_death, refuses_fibers_once_it_has_been_stopped) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto after_stop = [](auto start) {
    runtime workers{{.procs = 1}};
    workers.run([] {});
    workers.stop();
    start(workers);
  };
  EXPECT_DEATH(after_stop([](runtime& workers) { workers.run([] {}); }), "has been stopped");
  EXPECT_DEATH(after_stop([](runtime& workers) { workers.go([] {}); }), "has been stopped");
}

// It would wait for the fiber that waits for it.
TEST(runtime_life_death, cannot_be_ended_by_one_of_its_own_fibers) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  constexpr const char* said = "a runtime cannot be stopped by one of its own fibers";
  for (const unsigned procs : {1U, 2U}) {
    EXPECT_DEATH(
        {
          runtime workers{{.procs = procs}};
          workers.run([&] { workers.stop(); });
        },
        said);
    EXPECT_DEATH(
        {
          auto* const workers = new runtime{{.procs = procs}};
          workers->run([&] { delete workers; });
        },
        said);
  }
}

// Goal:   who stops another runtime waits as a plain thread does, and keeps nobody but himself.
// Method: a fiber of that runtime does not come back until one has run that is ready behind the
//         fiber that stops it.
TEST(runtime_life, may_be_stopped_by_a_fiber_of_another) {
  for (const unsigned procs : {1U, 2U}) {
    SCOPED_TRACE(procs);
    runtime first{{.procs = procs}};
    runtime second{{.procs = procs}};
    std::atomic<bool> runs{false};
    std::atomic<bool> may_end{false};
    int written = 0;
    second.go([&] {
      runs = true;
      while (!may_end) std::this_thread::yield();
      written = 5;
    });
    while (!runs) std::this_thread::yield();
    first.run([&] {
      go([&] { may_end = true; });
      EXPECT_EQ(second.stop(), 0U);
      EXPECT_EQ(written, 5);
      EXPECT_EQ(second.stats().fibers_alive, 0U);
    });
    EXPECT_EQ(first.run([] { return 6; }), 6);
    test::stop_and_expect_none_left(first);
  }
}

TEST(runtime_life, the_fault_handler_stays_while_one_of_several_wants_it) {
  const auto handler = [] {
    struct sigaction now{};
    ::sigaction(SIGSEGV, nullptr, &now);
    return reinterpret_cast<void*>(now.sa_handler);
  };
  void* const before = handler();
  {
    const runtime first{{.procs = 1, .signal_dumps = true}};
    void* const ours = handler();
    EXPECT_NE(ours, before);
    {
      const runtime second{{.procs = 1, .signal_dumps = true}};
    }
    EXPECT_EQ(handler(), ours);
  }
  EXPECT_EQ(handler(), before);
}

// The counts of started and of ended fibers are read one after the other.
TEST(runtime_life, may_be_looked_at_while_fibers_come_and_go) {
  runtime workers{{.procs = 2}};
  std::atomic<bool> enough{false};
  workers.go([&] {
    while (!enough) {
      for (int i = 0; i < 50; ++i) go([] {});
      yield();
    }
  });
  for (int i = 0; i < 2'000; ++i) {
    EXPECT_LT(workers.stats().fibers_alive, 1'000'000U);
    if (i % 20 == 0) {
      EXPECT_LT(workers.fibers().size(), 1'000'000U);
    }
  }
  enough = true;
  EXPECT_EQ(workers.stop(), 0U);
}

TEST(runtime_life, can_be_made_and_stopped_again_and_again) {
  for (int i = 0; i < 50; ++i) {
    runtime workers{{.procs = 1U + static_cast<unsigned>(i) % 4U}};
    EXPECT_EQ(workers.run([i] { return i; }), i);
    EXPECT_EQ(workers.stop(), 0U);
    EXPECT_EQ(workers.stop(), 0U) << "a second stop must be harmless";
  }
}

TEST(runtime_life, a_fiber_of_one_wakes_a_fiber_of_another) {
  runtime first{{.procs = 1}};
  runtime second{{.procs = 1}};
  semaphore there;
  semaphore back;
  second.go([&] {
    there.wait();
    back.post();
  });
  first.run([&] {
    there.post();
    back.wait();
  });
}

TEST(runtime_life, the_default_one_starts_at_first_use_from_any_thread) {
  semaphore done;
  std::uint64_t id = 0;
  std::thread{[&] {
    go([&] {
      id = this_fiber::id();
      done.post();
    });
  }}.join();
  done.wait();
  EXPECT_NE(id, 0U);
}

TEST(runtime_life, run_gives_exceptions_and_values_to_the_caller) {
  runtime workers{{.procs = 1}};
  EXPECT_EQ(workers.run([] { return std::string{"value"}; }), "value");
  EXPECT_THROW(workers.run([] { throw std::out_of_range{"x"}; }), std::out_of_range);
}

// ThreadSanitizer is the judge: nothing else orders the two.
TEST(runtime_life, what_its_fibers_did_comes_before_the_return_of_stop) {
  int v = 0;
  std::atomic<bool> done = false;  // Relaxed: orders nothing.
  runtime workers{{.procs = 2}};
  workers.go([&] {
    v = 1;
    done.store(true, std::memory_order_relaxed);
  });
  while (!done.load(std::memory_order_relaxed)) std::this_thread::yield();
  EXPECT_EQ(workers.stop(), 0U);
  EXPECT_EQ(v, 1);
}

TEST(runtime_life, counts_and_names_what_stop_abandons) {
  runtime workers{{.procs = 2}};
  semaphore never;
  workers.run([&] { go({.name = "left behind"}, [&] { never.wait(); }); });
  // stop() first lets what is ready run, so the fiber is parked by then.
  testing::internal::CaptureStderr();
  EXPECT_EQ(workers.stop(), 1U);
  const std::string report = testing::internal::GetCapturedStderr();
  EXPECT_NE(report.find("left behind"), std::string::npos) << report;
  EXPECT_NE(report.find("semaphore"), std::string::npos) << report;
  EXPECT_NE(report.find("runtime_test.cpp:"), std::string::npos) << report;
}

TEST(run_main, translates_what_the_body_returns) {
  EXPECT_EQ(run([] {}), 0);
  EXPECT_EQ(run([] { return 3; }), 3);
  EXPECT_EQ(run([]() -> result<> { return {}; }), 0);
  testing::internal::CaptureStderr();
  EXPECT_EQ(run([]() -> result<> { return fail(errc::closed, "the door is closed"); }), 1);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("the door is closed"), std::string::npos);
}

TEST(run_main, reports_an_exception_with_the_stack_of_its_throw) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(run([] { throw std::runtime_error{"no way"}; }), 1);
  const std::string report = testing::internal::GetCapturedStderr();
  EXPECT_NE(report.find("no way (std::runtime_error)"), std::string::npos) << report;
  EXPECT_NE(report.find("#0"), std::string::npos) << report;
}

// --- panics

TEST(panic, leaving_a_fiber_is_reported_counted_and_survived) {
  runtime workers{{.procs = 1}};
  testing::internal::CaptureStderr();
  workers.run([] {
    semaphore done;
    go({.name = "thrower"}, [] { throw std::runtime_error{"kaput"}; });
    go([&] { done.post(); });
    done.wait();
  });
  EXPECT_EQ(workers.stop(), 0U);
  const std::string report = testing::internal::GetCapturedStderr();
  for (const char* const part :
       {"kaput", "std::runtime_error", "\"thrower\"", "runtime_test.cpp:", "thrown at", "#0"}) {
    EXPECT_NE(report.find(part), std::string::npos) << part << " is missing in\n" << report;
  }
  EXPECT_EQ(workers.stats().panics, 1U);
}

TEST(panic, the_handler_gets_it_instead) {
  panic_report seen{.what = errc::closed, .fiber = 0, .name = {}, .started_at = {}};
  runtime workers{{.procs = 1, .panic_handler = [&](const panic_report& r) { seen = r; }}};
  workers.run([] {
    semaphore done;
    go({.name = "thrower"}, [] { throw 42; });
    go([&] { done.post(); });
    done.wait();
  });
  workers.stop();
  EXPECT_EQ(seen.name, "thrower");
  EXPECT_EQ(seen.what.exception_type(), "int");
  EXPECT_TRUE(seen.what.is(errc::panic));
}

// SC-19: a function that is none is started as any other, and what calling it throws is told.
TEST(panic, an_empty_function_is_one) {
  std::vector<panic_report> reports;
  runtime workers{
      {.procs = 1, .panic_handler = [&](const panic_report& r) { reports.push_back(r); }}};
  workers.run([] {
    semaphore done;
    go({.name = "empty"}, std::function<void()>{});
    go([&] { done.post(); });
    done.wait();
  });
  workers.stop();
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].what.exception_type(), "std::bad_function_call");
  EXPECT_EQ(reports[0].name, "empty");
  EXPECT_NE(std::string{reports[0].started_at.file_name()}.find("runtime_test.cpp"),
            std::string::npos);
}

// SC-19: the library's own kind says it itself, and ends the process.
TEST(panic_death, an_empty_unique_function_is_fatal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(runtime{{.procs = 1}}.run([] {
    go(unique_function<void()>{});
    for (;;) yield();
  }),
               "call of an empty unique_function");
}

TEST(panic_death, terminate_is_one_option_away) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto let_it_throw = [] {
    runtime workers{{.procs = 1, .on_panic = on_panic::terminate}};
    workers.run([] {
      go([] { throw std::runtime_error{"the last words"}; });
      for (;;) yield();
    });
  };
  EXPECT_DEATH(let_it_throw(), "the last words");
}

// --- what is known of fibers

TEST(fibers, a_dump_tells_name_state_reason_and_origin) {
  run_on(2, [] {
    semaphore gate;
    semaphore done;
    go({.name = "waiter"}, [&] {
      gate.wait();
      done.post();
    });
    const auto find = [] {
      const auto all = runtime::current().fibers();
      return *std::ranges::find(all, "waiter", &fiber_info::name);
    };
    while (find().state != fiber_info::run_state::parked) yield();
    const fiber_info info = find();
    EXPECT_EQ(info.waits_for, "semaphore");
    EXPECT_NE(std::string{info.started_at.file_name()}.find("runtime_test.cpp"), std::string::npos);
    EXPECT_NE(dump_fibers().find("\"waiter\" waits for semaphore"), std::string::npos);
    gate.post();
    done.wait();
  });
}

// SC-20: what the runtime does for itself (timers, readiness, blocking calls) is no fiber.
TEST(fibers, are_only_those_of_the_program) {
  run_on(2, [] {
    EXPECT_EQ(blocking([] { return 1; }), 1);
    semaphore done;
    go({.name = "sleeper"}, [&] {
      sleep(std::chrono::milliseconds{20});
      done.post();
    });
    sleep(std::chrono::milliseconds{1});
    for (const fiber_info& one : runtime::current().fibers()) {
      EXPECT_TRUE(one.name == "main" || one.name == "sleeper") << one.name;
    }
    done.wait();
  });
}

TEST(fibers, know_their_names_and_numbers) {
  run_on(1, [] {
    semaphore done;
    std::string name;
    std::uint64_t id = 0;
    go({.name = "a name that is longer than the block has room for"}, [&] {
      name = this_fiber::name();
      id = this_fiber::id();
      done.post();
    });
    done.wait();
    EXPECT_EQ(name, "a name that is longer than the ");
    EXPECT_GT(id, this_fiber::id());
  });
  EXPECT_EQ(this_fiber::id(), 0U);
  EXPECT_EQ(this_fiber::name(), "");
  EXPECT_FALSE(runtime::on_fiber());
}

// Control blocks are used again.
TEST(fibers, inherit_no_name_and_no_stack_from_who_has_ended) {
  run_on(1, [] {
    constexpr int rounds = 300;  // More than a worker keeps of blocks.
    semaphore done;
    std::string names;
    for (int i = 0; i < rounds; ++i) {
      go({.name = "named", .stack_size = std::size_t{1024} * 1024}, [&] { done.post(); });
      done.wait();
      go([&] {
        names += this_fiber::name();
        done.post();
      });
      done.wait();
    }
    EXPECT_EQ(names, "");
  });
}

TEST(fibers, may_have_larger_stacks) {
  run_on(1, [] {
    semaphore done;
    go({.stack_size = std::size_t{4} * 1024 * 1024}, [&] {
      volatile char large[3 * 1024 * 1024];
      for (std::size_t i = 0; i < sizeof large; i += 4096) large[i] = 1;
      done.post();
    });
    done.wait();
  });
}

}  // namespace
}  // namespace exeunt
