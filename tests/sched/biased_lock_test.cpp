// SPDX-License-Identifier: Apache-2.0
#include <exeunt/sched/biased_lock.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include <exeunt/base/race.hpp>
#include <exeunt/sched/wait.hpp>

#include "sched/fence.hpp"
#include "sched/turn_lease.hpp"

namespace exeunt::detail {
namespace {

using sched::turn_lease;

constexpr int more_than_enough = 2 << biased_lock::patience_max;

bool there_are_owners() {
  sched::settle_fences();
  return sched::fences_are_asymmetric.load(memory_order_relaxed);
}

// ThreadSanitizer sees nothing of the runtime's locks; it is told what this one is to order.
class inside {
 public:
  inside(biased_lock& lock, turn& me) : lock_{lock}, held_{lock.lock(me)} { race_acquire(&lock_); }
  ~inside() {
    race_release(&lock_);
    held_.unlock();
  }
  inside(const inside&) = delete;
  inside& operator=(const inside&) = delete;

 private:
  biased_lock& lock_;
  spin_lock& held_;
};

void take_often(biased_lock& lock, turn& me, int times) {
  for (int i = 0; i < times; ++i) lock.lock(me).unlock();
}

// Goal:   who has to wait for another one's section knows how long he did.
// Method: another thread goes in and out until this one has once met it inside. Ends, or does not.
TEST(biased_lock, counts_the_time_of_waits) {
  biased_lock lock;
  turn mine;
  take_often(lock, mine, 100);
  EXPECT_EQ(mine.waited, 0);

  std::atomic<bool> over{false};
  std::thread other{[&] {
    turn others;
    while (!over) {
      {
        const inside in{lock, others};
        std::this_thread::yield();
      }
      std::this_thread::yield();
    }
  }};
  while (mine.waited == 0) take_often(lock, mine, 1);
  over = true;
  other.join();
}

// Goal:   the worker that takes it alone for a while is its owner, until somebody else takes it.
// Method: two workers' turns, one after the other, each long enough.
TEST(biased_lock, belongs_to_who_uses_it_alone) {
  const bool owners = there_are_owners();
  biased_lock lock;
  const turn_lease first;
  const turn_lease second;
  take_often(lock, *first.get(), 1);
  EXPECT_FALSE(lock.is_owned_by(*first.get()));
  take_often(lock, *first.get(), more_than_enough);
  EXPECT_EQ(lock.is_owned_by(*first.get()), owners);
  take_often(lock, *second.get(), 1);
  EXPECT_FALSE(lock.is_owned_by(*first.get()));
  EXPECT_FALSE(lock.is_owned_by(*second.get()));
  take_often(lock, *second.get(), more_than_enough);
  EXPECT_EQ(lock.is_owned_by(*second.get()), owners);
}

// Goal:   the numbers of turns in use are the lowest there are, though there were once many.
TEST(turn_lease, gives_the_lowest_number_first) {
  std::vector<std::unique_ptr<turn_lease>> many;
  for (int i = 0; i < 70; ++i) many.push_back(std::make_unique<turn_lease>());
  std::vector<std::uint32_t> lowest;
  for (const auto& one : many) lowest.push_back((*one)->number);
  std::sort(lowest.begin(), lowest.end());
  many.clear();
  for (int i = 0; i < 3; ++i) {
    many.push_back(std::make_unique<turn_lease>());
    EXPECT_EQ((*many.back())->number, lowest[static_cast<std::size_t>(i)]);
  }
}

// Goal:   a thread that is no worker never owns it, since its turn ends with it.
// Method: the test's own thread.
TEST(biased_lock, belongs_to_no_plain_thread) {
  static_cast<void>(there_are_owners());
  biased_lock lock;
  take_often(lock, this_turn(), more_than_enough);
  EXPECT_FALSE(lock.is_owned_by(this_turn()));
}

// Goal:   more locks at once than a turn has holds for, each owned.
// Method: the last ones are taken as by anybody, and are the owner's still.
TEST(biased_lock, may_be_held_with_many_others) {
  const bool owners = there_are_owners();
  constexpr std::uint32_t count = 2 * turn::holds_max;
  std::vector<biased_lock> locks(count);
  const turn_lease mine;
  for (biased_lock& one : locks) take_often(one, *mine.get(), more_than_enough);
  std::vector<spin_lock*> held;
  for (std::uint32_t i = 0; i < count; ++i) held.push_back(&locks[i].lock(*mine.get(), i));
  for (spin_lock* const one : held) one->unlock();
  for (const biased_lock& one : locks) EXPECT_EQ(one.is_owned_by(*mine.get()), owners);
}

// Goal:   the owner inside keeps others out.
// Method: the other one says that it is about to take it, and must find what the owner wrote long
//         after that. A lock that lets it in too early is found out most of the time.
TEST(biased_lock, keeps_others_out_while_the_owner_is_in) {
  static_cast<void>(there_are_owners());
  biased_lock lock;
  const turn_lease owner;
  take_often(lock, *owner.get(), more_than_enough);
  int guarded = 0;
  atomic<bool> comes{false};
  std::thread other;
  {
    const inside owned{lock, *owner.get()};
    other = std::thread{[&] {
      comes.store(true, memory_order_relaxed);
      const inside shared{lock, this_turn()};
      EXPECT_EQ(guarded, 1);
    }};
    while (!comes.load(memory_order_relaxed)) std::this_thread::yield();
    for (int i = 0; i < 1000; ++i) std::this_thread::yield();
    guarded = 1;
  }
  other.join();
}

// Goal:   two are never inside, whatever the moment at which an owner loses it.
// Method: threads count in stretches of such lengths that ownership is won and lost all the time.
TEST(biased_lock, excludes) {
  static_cast<void>(there_are_owners());
  constexpr int threads = 3;
  constexpr int stretches = 300;
  const auto length_of = [](int stretch, int thread) { return 16L << (stretch + thread) % 6; };
  biased_lock lock;
  long guarded = 0;
  std::vector<std::thread> all;
  for (int t = 0; t < threads; ++t) {
    all.emplace_back([&lock, &guarded, &length_of, t] {
      const turn_lease mine;
      for (int stretch = 0; stretch < stretches; ++stretch) {
        for (long i = length_of(stretch, t); i > 0; --i) {
          const inside counting{lock, *mine.get()};
          ++guarded;
        }
        std::this_thread::yield();
      }
    });
  }
  for (std::thread& one : all) one.join();
  long wanted = 0;
  for (int t = 0; t < threads; ++t) {
    for (int stretch = 0; stretch < stretches; ++stretch) wanted += length_of(stretch, t);
  }
  EXPECT_EQ(guarded, wanted);
}

}  // namespace
}  // namespace exeunt::detail
