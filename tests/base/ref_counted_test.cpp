// SPDX-License-Identifier: Apache-2.0

#include <exeunt/base/ref_counted.hpp>

#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace exeunt::detail {
namespace {

class counted : public ref_counted {
 public:
  explicit counted(int& alive) : alive_{alive} { ++alive_; }
  void release() const noexcept {
    if (drop()) delete this;
  }
  int written = 0;

 private:
  ~counted() { --alive_; }
  int& alive_;
};

using handle = ref_ptr<counted>;

TEST(base_ref_counted, is_freed_with_its_last_handle) {
  int alive = 0;
  {
    handle first = handle::adopt(new counted{alive});
    EXPECT_EQ(first->use_count(), 1U);
    {
      const handle second = first;
      EXPECT_EQ(first->use_count(), 2U);
      EXPECT_EQ(second, first);
    }
    EXPECT_EQ(first->use_count(), 1U);
    EXPECT_EQ(alive, 1);
  }
  EXPECT_EQ(alive, 0);
}

TEST(base_ref_counted, a_move_counts_nothing_and_empties) {
  int alive = 0;
  handle first = handle::adopt(new counted{alive});
  const handle second = std::move(first);
  EXPECT_FALSE(first);
  EXPECT_EQ(second->use_count(), 1U);
}

TEST(base_ref_counted, assignment_drops_what_was_held) {
  int alive = 0;
  handle first = handle::adopt(new counted{alive});
  const handle second = handle::adopt(new counted{alive});
  EXPECT_EQ(alive, 2);
  first = second;
  EXPECT_EQ(alive, 1);
  handle& same = first;
  first = same;
  EXPECT_EQ(first->use_count(), 2U);
  first = nullptr;
  EXPECT_EQ(second->use_count(), 1U);
}

TEST(base_ref_counted, share_adds_adopt_does_not_detach_gives_away) {
  int alive = 0;
  counted* const object = new counted{alive};
  {
    handle shared = handle::share(object);
    EXPECT_EQ(object->use_count(), 2U);
    EXPECT_EQ(shared.detach(), object);
    EXPECT_FALSE(shared);
  }
  EXPECT_EQ(object->use_count(), 2U);
  object->release();
  const handle last = handle::adopt(object);
  EXPECT_EQ(last->use_count(), 1U);
}

TEST(base_ref_counted, null_may_be_copied_and_shared) {
  const handle none;
  const handle copy = none;
  EXPECT_EQ(copy.get(), nullptr);
  EXPECT_FALSE(handle::share(nullptr));
  EXPECT_EQ(none, handle{nullptr});
}

// What each owner wrote is visible to the one that frees: under ThreadSanitizer a missing edge
// shows as a race with the destructor.
TEST(base_ref_counted, handles_may_be_dropped_by_many_threads) {
  constexpr int thread_count = 4;
  constexpr int rounds = 500;
  int alive = 0;
  std::vector<int> slots(thread_count);
  for (int round = 0; round < rounds; ++round) {
    handle shared = handle::adopt(new counted{alive});
    std::vector<std::thread> threads;
    for (int t = 0; t < thread_count; ++t) {
      threads.emplace_back([own = shared, &slots, t]() mutable {
        ++slots[static_cast<std::size_t>(t)];
        own = nullptr;
      });
    }
    shared = nullptr;
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(alive, 0);
  }
  for (const int count : slots) EXPECT_EQ(count, rounds);
}

}  // namespace
}  // namespace exeunt::detail
