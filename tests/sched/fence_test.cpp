// SPDX-License-Identifier: Apache-2.0

#include "sched/fence.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace exeunt::sched {
namespace {

// Two threads that begin each round together, as nearly as two processors can.
class rounds {
 public:
  explicit rounds(int parties) : parties_{parties} {}
  void meet() {
    const int round = round_.load();
    if (arrived_.fetch_add(1) + 1 == parties_) {
      arrived_.store(0);
      round_.store(round + 1);
      return;
    }
    for (int spins = 0; round_.load() == round; ++spins) {
      if (spins > 1000) std::this_thread::yield();  // Perhaps there is but one processor.
    }
  }

 private:
  const int parties_;
  detail::atomic<int> arrived_{0};
  detail::atomic<int> round_{0};
};

// Goal:   of two sides that each store and then look, at least one sees the other's store.
// Method: store buffering on two threads in step. Without the heavy fence, 48 to 1129 of 100 000
//         rounds ended with both having looked in vain.
TEST(fence, light_and_heavy_order_as_two_full_ones) {
  settle_fences();
  constexpr int count = 20'000;
  rounds in_step{2};
  alignas(64) detail::atomic<int> ready{0};
  alignas(64) detail::atomic<int> asleep{0};
  int saw_asleep = 0;
  std::thread producer{[&] {
    for (int i = 1; i <= count; ++i) {
      in_step.meet();
      ready.store(i, detail::memory_order_relaxed);
      light_fence();
      saw_asleep = asleep.load(detail::memory_order_relaxed);
      in_step.meet();
    }
  }};
  int missed = 0;
  for (int i = 1; i <= count; ++i) {
    in_step.meet();
    asleep.store(i, detail::memory_order_relaxed);
    heavy_fence();
    const int saw_ready = ready.load(detail::memory_order_relaxed);
    in_step.meet();
    missed += static_cast<int>(saw_ready != i && saw_asleep != i);
  }
  producer.join();
  EXPECT_EQ(missed, 0);
}

}  // namespace
}  // namespace exeunt::sched
