// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <vector>

#include <exeunt/base/random.hpp>
#include <exeunt/sched/runtime.hpp>

#include "sched/runtime_core.hpp"
#include "sched/seam.hpp"
#include "sched/timers.hpp"
#include "support/semaphore.hpp"

namespace exeunt::detail {
namespace {

struct recorder : timer_node {
  recorder() : timer_node{&recorder::fire} {}
  static clock::time_point fire(timer_node& self, clock::time_point) noexcept {
    auto& node = static_cast<recorder&>(self);
    node.log->push_back(node.number);
    return node.again;
  }
  std::vector<int>* log = nullptr;
  int number = 0;
  clock::time_point again = no_deadline;
};

// Time that stands still keeps the workers' own looks at the timers out of these tests.
struct frozen_clock : clock_source {
  clock::time_point now() noexcept override { return clock::time_point{}; }
};

class timers_test : public ::testing::Test {
 protected:
  ~timers_test() override { queue.close(); }

  recorder& add(int number) {
    recorder& node = nodes_.emplace_back();
    node.log = &log;
    node.number = number;
    return node;
  }
  static clock::time_point at(int offset) {
    return clock::time_point{} + std::chrono::hours{1} + clock::duration{offset};
  }
  void start(recorder& node, int offset) {
    sched::runtime_hold hold;
    queue.start(node, at(offset), hold);
  }

  frozen_clock frozen;
  seam parts{.clock = &frozen};
  sched::runtime_core core{{.procs = 1, .seam = &parts}};
  timer_queue& queue = timer_queue::open(core);
  std::vector<int> log;

 private:
  std::deque<recorder> nodes_;
};

TEST_F(timers_test, fire_in_the_order_of_deadlines_then_of_starts) {
  start(add(1), 30);
  start(add(2), 10);
  start(add(3), 10);
  start(add(4), 20);
  EXPECT_EQ(queue.fire_due(at(5)), 0U);
  EXPECT_EQ(queue.next(), at(10));
  EXPECT_EQ(queue.fire_due(at(30)), 4U);
  EXPECT_EQ(log, (std::vector{2, 3, 4, 1}));
  EXPECT_EQ(queue.next(), no_deadline);
}

TEST_F(timers_test, a_stopped_one_does_not_fire) {
  recorder& node = add(1);
  start(node, 10);
  EXPECT_TRUE(queue.stop(node));
  EXPECT_FALSE(queue.stop(node)) << "the second stop has nothing to stop";
  EXPECT_EQ(queue.fire_due(at(10)), 0U);
  EXPECT_TRUE(log.empty());
}

TEST_F(timers_test, a_start_of_a_started_one_moves_it_both_ways) {
  recorder& first = add(1);
  start(first, 10);
  start(add(2), 20);
  sched::runtime_hold hold;
  const auto later = queue.start(first, at(30), hold);
  EXPECT_TRUE(later.was_queued);
  EXPECT_EQ(later.earliest_of, nullptr);
  EXPECT_EQ(queue.next(), at(20));
  const auto sooner = queue.start(first, at(5), hold);
  EXPECT_TRUE(sooner.was_queued);
  EXPECT_EQ(sooner.earliest_of, &core);
  queue.fire_due(at(30));
  EXPECT_EQ(log, (std::vector{1, 2}));
}

TEST_F(timers_test, what_asks_to_fire_again_is_queued_again) {
  recorder& node = add(1);
  node.again = at(20);
  start(node, 10);
  EXPECT_EQ(queue.fire_due(at(15)), 1U);
  EXPECT_EQ(queue.next(), at(20));
  EXPECT_TRUE(queue.stop(node));
}

// Method: more than are kept unsorted, stopped from the first and from the last.
TEST_F(timers_test, next_is_the_first_of_what_is_left) {
  constexpr int count = 100;
  std::vector<recorder*> nodes;
  for (int i = 0; i < count; ++i) {
    start(*nodes.emplace_back(&add(i)), count - i);
    EXPECT_EQ(queue.next(), at(count - i));
  }
  for (int i = count - 1; i > count / 2; --i) {
    EXPECT_EQ(queue.next(), at(count - i));
    EXPECT_TRUE(queue.stop(*nodes[static_cast<std::size_t>(i)]));
  }
  for (int i = 0; i < count / 2; ++i) {
    EXPECT_TRUE(queue.stop(*nodes[static_cast<std::size_t>(i)]));
    EXPECT_EQ(queue.next(), at(count / 2));
  }
  EXPECT_EQ(queue.fire_due(at(count)), 1U);
  EXPECT_EQ(log, std::vector{count / 2});
}

// Goal:   I1, I2, I4, whatever is started, moved and stopped in which order.
// Method: random steps, against a plain list of what must fire; time goes on meanwhile.
TEST_F(timers_test, keep_their_order_under_random_use) {
  constexpr int count = 300;
  random_source random{42};
  std::vector<recorder*> nodes;
  std::vector<int> deadline(count, -1);
  for (int i = 0; i < count; ++i) nodes.push_back(&add(i));

  const auto first = [&] {
    int least = -1;
    for (const int d : deadline) {
      if (d >= 0 && (least < 0 || d < least)) least = d;
    }
    return least < 0 ? no_deadline : at(least);
  };
  const auto fire = [&](int now) {
    std::size_t due = 0;
    for (const int d : deadline) due += d >= 0 && d <= now ? 1U : 0U;
    log.clear();
    EXPECT_EQ(queue.fire_due(at(now)), due);
    ASSERT_EQ(log.size(), due);
    for (std::size_t i = 1; i < log.size(); ++i) {
      EXPECT_LE(deadline[static_cast<std::size_t>(log[i - 1])],
                deadline[static_cast<std::size_t>(log[i])]);
    }
    for (const int fired : log) deadline[static_cast<std::size_t>(fired)] = -1;
  };

  int now = 0;
  for (int step = 0; step < 20'000; ++step) {
    const auto i = random.below(count);
    if (random.below(3) == 0) {
      EXPECT_EQ(queue.stop(*nodes[i]), deadline[i] >= 0);
      deadline[i] = -1;
    } else {
      deadline[i] = now + static_cast<int>(random.below(1'000));
      start(*nodes[i], deadline[i]);
    }
    EXPECT_EQ(queue.next(), first());
    if (random.below(50) == 0) {
      now += static_cast<int>(random.below(100));
      fire(now);
      EXPECT_EQ(queue.next(), first());
    }
  }
  fire(now + 1'000);
  EXPECT_EQ(queue.next(), no_deadline);
}

struct waker : timer_node {
  waker() : timer_node{&waker::fire} {}
  static clock::time_point fire(timer_node& self, clock::time_point) noexcept {
    static_cast<waker&>(self).fired.post();
    return no_deadline;
  }
  test::semaphore fired;
};

TEST(timer_node, fires_on_a_runtime_and_tells_stop_the_truth) {
  runtime workers{{.procs = 2}};
  workers.run([] {
    waker soon;
    EXPECT_FALSE(soon.start(clock::now()));
    soon.fired.wait();
    EXPECT_FALSE(soon.stop());

    waker late;
    EXPECT_FALSE(late.start(clock::now() + std::chrono::hours{1}));
    EXPECT_TRUE(late.start(clock::now() + std::chrono::hours{2}));
    EXPECT_TRUE(late.stop());
    EXPECT_FALSE(late.stop());
  });
}

TEST(timer_node, outlives_the_runtime_that_started_it) {
  waker fired;
  waker pending;
  {
    runtime workers{{.procs = 1}};
    workers.run([&] {
      fired.start(clock::now());
      pending.start(clock::now() + std::chrono::hours{1});
      fired.fired.wait();
    });
  }
  EXPECT_FALSE(fired.stop());
  EXPECT_FALSE(pending.stop()) << "it was forgotten with its runtime";
  runtime workers{{.procs = 1}};
  workers.run([&] {
    EXPECT_FALSE(pending.start(clock::now() + std::chrono::hours{1}));
    EXPECT_TRUE(pending.stop());
  });
}

TEST(timer_node_death, destroying_a_started_one_is_a_bug_that_is_told) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        std::vector<int> log;
        auto node = std::make_unique<recorder>();
        node->log = &log;
        node->start(clock::now() + std::chrono::hours{1});
        node.reset();
      },
      "destroyed while started");
}

}  // namespace
}  // namespace exeunt::detail
