// SPDX-License-Identifier: Apache-2.0
// The protocol of atomic_value under all schedules with two or three preemptions at atomic
// operations: what is held is not destroyed, and what nobody holds is.

#include <exeunt/sync/atomic_value.hpp>

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include <exeunt/sched/go.hpp>
#include <exeunt/sim/explore.hpp>
#include <exeunt/sim/gtest.hpp>
#include <exeunt/sync/wait_group.hpp>

namespace exeunt {
namespace {

int alive = 0;

// In a simulation nothing runs between two steps, so that plain variables do.
class watched {
 public:
  explicit watched(int number) : number_{number} { ++alive; }
  watched(const watched& other) : number_{other.number()} { ++alive; }
  watched& operator=(const watched& other) = default;
  ~watched() {
    sim::check(number_ >= 0, "destroyed twice");
    number_ = -1;
    --alive;
  }
  [[nodiscard]] int number() const {
    sim::check(number_ >= 0, "used after its end");
    return number_;
  }

 private:
  int number_;
};

using cell = atomic_value<watched>;

// Each look at a slot is a step: as many as are needed are made before there is anybody else.
void make_slots(const cell& value, std::size_t count) {
  std::vector<cell::snapshot> held(count);
  for (auto& one : held) one = value.load();
}

// `f` gets a cell and a group to start fibers in. When these have ended, one value is there.
template <typename F>
void explore_all(const char* name, unsigned preemptions, std::size_t slots, F f) {
  const sim::explored sum = sim::expect_explored(
      {.name = name, .schedules = 4'000'000, .preemptions = preemptions, .exhaustive = true}, [&] {
        alive = 0;
        {
          cell value{watched{0}};
          make_slots(value, slots);
          wait_group group;
          f(value, group);
          group.wait();
          sim::check(alive == 1, "a value is left that nobody holds");
        }
        sim::check(alive == 0, "the last value is left");
      });
  EXPECT_TRUE(sum.covered) << "of " << sum.schedules << " schedules";
  ::testing::Test::RecordProperty("schedules", std::to_string(sum.schedules));
}

void read_once(const cell& value) {
  const auto seen = value.load();
  const int number = seen->number();
  yield();
  sim::check(seen->number() == number, "changed while it was held");
}

TEST(snapshot_steps, a_reader_and_a_store) {
  explore_all("reader and store", 3, 1, [](cell& value, wait_group& group) {
    group.go([&] { read_once(value); });
    group.go([&] { value.store(watched{1}); });
  });
}

TEST(snapshot_steps, a_reader_and_two_stores_in_a_row) {
  explore_all("reader and two stores", 2, 1, [](cell& value, wait_group& group) {
    group.go([&] {
      read_once(value);
      read_once(value);
    });
    group.go([&] {
      value.store(watched{1});
      value.store(watched{2});
    });
  });
}

TEST(snapshot_steps, two_readers_and_a_store) {
  explore_all("two readers", 2, 2, [](cell& value, wait_group& group) {
    for (int r = 0; r < 2; ++r) group.go([&] { read_once(value); });
    group.go([&] { value.store(watched{1}); });
  });
}

TEST(snapshot_steps, a_reader_and_two_writers) {
  explore_all("two writers", 2, 1, [](cell& value, wait_group& group) {
    group.go([&] { read_once(value); });
    for (int w = 1; w <= 2; ++w) group.go([&, w] { value.store(watched{w}); });
  });
}

TEST(snapshot_steps, a_snapshot_that_another_gives_up) {
  explore_all("given up by another", 2, 2, [](cell& value, wait_group& group) {
    group.go([&] {
      auto taken = value.load();
      group.go([given = std::move(taken)]() mutable {
        static_cast<void>(given->number());
        given.reset();
      });
    });
    group.go([&] { value.store(watched{1}); });
  });
}

TEST(snapshot_steps, exchanges_and_a_reader) {
  explore_all("exchange", 2, 1, [](cell& value, wait_group& group) {
    group.go([&] { read_once(value); });
    group.go([&] {
      const auto old = value.exchange(watched{1});
      static_cast<void>(old->number());
    });
  });
}

TEST(snapshot_steps, updates_lose_nothing) {
  explore_all("updates", 2, 2, [](cell& value, wait_group& group) {
    wait_group both;
    for (int u = 0; u < 2; ++u) {
      both.go([&] {
        auto seen = value.load();
        while (!value.compare_exchange(seen, watched{seen->number() + 1})) {
        }
      });
    }
    both.wait();
    sim::check(value.load()->number() == 2, "an update was lost");
    static_cast<void>(group);
  });
}

}  // namespace
}  // namespace exeunt
