// SPDX-License-Identifier: Apache-2.0

#include <exeunt/sync/singleflight.hpp>

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

#include <gtest/gtest.h>

#include <exeunt/base/error.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "support/explored.hpp"
#include "support/until_parked.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using detail::wait_reason;

static_assert(!std::is_copy_constructible_v<singleflight<int, int>>);

class singleflight_test : public test::explored {};
EXEUNT_EXPLORED(singleflight_test);

// EG-18.
TEST_P(singleflight_test, eg_18_gives_a_value_or_an_error_to_a_single_caller) {
  run([] {
    singleflight<std::string, std::string> flights;
    const auto value = flights.call("key", [] { return std::string{"bar"}; });
    ASSERT_TRUE(value);
    EXPECT_EQ(**value, "bar");
    EXPECT_EQ((*value)->size(), 3U);
    EXPECT_FALSE(value->shared());

    const auto failed = flights.call(
        "key", []() -> result<std::string> { return fail(errc::malformed, "nothing there"); });
    ASSERT_FALSE(failed);
    EXPECT_TRUE(failed.error().is(errc::malformed));
    EXPECT_EQ(flights.size(), 0U);
  });
}

TEST_P(singleflight_test, eg_18_the_same_in_a_fiber_of_its_own) {
  run([] {
    singleflight<int, std::string> flights;
    const std::uint64_t self = this_fiber::id();
    const auto value = flights.call(context::background(), 1, [self](const context& own) {
      EXPECT_NE(this_fiber::id(), self);
      EXPECT_FALSE(own.err());
      return std::string{"bar"};
    });
    ASSERT_TRUE(value);
    EXPECT_EQ(**value, "bar");
    EXPECT_FALSE(value->shared());
    const auto failed = flights.call(context::background(), 1, []() -> result<std::string> {
      return fail(errc::malformed, "nothing there");
    });
    ASSERT_FALSE(failed);
    EXPECT_TRUE(failed.error().is(errc::malformed));
  });
}

// EG-19: ten callers of one key while its function is held.
TEST_P(singleflight_test, eg_19_one_call_answers_all_who_ask_meanwhile) {
  run([] {
    singleflight<std::string, int> flights;
    wait_group gate;
    gate.add();
    std::atomic<int> called = 0;
    std::atomic<int> shared = 0;
    const int* values[10] = {};
    wait_group callers;
    for (int c = 0; c < 10; ++c) {
      callers.go([&, c] {
        const auto value = flights.call("key", [&] {
          ++called;
          gate.wait();
          return 42;
        });
        ASSERT_TRUE(value);
        EXPECT_EQ(**value, 42);
        if (value->shared()) ++shared;
        values[c] = &**value;
      });
    }
    test::until_parked(9, wait_reason::singleflight);
    EXPECT_EQ(flights.size(), 1U);
    gate.done();
    callers.wait();
    EXPECT_EQ(called, 1);
    EXPECT_EQ(shared, 10);
    for (const int* value : values) EXPECT_EQ(value, values[0]) << "one value, and no copies";
  });
}

// The same without a gate: what comes late makes a new call.
TEST_P(singleflight_test, eg_19_every_caller_gets_the_value_of_some_call) {
  run([] {
    singleflight<int, int> flights;
    std::atomic<int> called = 0;
    wait_group callers;
    for (int c = 0; c < 10; ++c) {
      callers.go([&, c] {
        const auto function = [&] {
          yield();
          return ++called;
        };
        const auto value = c % 2 == 0 ? flights.call(7, function)
                                      : flights.call(context::background(), 7, function);
        ASSERT_TRUE(value);
        EXPECT_GE(**value, 1);
        EXPECT_LE(**value, called);
      });
    }
    callers.wait();
    EXPECT_GE(called, 1);
    EXPECT_LE(called, 10);
    EXPECT_EQ(flights.size(), 0U);
  });
}

TEST_P(singleflight_test, different_keys_do_not_wait_for_each_other) {
  run([] {
    singleflight<int, int> flights;
    constexpr int keys = 100;
    wait_group all_there;
    all_there.add(keys);
    wait_group callers;
    for (int key = 0; key < keys; ++key) {
      callers.go([&, key] {
        const auto value = flights.call(key, [&] {
          all_there.done();
          all_there.wait();
          return key;
        });
        ASSERT_TRUE(value);
        EXPECT_EQ(**value, key);
        EXPECT_FALSE(value->shared());
      });
    }
    callers.wait();
    EXPECT_EQ(flights.size(), 0U);
  });
}

// EG-21: five callers, one of which runs the function, which throws.
TEST_P(singleflight_test, eg_21_an_exception_reaches_every_caller) {
  run([] {
    singleflight<std::string, int> flights;
    wait_group gate;
    gate.add();
    std::atomic<int> caught = 0;
    wait_group callers;
    for (int c = 0; c < 5; ++c) {
      callers.go([&] {
        const auto value = flights.call("key", [&]() -> int {
          gate.wait();
          throw std::runtime_error{"invalid memory"};
        });
        ASSERT_FALSE(value);
        EXPECT_TRUE(value.error().is(errc::panic));
        try {
          value.error().rethrow();
        } catch (const std::runtime_error& e) {
          EXPECT_STREQ(e.what(), "invalid memory");
          ++caught;
        }
      });
    }
    test::until_parked(4, wait_reason::singleflight);
    gate.done();
    callers.wait();
    EXPECT_EQ(caught, 5);
    const auto again = flights.call("key", [] { return 1; });
    ASSERT_TRUE(again);
    EXPECT_EQ(**again, 1) << "a failure is not kept";
  });
}

// EG-23, as far as a caller can be made to vanish: a thread that ends within the function.
TEST(singleflight_on_threads, eg_23_a_caller_that_vanishes_hangs_nobody) {
  singleflight<int, int> flights;
  std::atomic<bool> running = false;
  std::atomic<bool> may_end = false;
  struct ends_itself {
    singleflight<int, int>* flights;
    std::atomic<bool>* running;
    std::atomic<bool>* may_end;
    static void* run(void* self) {
      auto& my = *static_cast<ends_itself*>(self);
      static_cast<void>(my.flights->call(1, [&my]() -> int {
        *my.running = true;
        while (!*my.may_end) std::this_thread::yield();
        pthread_exit(nullptr);
      }));
      return nullptr;
    }
  } it{&flights, &running, &may_end};
  pthread_t leader{};
  ASSERT_EQ(pthread_create(&leader, nullptr, &ends_itself::run, &it), 0);
  while (!running) std::this_thread::yield();
  std::atomic<bool> asked = false;
  std::thread follower{[&] {
    asked = true;
    const auto value = flights.call(1, [] { return 2; });
    // It may have come after the end, and then called its own.
    if (value) {
      EXPECT_EQ(**value, 2);
    } else {
      EXPECT_TRUE(value.error().is(errc::panic));
    }
  }};
  while (!asked) std::this_thread::yield();
  may_end = true;
  pthread_join(leader, nullptr);
  follower.join();
  EXPECT_EQ(flights.size(), 0U);
}

TEST_P(singleflight_test, forget_lets_the_next_caller_make_a_new_call) {
  run([] {
    singleflight<std::string, int> flights;
    EXPECT_FALSE(flights.forget("key"));
    wait_group gates[2];
    for (wait_group& gate : gates) gate.add();
    wait_group callers;
    const auto call = [&](int which, bool shared) {
      callers.go([&, which, shared] {
        const auto value = flights.call("key", [&] {
          gates[which].wait();
          return which;
        });
        ASSERT_TRUE(value);
        EXPECT_EQ(**value, which);
        EXPECT_EQ(value->shared(), shared);
      });
    };
    call(0, false);
    test::until_parked(1, wait_reason::wait_group);
    EXPECT_TRUE(flights.forget("key"));
    EXPECT_FALSE(flights.forget("key"));
    EXPECT_EQ(flights.size(), 0U);
    call(1, true);
    test::until_parked(2, wait_reason::wait_group);
    // The end of the forgotten call leaves the new one its key.
    gates[0].done();
    test::until_parked(1, wait_reason::wait_group);
    callers.go([&] {
      const auto value = flights.call("key", [] { return 5; });
      ASSERT_TRUE(value);
      EXPECT_EQ(**value, 1);
    });
    test::until_parked(1, wait_reason::singleflight);
    gates[1].done();
    callers.wait();
  });
}

TEST_P(singleflight_test, a_call_of_its_own_key_throws_instead_of_waiting_for_itself) {
  run([] {
    singleflight<int, int> flights;
    const auto nested = [&] {
      EXPECT_EQ(**flights.call(2, [] { return 2; }), 2) << "another key";
      return **flights.call(1, [] { return 1; });
    };
    const auto here = flights.call(1, nested);
    ASSERT_FALSE(here);
    EXPECT_THROW(here.error().rethrow(), panic_error);
    const auto elsewhere = flights.call(context::background(), 1, nested);
    ASSERT_FALSE(elsewhere);
    EXPECT_THROW(elsewhere.error().rethrow(), panic_error);
  });
}

TEST_P(singleflight_test, a_context_ends_the_wait_of_its_caller_only) {
  run([] {
    singleflight<int, int> flights;
    wait_group gate;
    gate.add();
    auto [ctx, cancel] = with_cancel(context::background());
    wait_group callers;
    callers.go([&, &end = ctx] {
      const auto value = flights.call(end, 1, [&](const context& own) {
        gate.wait();
        EXPECT_FALSE(own.err()) << "somebody waits for it";
        return 3;
      });
      ASSERT_FALSE(value);
      EXPECT_TRUE(value.error().is(errc::canceled));
    });
    test::until_parked(1, wait_reason::wait_group);
    test::until_parked(1, wait_reason::singleflight);
    callers.go([&] {
      const auto value = flights.call(context::background(), 1, [] { return 4; });
      ASSERT_TRUE(value);
      EXPECT_EQ(**value, 3);
      EXPECT_TRUE(value->shared());
    });
    callers.go([&] {
      const auto value = flights.call(1, [] { return 5; });
      ASSERT_TRUE(value);
      EXPECT_EQ(**value, 3);
    });
    test::until_parked(3, wait_reason::singleflight);
    cancel();
    let_others_run();
    EXPECT_EQ(flights.size(), 1U);
    gate.done();
    callers.wait();
    EXPECT_FALSE(flights.call(ctx, 1, [] { return 6; })) << "it had ended before";
  });
}

// When the last one has left, the function is told, and the key is free at once.
TEST_P(singleflight_test, the_last_to_leave_ends_the_functions_context) {
  run([] {
    singleflight<int, int> flights;
    wait_group gate;
    gate.add();
    wait_group ended;
    ended.add();
    auto [ctx, cancel] = with_cancel(context::background());
    wait_group callers;
    for (int c = 0; c < 2; ++c) {
      callers.go([&, &end = ctx] {
        const auto value = flights.call(end, 1, [&](const context& own) {
          own.wait();
          gate.wait();
          ended.done();
          return 1;
        });
        ASSERT_FALSE(value);
        EXPECT_TRUE(value.error().is(errc::canceled));
      });
    }
    test::until_parked(1, wait_reason::context);
    test::until_parked(2, wait_reason::singleflight);
    cancel();
    callers.wait();
    EXPECT_EQ(flights.size(), 0U);
    const auto value = flights.call(context::background(), 1, [] { return 2; });
    ASSERT_TRUE(value);
    EXPECT_EQ(**value, 2);
    gate.done();
    ended.wait();
  });
}

TEST_P(singleflight_test, may_go_while_what_all_have_left_still_runs) {
  run([] {
    wait_group gate;
    gate.add();
    wait_group ended;
    ended.add();
    {
      singleflight<int, int> flights;
      auto [ctx, cancel] = with_cancel(context::background());
      wait_group caller;
      caller.go([&, &end = ctx] {
        EXPECT_FALSE(flights.call(end, 1, [&gate, &ended] {
          gate.wait();
          ended.done();
          return 1;
        }));
      });
      test::until_parked(1, wait_reason::singleflight);
      cancel();
      caller.wait();
    }
    gate.done();
    ended.wait();
  });
}

// A function that is being left and one that has just returned: both ends are right.
TEST_P(singleflight_test, leaving_against_the_end) {
  run([] {
    for (int round = 0; round < 20; ++round) {
      singleflight<int, int> flights;
      auto [ctx, cancel] = with_cancel(context::background());
      wait_group callers;
      callers.go([&, &end = ctx] {
        const auto value = flights.call(end, 1, [] { return 1; });
        EXPECT_TRUE(value ? **value == 1 : value.error().is(errc::canceled));
      });
      callers.go([&, &stop = cancel] { stop(); });
      callers.go([&] {
        const auto value = flights.call(context::background(), 1, [] { return 1; });
        ASSERT_TRUE(value);
        EXPECT_EQ(**value, 1);
      });
      callers.wait();
      ASSERT_EQ(flights.size(), 0U);
    }
  });
}

std::atomic<int> reported = 0;

TEST_P(singleflight_test, an_exception_that_nobody_waits_for_is_reported) {
  reported = 0;
  runtime workers{{.procs = GetParam(), .panic_handler = [](const panic_report& report) {
                     EXPECT_EQ(report.what.message(), "late (std::runtime_error)");
                     ++reported;
                   }}};
  workers.run([] {
    singleflight<int, int> flights;
    wait_group gate;
    gate.add();
    const auto throws = [&gate]() -> int {
      gate.wait();
      throw std::runtime_error{"late"};
    };
    auto [ctx, cancel] = with_cancel(context::background());
    wait_group callers;
    callers.go([&, &end = ctx] { EXPECT_FALSE(flights.call(end, 1, throws)); });
    callers.go([&] { EXPECT_FALSE(flights.call(context::background(), 2, throws)); });
    test::until_parked(2, wait_reason::singleflight);
    test::until_parked(2, wait_reason::wait_group);
    cancel();
    test::until_parked(1, wait_reason::singleflight);
    while (flights.size() != 1) yield();
    gate.done();
    callers.wait();
    while (reported == 0) yield();
  });
  test::stop_and_expect_none_left(workers);
  EXPECT_EQ(reported, 1) << "that of key 2 had its caller";
}

TEST_P(singleflight_test, values_may_be_move_only_or_nothing) {
  run([] {
    singleflight<int, std::unique_ptr<int>> owners;
    const auto owned = owners.call(1, [] { return std::make_unique<int>(5); });
    ASSERT_TRUE(owned);
    EXPECT_EQ(***owned, 5);
    const auto copy = owned;
    EXPECT_EQ(&**copy, &**owned);

    singleflight<int, void> events;
    int ran = 0;
    const auto event = events.call(1, [&] { ++ran; });
    ASSERT_TRUE(event);
    EXPECT_FALSE(event->shared());
    EXPECT_TRUE(events.call(context::background(), 1, [&]() -> result<> {
      ++ran;
      return {};
    }));
    EXPECT_EQ(ran, 2);
  });
}

// What the function wrote is plain, and so is what its caller wrote before.
TEST_P(singleflight_test, the_end_of_the_function_comes_before_each_return) {
  run([] {
    for (const bool in_its_own_fiber : {false, true}) {
      singleflight<int, int> flights;
      int written = 0;
      wait_group gate;
      gate.add();
      const auto function = [&] {
        gate.wait();
        written = 9;
        return 1;
      };
      wait_group callers;
      callers.go([&] {
        const auto value = in_its_own_fiber ? flights.call(context::background(), 1, function)
                                            : flights.call(1, function);
        ASSERT_TRUE(value);
        EXPECT_EQ(written, 9);
      });
      test::until_parked(1, wait_reason::wait_group);
      for (int c = 0; c < 3; ++c) {
        callers.go([&, c] {
          const auto value = c % 2 == 0 ? flights.call(1, function)
                                        : flights.call(context::background(), 1, function);
          ASSERT_TRUE(value);
          EXPECT_EQ(written, 9);
        });
      }
      test::until_parked(in_its_own_fiber ? 4 : 3, wait_reason::singleflight);
      gate.done();
      callers.wait();
    }
  });
}

TEST(singleflight_on_threads, needs_no_fiber_at_all) {
  singleflight<int, int> flights;
  std::atomic<bool> running = false;
  std::thread leader{[&] {
    const auto value = flights.call(1, [&] {
      running = true;
      return 1;
    });
    ASSERT_TRUE(value);
  }};
  while (!running) std::this_thread::yield();
  const auto value = flights.call(1, [] { return 1; });
  ASSERT_TRUE(value);
  EXPECT_EQ(**value, 1);
  const auto other = flights.call(context::background(), 2, [] { return runtime::on_fiber(); });
  ASSERT_TRUE(other);
  EXPECT_EQ(**other, 1);
  leader.join();
}

}  // namespace
}  // namespace exeunt
