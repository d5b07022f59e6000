// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <memory>
#include <set>
#include <thread>
#include <unordered_map>
#include <vector>

#include "sched/fiber.hpp"
#include "sched/inject_queue.hpp"
#include "sched/run_queue.hpp"

namespace exeunt::sched {
namespace {

class run_queue_test : public ::testing::Test {
 protected:
  std::vector<std::unique_ptr<fiber>> make(std::size_t count) {
    std::vector<std::unique_ptr<fiber>> fibers;
    for (std::size_t i = 0; i < count; ++i) fibers.push_back(std::make_unique<fiber>());
    return fibers;
  }
  bool push(fiber& ready) {
    const run_queue::section inside{queue};
    return queue.push(ready);
  }
  fiber* pop() {
    const run_queue::section inside{queue};
    return queue.pop();
  }
  void push_next(fiber* ready) {
    const run_queue::section inside{queue};
    queue.exchange_next(ready);
  }

  run_queue queue;
  std::array<fiber*, run_queue::theft_max> taken{};
};

// SC-09: whatever the number, in the order in which they came, from any slot of the ring on.
TEST_F(run_queue_test, is_first_in_first_out) {
  for (std::size_t count = 0; count < 70; ++count) {
    const auto fibers = make(count);
    for (const auto& f : fibers) EXPECT_TRUE(push(*f));
    for (const auto& f : fibers) EXPECT_EQ(pop(), f.get());
    EXPECT_EQ(pop(), nullptr);
  }
}

TEST_F(run_queue_test, grows_and_shrinks_in_order) {
  constexpr std::size_t many = 20'000;
  const auto fibers = make(many);
  // Not from the ring's first slot on, so that what is moved has gone round its end.
  for (std::size_t i = 0; i < 100; ++i) ASSERT_TRUE(push(*fibers[i]));
  for (std::size_t i = 0; i < 100; ++i) ASSERT_EQ(pop(), fibers[i].get());
  for (const auto& f : fibers) ASSERT_TRUE(push(*f));
  EXPECT_EQ(queue.size(), many);
  for (const auto& f : fibers) ASSERT_EQ(pop(), f.get());
  queue.shrink();
  EXPECT_EQ(pop(), nullptr);
  ASSERT_TRUE(push(*fibers[0]));
  EXPECT_EQ(pop(), fibers[0].get());
}

// Also when the ring is full, and goes round its end.
TEST_F(run_queue_test, a_rotation_goes_by_turns_and_fails_only_if_nobody_is_there) {
  for (const std::size_t count : {1U, 2U, 7U, 256U, 300U}) {
    const auto fibers = make(count + 1);
    EXPECT_EQ(queue.rotate(*fibers[count]), nullptr);
    EXPECT_EQ(pop(), nullptr);
    for (std::size_t i = 0; i < count; ++i) ASSERT_TRUE(push(*fibers[i]));
    fiber* running = fibers[count].get();
    for (std::size_t turn = 0; turn < 3 * (count + 1); ++turn) {
      const run_queue::section inside{queue};
      running = queue.rotate(*running);
      ASSERT_EQ(running, fibers[turn % (count + 1)].get());
    }
    EXPECT_EQ(queue.size(), count);
    for (std::size_t i = 0; i < count; ++i) EXPECT_EQ(pop(), fibers[i].get());
  }
}

// SC-10: one theft takes half of them, rounded up, up to what fits; then each leaves once.
TEST_F(run_queue_test, a_thief_takes_half_of_any_number) {
  for (std::size_t count = 0; count <= 2 * taken.size(); ++count) {
    const auto fibers = make(count);
    for (const auto& f : fibers) ASSERT_TRUE(push(*f));
    const std::size_t stolen = queue.steal(taken);
    ASSERT_EQ(stolen, (count + 1) / 2);
    for (std::size_t i = 0; i < stolen; ++i) EXPECT_EQ(taken[i], fibers[i].get());
    for (std::size_t i = stolen; i < count; ++i) EXPECT_EQ(pop(), fibers[i].get());
    ASSERT_EQ(pop(), nullptr);
  }
}

TEST_F(run_queue_test, a_thief_takes_the_older_half_rounded_up) {
  const auto fibers = make(5);
  for (const auto& f : fibers) ASSERT_TRUE(push(*f));
  ASSERT_EQ(queue.steal(taken), 3U);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(taken[i], fibers[i].get());
  EXPECT_EQ(queue.size(), 2U);
  EXPECT_EQ(pop(), fibers[3].get());
}

TEST_F(run_queue_test, a_thief_takes_no_more_than_fits) {
  const auto fibers = make(1'000);
  for (const auto& f : fibers) ASSERT_TRUE(push(*f));
  ASSERT_EQ(queue.steal(taken), run_queue::theft_max);
  EXPECT_EQ(taken[0], fibers[0].get());
  EXPECT_EQ(pop(), fibers[run_queue::theft_max].get());
}

TEST_F(run_queue_test, a_thief_takes_the_next_one_only_if_there_is_no_other) {
  const auto fibers = make(2);
  push_next(fibers[0].get());
  ASSERT_TRUE(push(*fibers[1]));
  EXPECT_EQ(queue.count(), 2U);
  ASSERT_EQ(queue.steal(taken), 1U);
  EXPECT_EQ(taken[0], fibers[1].get());
  ASSERT_EQ(queue.steal(taken), 1U);
  EXPECT_EQ(taken[0], fibers[0].get());
  EXPECT_EQ(queue.steal(taken), 0U);
  EXPECT_EQ(queue.count(), 0U);
}

TEST_F(run_queue_test, a_thief_gives_way_to_an_owner_who_stays_inside) {
  const auto fibers = make(2);
  ASSERT_TRUE(push(*fibers[0]));
  {
    const run_queue::section inside{queue};
    std::thread{[&] { EXPECT_EQ(queue.steal(taken), 0U); }}.join();
    EXPECT_TRUE(queue.push(*fibers[1]));
  }
  EXPECT_EQ(queue.steal(taken), 1U);
}

// SC-10, its second half.
// Goal:   nothing is lost, doubled or out of the owner's order while thieves take.
// Method: an owner that pushes numbered fibers and pops some, two thieves; every fiber is counted.
// Goal:   a line has the next one first and those that wait apart last, and any can be taken out.
// Method: more than a small ring holds, so that it grows; then from the front, middle and end.
TEST_F(run_queue_test, lines_up_all_that_are_ready) {
  const auto fibers = make(300);
  std::vector<fiber*> line;
  for (const auto& f : fibers) line.push_back(f.get());
  const run_queue::section inside{queue};
  for (std::size_t i = 1; i < line.size(); ++i) ASSERT_TRUE(queue.push_fresh(*line[i]));
  queue.exchange_next(line[0]);
  while (!line.empty()) {
    ASSERT_EQ(queue.line_up(), line.size());
    const std::size_t before = (line.size() - 1) * (line.size() % 3) / 2;
    ASSERT_EQ(&queue.take_from_line(static_cast<std::uint32_t>(before)), line[before]);
    line.erase(line.begin() + static_cast<std::ptrdiff_t>(before));
  }
  EXPECT_EQ(queue.line_up(), 0U);
}

TEST_F(run_queue_test, each_fiber_leaves_once_under_theft) {
  settle_fences();
  constexpr std::size_t many = 100'000;
  const auto fibers = make(many);
  std::unordered_map<const fiber*, std::size_t> number;
  for (std::size_t i = 0; i < many; ++i) number[fibers[i].get()] = i;
  std::vector<std::atomic<int>> left(many);
  std::atomic<bool> over{false};
  const auto thief = [&] {
    std::array<fiber*, run_queue::theft_max> loot{};
    for (bool last = false; !last;) {
      last = over;
      const std::uint32_t count = queue.steal(loot);
      for (std::uint32_t i = 0; i < count; ++i) ++left[number.at(loot[i])];
    }
  };
  std::thread one{thief};
  std::thread two{thief};
  for (std::size_t i = 0; i < many; ++i) {
    ASSERT_TRUE(push(*fibers[i]));
    if (i % 3 == 0) {
      if (const fiber* const own = pop()) ++left[number.at(own)];
    }
  }
  over = true;
  one.join();
  two.join();
  while (const fiber* const own = pop()) ++left[number.at(own)];
  for (std::size_t i = 0; i < many; ++i) ASSERT_EQ(left[i], 1) << "fiber " << i;
}

TEST(inject_queue, hands_out_in_order_and_in_shares) {
  inject_queue queue;
  std::vector<std::unique_ptr<fiber>> fibers;
  for (int i = 0; i < 5; ++i) {
    fibers.push_back(std::make_unique<fiber>());
    queue.push(*fibers.back());
  }
  EXPECT_EQ(queue.size(), 5U);
  fiber* const two = queue.pop_list(2);
  EXPECT_EQ(two, fibers[0].get());
  EXPECT_EQ(two->next, fibers[1].get());
  EXPECT_EQ(two->next->next, nullptr);
  fiber* const rest = queue.pop_list(100);
  EXPECT_EQ(rest, fibers[2].get());
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.pop_list(1), nullptr);
}

TEST(fiber_slabs, reuse_blocks_and_never_give_one_out_twice) {
  fiber_slabs slabs;
  std::set<fiber*> taken;
  for (int i = 0; i < 1'000; ++i) EXPECT_TRUE(taken.insert(slabs.get()).second);
  for (fiber* const block : taken) slabs.put(*block);
  EXPECT_TRUE(taken.contains(slabs.get()));
  std::size_t listed = 0;
  for (const fiber* block = slabs.get_list(10); block != nullptr; block = block->next) ++listed;
  EXPECT_EQ(listed, 10U);
}

TEST(fiber_slabs, show_only_blocks_in_use) {
  fiber_slabs slabs;
  fiber* const block = slabs.get();
  std::size_t seen = 0;
  slabs.for_each([&](fiber&) { ++seen; });
  EXPECT_EQ(seen, 0U);
  block->state = fiber_state::ready;
  slabs.for_each([&](fiber& f) { seen += &f == block ? 1U : 100U; });
  EXPECT_EQ(seen, 1U);
}

}  // namespace
}  // namespace exeunt::sched
