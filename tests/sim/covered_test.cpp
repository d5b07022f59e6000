// SPDX-License-Identifier: Apache-2.0
// Small worlds of our own primitives, under every schedule with up to two preemptions; with one in
// a sanitizer's build. The smallest of them without a bound, where a step is a call.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <string>

#include <exeunt/base/error.hpp>
#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/context/after_func.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sim/explore.hpp>
#include <exeunt/sim/gtest.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "sync/mutex_shapes.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;

#if defined(EXEUNT_TSAN) || defined(EXEUNT_ASAN)
constexpr unsigned preemptions = 1;
#else
constexpr unsigned preemptions = 2;
#endif
#ifdef EXEUNT_CORE_MODEL  // In which a step is an atomic operation.
constexpr unsigned unbounded = preemptions;
#else
constexpr unsigned unbounded = std::numeric_limits<unsigned>::max();
#endif

sim::explore_options all(const std::string& name, unsigned most = preemptions) {
  return {.name = name, .schedules = 2'000'000, .preemptions = most, .exhaustive = true};
}

#ifndef EXEUNT_TSAN  // To which a send and a close that are not ordered are a race, as they are.
class close_test : public ::testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(capacity, close_test, ::testing::Values(0U, 1U, 2U),
                         [](const auto& one) { return std::to_string(one.param); });

// Goal:   a value is received once, or refused and still the sender's; nobody is left waiting.
// Method: two senders, two receivers and a close.
TEST_P(close_test, of_a_channel_in_use) {
  const std::size_t capacity = GetParam();
#ifdef EXEUNT_CORE_MODEL
  constexpr unsigned most = 1;  // At each atomic operation of five fibers.
#else
  constexpr unsigned most = preemptions;
#endif
  const auto sum = sim::expect_explored(all("close", most), [capacity] {
    const chan<int> c{capacity};
    int delivered = 0;
    int refused = 0;
    wait_group group;
    for (int i = 0; i < 2; ++i) {
      group.go([&] {
        try {
          c.send(1);
        } catch (const closed_channel&) {
          ++refused;
        }
      });
      group.go([&] { delivered += c.recv().has_value() ? 1 : 0; });
    }
    group.go([&] { c.close(); });
    group.wait();
    int left = 0;
    while (c.recv()) ++left;
    EXPECT_EQ(delivered + refused + left, 2);
    EXPECT_TRUE(left == 0 || capacity > 0);
  });
  EXPECT_TRUE(sum.covered);
  RecordProperty("schedules", std::to_string(sum.schedules));
}
#endif

// Goal:   two selects that offer each other both ways on two channels agree on one.
TEST(covered, select_against_select) {
  const auto sum = sim::expect_explored(all("selects", unbounded), [] {
    const chan<int> a;
    const chan<int> b;
    int sent = 0;
    int received = 0;
    const auto offer = [&](const chan<int>& to, const chan<int>& from, int value) {
      select(on_send(to, value, [&] { sent += value; }),
             on_recv(from, [&](std::optional<int> got) { received += *got; }));
    };
    wait_group group;
    group.go([&] { offer(a, b, 1); });
    group.go([&] { offer(b, a, 2); });
    group.wait();
    EXPECT_EQ(sent, received);
    EXPECT_TRUE(sent == 1 || sent == 2);
  });
  EXPECT_TRUE(sum.covered);
}

TEST(covered, three_fibers_hand_a_mutex_on) {
  const auto sum = sim::expect_explored(all("mutex"), test::three_hand_it_on<mutex>);
  EXPECT_TRUE(sum.covered);
}

// Goal:   whoever waits for a child is released by the parent's cancel, by the child's own, or by
//         both; an after_func runs once or is stopped, as its stop() says.
TEST(covered, cancel_against_the_end_of_a_child) {
  const auto sum = sim::expect_explored(all("contexts"), [] {
    const auto parent = with_cancel(context::background());
    const auto child = with_cancel(parent.ctx);
    std::atomic<int> ran{0};
    bool stopped = false;
    wait_group group;
    {
      auto call = after_func(child.ctx, [&] { ++ran; });
      group.go([&] { parent.cancel(); });
      group.go([&] { child.cancel(); });
      group.go([&] { child.ctx.wait(); });
      stopped = call.stop();
      group.wait();
    }
    yield();
    EXPECT_TRUE(child.ctx.err().has_value());
    EXPECT_TRUE(parent.ctx.err().has_value());
    EXPECT_LE(ran, 1);
    EXPECT_TRUE(!stopped || ran == 0);
  });
  EXPECT_TRUE(sum.covered);
}

// Goal:   X1 for each of several cancels, not only for the one that came first: when it returns,
// all
//         below has ended, whoever has ended what lies between.
TEST(covered, each_cancel_finds_all_below_ended_when_it_returns) {
  const auto sum = sim::expect_explored(all("cancels"), [] {
    const auto root = with_cancel(context::background());
    const auto middle = with_cancel(root.ctx);
    const auto leaf = with_cancel(middle.ctx);
    wait_group group;
    for (const auto* by : {&root, &root, &middle}) {
      group.go([&, by] {
        by->cancel();
        EXPECT_TRUE(leaf.ctx.err().has_value());
      });
    }
    group.wait();
  });
  EXPECT_TRUE(sum.covered);
}

// Goal:   the same, when a deadline began to end what lies between, and has left the rest to a
// fiber
//         that has not run yet.
TEST(covered, a_cancel_does_what_a_deadline_has_not_done_yet) {
  const auto sum = sim::expect_explored(all("cancel_at_deadline"), [] {
    const auto root = with_cancel(context::background());
    const auto middle = with_timeout(root.ctx, 1ms);
    const auto leaf = with_cancel(middle.ctx);
    wait_group group;
    for (const cancel_func* by : {&root.cancel, &middle.cancel}) {
      group.go([&, by] {
        sleep(1ms);
        (*by)();
        EXPECT_TRUE(leaf.ctx.err().has_value());
      });
    }
    group.wait();
  });
  EXPECT_TRUE(sum.covered);
}

TEST(covered, a_wait_group_used_again) {
  const auto sum = sim::expect_explored(all("wait_group", unbounded), [] {
    wait_group group;
    std::atomic<int> done{0};
    group.go([&] { ++done; });
    group.wait();
    EXPECT_EQ(done, 1);
    group.go([&] { ++done; });
    group.go([&] { ++done; });
    group.wait();
    EXPECT_EQ(done, 3);
  });
  EXPECT_TRUE(sum.covered);
}

#ifndef EXEUNT_TSAN  // To which a wait and the add of the next use are a race, as they are to Go's.
// Goal:   a group may be used again as soon as its count is zero, while those whom the zero
//         released have not returned yet: they are released by it, or wait for the next one.
// Method: a second one waits, who may be late for the first count, and may return when the second
//         is under way or done.
TEST(covered, a_wait_group_used_again_while_another_waits) {
  int late = 0;
  const auto sum = sim::expect_explored(all("two waiters", unbounded), [&late] {
    wait_group group;
    wait_group others;
    std::atomic<int> begun{1};
    std::atomic<int> done{0};
    group.add(1);
    others.go([&] {
      group.wait();
      EXPECT_GE(done, 1);
      late += begun == 2 ? 1 : 0;
    });
    go([&] {
      ++done;
      group.done();
    });
    group.wait();
    EXPECT_EQ(done, 1);
    group.add(1);
    begun = 2;
    go([&] {
      ++done;
      group.done();
    });
    group.wait();
    EXPECT_EQ(done, 2);
    others.wait();
  });
  EXPECT_TRUE(sum.covered);
  EXPECT_GT(late, 0);
}
#endif

}  // namespace
}  // namespace exeunt
