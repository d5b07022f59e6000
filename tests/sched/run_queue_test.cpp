// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <memory>
#include <set>
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
  run_queue queue;
  run_queue thief;
};

TEST_F(run_queue_test, is_first_in_first_out) {
  const auto fibers = make(3);
  for (const auto& f : fibers) EXPECT_TRUE(queue.push(*f));
  for (const auto& f : fibers) EXPECT_EQ(queue.pop(), f.get());
  EXPECT_EQ(queue.pop(), nullptr);
}

TEST_F(run_queue_test, refuses_when_full_and_gives_half_away) {
  const auto fibers = make(run_queue::capacity + 1);
  for (std::size_t i = 0; i < run_queue::capacity; ++i) ASSERT_TRUE(queue.push(*fibers[i]));
  EXPECT_FALSE(queue.push(*fibers.back()));
  fiber* first = nullptr;
  fiber* last = nullptr;
  ASSERT_EQ(queue.take_half(first, last), run_queue::capacity / 2);
  EXPECT_EQ(first, fibers[0].get());
  EXPECT_EQ(last, fibers[run_queue::capacity / 2 - 1].get());
  EXPECT_EQ(last->next, nullptr);
  EXPECT_TRUE(queue.push(*fibers.back()));
}

TEST_F(run_queue_test, a_thief_takes_the_older_half_rounded_up) {
  const auto fibers = make(5);
  for (const auto& f : fibers) ASSERT_TRUE(queue.push(*f));
  fiber* const now = queue.steal_into(thief);
  EXPECT_EQ(now, fibers[2].get());
  EXPECT_EQ(thief.pop(), fibers[0].get());
  EXPECT_EQ(thief.pop(), fibers[1].get());
  EXPECT_EQ(thief.pop(), nullptr);
  EXPECT_EQ(queue.size(), 2U);
}

TEST_F(run_queue_test, an_empty_one_has_nothing_to_steal) {
  EXPECT_EQ(queue.steal_into(thief), nullptr);
  EXPECT_TRUE(queue.empty());
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
