// SPDX-License-Identifier: Apache-2.0

#include <exeunt/sched/fiber_local.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <exeunt/base/error.hpp>
#include <exeunt/sched/blocking.hpp>
#include <exeunt/sched/runtime.hpp>

#include "sched/seam.hpp"
#include "support/child.hpp"
#include "support/on_workers.hpp"
#include "support/semaphore.hpp"
#include "support/until_parked.hpp"

namespace exeunt {
namespace {

using test::child;
using test::semaphore;

// Usable before any constructor has run, as a thread_local is.
constinit fiber_local<int> of_the_program;

class fiber_local_test : public test::on_workers {};

TEST_P(fiber_local_test, each_fiber_has_its_own) {
  run([] {
    EXPECT_EQ(of_the_program.get_if(), nullptr);
    of_the_program.get() = -1;
    fiber_local<std::string> name;
    semaphore done;
    constexpr int count = 50;
    for (int i = 0; i < count; ++i) {
      go([&, i] {
        EXPECT_EQ(of_the_program.get_if(), nullptr);
        EXPECT_EQ(*of_the_program, 0);
        *of_the_program = i;
        *name = "fiber " + std::to_string(i);
        for (int k = 0; k < 20; ++k) {
          yield();
          EXPECT_EQ(*of_the_program, i);
          EXPECT_EQ(name->size(), i < 10 ? 7U : 8U);
          EXPECT_EQ(name.get(), "fiber " + std::to_string(i));
          EXPECT_EQ(name.get_if(), &*name);
        }
        done.post();
      });
    }
    for (int i = 0; i < count; ++i) done.wait();
    EXPECT_EQ(*of_the_program, -1);
  });
}

TEST(fiber_local, goes_where_its_fiber_goes) {
  detail::seam parts{.migrate_always = true};
  runtime workers{{.procs = 3, .seam = &parts}};
  workers.run([] {
    fiber_local<int> count;
    const int* const where = &*count;
    for (int i = 0; i < 200; ++i) {
      EXPECT_EQ(*count, i);
      EXPECT_EQ(&*count, where);
      ++*count;
      yield();
    }
  });
}

TEST(fiber_local, a_fiber_begins_without_those_of_the_one_before) {
  fiber_local<int> count;
  runtime workers{{.procs = 1}};
  for (int i = 0; i < 100; ++i) {
    workers.run([&] {
      EXPECT_EQ(count.get_if(), nullptr);
      ++*count;
    });
  }
}

struct cannot_move {
  explicit cannot_move(int n) : number{n} {}
  cannot_move(const cannot_move&) = delete;
  int number;
};

TEST(fiber_local, an_initializer_makes_it_at_the_first_use) {
  test::run_on(1, [] {
    int calls = 0;
    fiber_local<cannot_move> once{[&calls] { return cannot_move{++calls}; }};
    EXPECT_EQ(once.get_if(), nullptr);
    EXPECT_EQ(calls, 0);
    EXPECT_EQ(once->number, 1);
    EXPECT_EQ(once->number, 1);
    EXPECT_EQ(calls, 1);
    once.reset();
    EXPECT_EQ(once.get_if(), nullptr);
    EXPECT_EQ(once->number, 2);
    fiber_local<std::unique_ptr<int>> moves{
        [held = std::make_unique<int>(3)] { return std::make_unique<int>(*held); }};
    EXPECT_EQ(**moves, 3);
    const fiber_local<double> constant;
    *constant = 1.5;
    EXPECT_EQ(*constant, 1.5);
  });
}

TEST(fiber_local, an_initializer_that_throws_leaves_nothing) {
  test::run_on(1, [] {
    bool fails = true;
    fiber_local<int> number{[&] {
      if (fails) throw std::runtime_error{"not yet"};
      return 4;
    }};
    EXPECT_THROW(*number, std::runtime_error);
    EXPECT_EQ(number.get_if(), nullptr);
    EXPECT_THROW(*number, std::runtime_error);
    fails = false;
    EXPECT_EQ(*number, 4);
  });
}

TEST(fiber_local, cannot_be_made_by_means_of_itself) {
  test::run_on(1, [] {
    fiber_local<int>* self = nullptr;
    bool asks = true;
    fiber_local<int> number{[&] {
      EXPECT_EQ(self->get_if(), nullptr);
      return asks ? **self : 7;
    }};
    self = &number;
    EXPECT_THROW(*number, panic_error);
    EXPECT_EQ(number.get_if(), nullptr);
    asks = false;
    EXPECT_EQ(*number, 7);
  });
}

// Says when it goes.
struct tells {
  explicit tells(std::function<void()> at_end) : says{std::move(at_end)} {}
  tells(tells&& other) noexcept : says{std::exchange(other.says, nullptr)} {}
  ~tells() {
    if (says) says();
  }
  std::function<void()> says;
};

// Goal:   the last one made goes first, on its fiber, before who waits for the fiber goes on.
// Method: destructors write down who they are and where. More variables than a table has room for
//         at first.
TEST_P(fiber_local_test, values_go_in_reverse_order_before_the_fiber_ends) {
  std::vector<int> order;
  std::uint64_t fiber = 0;
  runtime workers{{.procs = GetParam()}};
  std::vector<std::unique_ptr<fiber_local<tells>>> variables;
  for (int i = 0; i < 40; ++i) {
    variables.push_back(std::make_unique<fiber_local<tells>>([&, i] {
      return tells{[&, i] {
        EXPECT_EQ(this_fiber::id(), fiber);
        order.push_back(i);
      }};
    }));
  }
  workers.run([&] {
    fiber = this_fiber::id();
    for (int i = 0; i < 40; ++i) **variables[static_cast<std::size_t>(i * 7 % 40)];
    variables[5]->reset();
    EXPECT_EQ(order, std::vector<int>{5});
    **variables[5];
  });
  ASSERT_EQ(order.size(), 41U);
  EXPECT_EQ(order[1], 5);
  std::erase(order, 5);
  std::vector<int> expected;
  for (int i = 39; i >= 0; --i) {
    if (i * 7 % 40 != 5) expected.push_back(i * 7 % 40);
  }
  EXPECT_EQ(order, expected);
}

TEST_P(fiber_local_test, values_go_after_the_function_and_what_it_holds) {
  std::vector<std::string> order;
  fiber_local<tells> value{[&] { return tells{[&] { order.emplace_back("value"); }}; }};
  runtime workers{{.procs = GetParam()}};
  semaphore ended;
  workers.go([&, held = tells{[&] { order.emplace_back("captured"); }}] {
    *value;
    static_cast<void>(held);
    fiber_local<tells> last{[&] { return tells{[&] { ended.post(); }}; }};
    order.emplace_back("body");
    *value;
  });
  EXPECT_EQ(workers.stop(), 0U);
  EXPECT_EQ(order, (std::vector<std::string>{"body", "captured", "value"}));
}

TEST_P(fiber_local_test, destructors_may_wait_and_change_threads) {
  std::atomic<int> ended{0};
  semaphore gate;
  fiber_local<tells> waits{[&] {
    return tells{[&] {
      const std::uint64_t self = this_fiber::id();
      for (int i = 0; i < 10; ++i) yield();
      gate.wait();
      blocking([] {});
      semaphore started;
      go([&] { started.post(); });
      started.wait();
      EXPECT_EQ(this_fiber::id(), self);
      ++ended;
    }};
  }};
  run([&] {
    for (int i = 0; i < 5; ++i) go([&] { *waits; });
    test::until_parked(5, detail::wait_reason::semaphore);
    EXPECT_EQ(ended, 0);
    for (int i = 0; i < 5; ++i) gate.post();
    while (ended < 5) yield();
  });
}

TEST(fiber_local, destructors_see_what_is_left_and_make_what_is_gone) {
  std::vector<std::string> order;
  fiber_local<tells>* newer = nullptr;
  fiber_local<tells> older{[&] {
    return tells{[&] {
      EXPECT_EQ(newer->get_if(), nullptr);
      EXPECT_EQ(older.get_if(), nullptr);
      order.emplace_back("older");
      **newer;
    }};
  }};
  int made = 0;
  fiber_local<tells> other{[&] {
    ++made;
    return tells{[&] {
      EXPECT_EQ(older.get_if() != nullptr, order.empty());
      order.emplace_back("newer");
    }};
  }};
  newer = &other;
  test::run_on(1, [&] {
    *older;
    *other;
  });
  EXPECT_EQ(made, 2);
  EXPECT_EQ(order, (std::vector<std::string>{"newer", "older", "newer"}));
}

// A destructor may also reset a value that is still to go.
TEST(fiber_local, a_reset_of_a_dying_fibers_value_is_its_end) {
  int first_ends = 0;
  fiber_local<tells> first{[&] { return tells{[&] { ++first_ends; }}; }};
  fiber_local<tells> second{[&] {
    return tells{[&] {
      first.reset();
      EXPECT_EQ(first_ends, 1);
    }};
  }};
  test::run_on(1, [&] {
    *first;
    *second;
  });
  EXPECT_EQ(first_ends, 1);
}

TEST(fiber_local, what_comes_back_for_ever_is_given_up_and_reported) {
  int made = 0;
  fiber_local<tells>* self = nullptr;
  fiber_local<tells> again{[&] {
    ++made;
    return tells{[&] { **self; }};
  }};
  self = &again;
  runtime workers{{.procs = 1}};
  testing::internal::CaptureStderr();
  workers.run([&] { *again; });
  const std::string report = testing::internal::GetCapturedStderr();
  EXPECT_EQ(made, 5);
  EXPECT_NE(report.find("1 fiber_local values are never destroyed"), std::string::npos) << report;
  EXPECT_NE(report.find("\"main\", started at"), std::string::npos) << report;
}

TEST(fiber_local, values_of_abandoned_fibers_are_never_destroyed) {
  int ends = 0;
  fiber_local<tells> value{[&] { return tells{[&] { ++ends; }}; }};
  semaphore never;
  {
    runtime workers{{.procs = 1}};
    semaphore there;
    workers.go([&] {
      *value;
      there.post();
      never.wait();
    });
    there.wait();
    testing::internal::CaptureStderr();
    EXPECT_EQ(workers.stop(), 1U);
    static_cast<void>(testing::internal::GetCapturedStderr());
  }
  EXPECT_EQ(ends, 0);
}

// Goal:   a variable may go before the values: none is seen by another variable, none is lost.
// Method: the next variable has the same place in every fiber's table.
TEST(fiber_local, a_variable_may_go_while_others_have_values) {
  test::run_on(1, [] {
    std::atomic<int> ends{0};
    const auto make = [&] { return tells{[&] { ++ends; }}; };
    auto variable = std::make_unique<fiber_local<tells>>(make);
    semaphore there;
    semaphore go_on;
    semaphore done;
    std::optional<fiber_local<int>> next;
    go([&] {
      **variable;
      there.post();
      go_on.wait();
      EXPECT_EQ(next->get_if(), nullptr);
      EXPECT_EQ(ends, 1);
      EXPECT_EQ(**next, 0);
      EXPECT_EQ(ends, 2) << "the place was needed";
      **next = 5;
      done.post();
    });
    go([&] {
      **variable;
      there.post();
      go_on.wait();
      done.post();
    });
    there.wait();
    there.wait();
    **variable;
    variable = nullptr;
    EXPECT_EQ(ends, 1) << "only the caller's goes at once";
    next.emplace();
    EXPECT_EQ(**next, 0);
    go_on.post();
    done.wait();
    go_on.post();
    done.wait();
    while (ends < 3) yield();
  });
}

// A stale value's destructor may use the variable that wants its place.
TEST(fiber_local, the_end_of_a_stale_value_may_make_what_it_makes_room_for) {
  test::run_on(1, [] {
    fiber_local<int>* next = nullptr;
    auto variable =
        std::make_unique<fiber_local<tells>>([&] { return tells{[&] { **next = 9; }}; });
    semaphore there;
    semaphore go_on;
    semaphore done;
    go([&] {
      **variable;
      there.post();
      go_on.wait();
      EXPECT_EQ(**next, 9);
      done.post();
    });
    there.wait();
    variable = nullptr;
    fiber_local<int> number;
    *number = 1;
    next = &number;
    go_on.post();
    done.wait();
    EXPECT_EQ(*number, 1);
  });
}

TEST(fiber_local, variables_without_end_need_no_memory_without_end) {
  test::run_on(1, [] {
    for (int i = 0; i < 200'000; ++i) {
      fiber_local<int> one;
      EXPECT_EQ(*one, 0);
      *one = i;
    }
  });
}

// Fibers that come and go, variables that come and go, and everybody finds his own.
TEST_P(fiber_local_test, values_and_variables_come_and_go) {
  std::atomic<int> alive{0};
  struct counted {
    explicit counted(std::atomic<int>& count) : alive{count} { ++alive; }
    counted(const counted&) = delete;
    ~counted() { --alive; }
    std::atomic<int>& alive;
    int number = 0;
  };
  run([&] {
    semaphore done;
    for (int i = 0; i < 200; ++i) {
      go([&, i] {
        std::vector<std::unique_ptr<fiber_local<counted>>> own;
        for (int k = 0; k < 8; ++k) {
          own.push_back(std::make_unique<fiber_local<counted>>([&] { return counted{alive}; }));
          (*own.back())->number = i * 100 + k;
          yield();
        }
        for (int k = 0; k < 8; ++k) {
          EXPECT_EQ((*own[static_cast<std::size_t>(k)])->number, i * 100 + k);
          if (k % 2 == 0) own[static_cast<std::size_t>(k)] = nullptr;
        }
        done.post();
      });
    }
    for (int i = 0; i < 200; ++i) done.wait();
  });
  EXPECT_EQ(alive, 0);
}

TEST(fiber_local, threads_have_their_own_until_their_end) {
  std::atomic<int> ends{0};
  fiber_local<tells> value{[&] { return tells{[&] { ++ends; }}; }};
  fiber_local<int> number;
  *number = 1;
  std::thread{[&] {
    EXPECT_EQ(number.get_if(), nullptr);
    *number = 2;
    *value;
    EXPECT_EQ(ends, 0);
  }}.join();
  EXPECT_EQ(ends, 1);
  runtime workers{{.procs = 1}};
  workers.run([&] {
    *number = 3;
    blocking([&] { EXPECT_EQ(number.get_if(), nullptr) << "it is on a thread"; });
    EXPECT_EQ(*number, 3);
  });
  EXPECT_EQ(*number, 1);
}

// A thread's own thread_locals may use it until they are gone.
TEST(fiber_local, is_there_for_the_destructors_of_thread_locals) {
  static std::atomic<int> ends{0};
  static fiber_local<tells> value{[] { return tells{[] { ++ends; }}; }};
  struct uses {
    ~uses() { *value; }
  };
  std::thread{[] {
    thread_local uses at_end;
    static_cast<void>(&at_end);
    *value;
  }}.join();
  EXPECT_EQ(ends, 2);
}

TEST(fiber_local, a_destructor_that_throws_ends_the_process) {
  struct throws {
    ~throws() noexcept(false) { throw std::runtime_error{"thrown by a value"}; }
  };
  if (child::body() == "throws") {
    test::run_on(1, [] {
      const fiber_local<throws> value;
      *value;
    });
  }
  child ends{"throws"};
  EXPECT_EQ(ends.finish(), 1000 + SIGABRT);
  EXPECT_NE(ends.output().find("thrown by a value"), std::string::npos) << ends.output();
}

EXEUNT_ON_WORKERS(fiber_local_test);

}  // namespace
}  // namespace exeunt
