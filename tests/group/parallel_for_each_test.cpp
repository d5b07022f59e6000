// SPDX-License-Identifier: Apache-2.0

#include <exeunt/group/parallel_for_each.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <forward_list>
#include <memory>
#include <ranges>
#include <set>
#include <source_location>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <exeunt/chan/chan.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/time/sleep.hpp>

#include "support/explored.hpp"
#include "support/until_parked.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using detail::wait_reason;

class parallel_for_each_test : public test::explored {};
EXEUNT_EXPLORED(parallel_for_each_test);

const error e1{errc::malformed, "e1"};

[[gnu::noinline]] void throws_out_of_range() { throw std::out_of_range{"no such thing"}; }

// Goal:   each item is visited once, in place, and what was written is there afterwards.
// Method: plain elements, so that a missing edge is a race under ThreadSanitizer.
TEST_P(parallel_for_each_test, visits_each_item_in_place) {
  run([] {
    for (const int limit : {-1, 1, 3, 1000}) {
      std::vector<int> items(60, 1);
      EXPECT_TRUE(parallel_for_each(context::background(), items, limit,
                                    [](const context&, int& item) { ++item; }));
      EXPECT_EQ(std::ranges::count(items, 2), 60);
    }
  });
}

TEST_P(parallel_for_each_test, of_nothing_is_a_success) {
  run([] {
    const std::vector<int> none;
    const auto never = [](const context&, int) { ADD_FAILURE(); };
    EXPECT_TRUE(parallel_for_each(context::background(), none, 4, never));
    auto [ctx, cancel] = with_cancel(context::background());
    cancel();
    EXPECT_TRUE(parallel_for_each(ctx, none, 4, never));
  });
}

// EG-04, for a loop.
TEST_P(parallel_for_each_test, limit_holds_and_is_used) {
  run([] {
    constexpr int limit = 5;
    std::atomic<int> active{0};
    std::atomic<int> most{0};
    const auto body = [&](const context&, int) {
      const int now = ++active;
      EXPECT_LE(now, limit);
      for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
      }
      // All five have to be here at once before any goes on.
      while (most < limit) yield();
      --active;
    };
    EXPECT_TRUE(parallel_for_each(context::background(), std::views::iota(0, 50), limit, body));
    EXPECT_EQ(most, limit);
  });
}

TEST_P(parallel_for_each_test, without_a_limit_all_run_at_once) {
  run([] {
    std::atomic<int> there{0};
    EXPECT_TRUE(parallel_for_each(context::background(), std::views::iota(0, 20), -1,
                                  [&](const context&, int) {
                                    ++there;
                                    while (there < 20) yield();
                                  }));
  });
}

TEST_P(parallel_for_each_test, a_limit_of_zero_is_a_mistake) {
  run([] {
    const std::vector<int> none;
    EXPECT_THROW(static_cast<void>(parallel_for_each(context::background(), none, 0,
                                                     [](const context&, int) { ADD_FAILURE(); })),
                 panic_error);
  });
}

// Goal:   the first failure ends the calls under way, and no other begins.
// Method: one call waits for its end, another fails; the limit keeps the others out.
TEST_P(parallel_for_each_test, a_failure_ends_the_others_and_the_loop) {
  run([] {
    std::atomic<int> begun{0};
    const result<> ended = parallel_for_each(context::background(), std::views::iota(0, 1000), 2,
                                             [&](const context& ctx, int item) -> result<> {
                                               ++begun;
                                               if (item == 1) return fail(e1);
                                               ctx.wait();
                                               EXPECT_EQ(*cause(ctx), e1);
                                               return fail(*ctx.err());
                                             });
    ASSERT_FALSE(ended);
    EXPECT_EQ(ended.error(), e1);
    EXPECT_LE(begun, 2);
  });
}

TEST_P(parallel_for_each_test, later_failures_are_joined) {
  run([] {
    std::atomic<bool> second_began{false};
    const result<> ended = parallel_for_each(context::background(), std::vector{0, 1}, 2,
                                             [&](const context& ctx, int item) -> result<> {
                                               if (item == 0) {
                                                 while (!second_began) yield();
                                                 return fail(e1);
                                               }
                                               second_began = true;
                                               ctx.wait();
                                               return fail(errc::closed, "and this");
                                             });
    EXPECT_EQ(ended.error().message(), "e1; and this");
  });
}

TEST_P(parallel_for_each_test, an_exception_is_a_failure_with_type_and_stack) {
  run([] {
    const result<> ended = parallel_for_each(context::background(), std::views::iota(0, 10), 3,
                                             [](const context&, int item) {
                                               if (item == 4) throws_out_of_range();
                                             });
    ASSERT_FALSE(ended);
    EXPECT_EQ(ended.error().exception_type(), "std::out_of_range");
    EXPECT_NE(ended.error().stack().find("throws_out_of_range"), std::string::npos);
    EXPECT_THROW(ended.error().rethrow(), std::out_of_range);
  });
}

// Goal:   what a range throws is a failure, too, and calls under way are waited for.
TEST_P(parallel_for_each_test, an_exception_of_the_range_is_a_failure) {
  run([] {
    std::atomic<int> ended{0};
    auto odd = std::views::iota(0, 10) | std::views::filter([](int i) {
                 if (i == 6) throw std::runtime_error{"the range"};
                 return i % 2 == 1;
               });
    const result<> outcome =
        parallel_for_each(context::background(), odd, -1, [&](const context& ctx, int) {
          ctx.wait();
          ++ended;
        });
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().exception_type(), "std::runtime_error");
    EXPECT_LE(ended, 3);
  });
}

TEST_P(parallel_for_each_test, begins_nothing_if_its_context_has_ended) {
  run([] {
    auto [ctx, cancel] = with_cancel(context::background());
    cancel();
    const result<> ended = parallel_for_each(ctx, std::views::iota(0, 10), 4,
                                             [](const context&, int) { ADD_FAILURE(); });
    EXPECT_EQ(ended.error(), error{errc::canceled});
  });
}

// Goal:   if the context ends in the middle, the loop says so, though no call has failed.
TEST_P(parallel_for_each_test, fails_if_its_context_ends_before_the_last_item) {
  run([] {
    auto [ctx, cancel] = with_cancel(context::background());
    std::atomic<int> begun{0};
    const result<> ended = parallel_for_each(ctx, std::views::iota(0, 100), 1,
                                             [&, &stop = cancel](const context&, int item) {
                                               ++begun;
                                               if (item == 7) stop();
                                             });
    EXPECT_EQ(ended.error(), error{errc::canceled});
    EXPECT_EQ(begun, 8);
  });
}

// A context that ends when all has been done takes nothing back.
TEST_P(parallel_for_each_test, an_end_after_the_last_item_is_none) {
  run([] {
    auto [ctx, cancel] = with_cancel(context::background());
    EXPECT_TRUE(parallel_for_each(ctx, std::views::iota(0, 5), 1,
                                  [&, &stop = cancel](const context&, int item) {
                                    if (item == 4) stop();
                                  }));
  });
}

TEST_P(parallel_for_each_test, tells_of_the_signal_that_ended_it) {
  run([] {
    auto [ctx, cancel] = with_cancel_cause(context::background());
    const result<> ended = parallel_for_each(
        ctx, std::views::iota(0, 5), 2, [&, &stop = cancel](const context& round, int) -> result<> {
          stop(error::from_signal(15));
          return fail(*round.err());
        });
    EXPECT_EQ(ended.error().signal(), 15);
    EXPECT_EQ(exit_code(ended), 0);
  });
}

TEST_P(parallel_for_each_test, a_deadline_ends_it) {
  run([] {
    const result<> ended =
        parallel_for_each(with_timeout(context::background(), 1ms), std::views::iota(0, 5), 2,
                          [](const context& ctx, int) -> result<> { return sleep(ctx, 1h); });
    EXPECT_EQ(ended.error(), error{errc::deadline_exceeded});
  });
}

// --- where items come from

TEST_P(parallel_for_each_test, takes_what_can_be_walked_once) {
  run([] {
    std::istringstream words{"each of these once"};
    std::atomic<std::size_t> letters{0};
    EXPECT_TRUE(
        parallel_for_each(context::background(), std::views::istream<std::string>(words), 2,
                          [&](const context&, std::string word) { letters += word.size(); }));
    EXPECT_EQ(letters, 15U);
  });
}

TEST_P(parallel_for_each_test, takes_lists_and_constants) {
  run([] {
    const std::forward_list<int> items{1, 2, 3, 4};
    std::atomic<int> sum{0};
    EXPECT_TRUE(parallel_for_each(context::background(), items, 2,
                                  [&](const context&, const int& item) { sum += item; }));
    EXPECT_EQ(sum, 10);
  });
}

// Goal:   what a view computes is computed by the calls, not by the loop.
TEST_P(parallel_for_each_test, a_view_computes_in_parallel) {
  run([] {
    std::atomic<int> computing{0};
    auto squares = std::views::iota(0, 4) | std::views::transform([&](int i) {
                     ++computing;
                     while (computing < 4) yield();
                     return i * i;
                   });
    std::atomic<int> sum{0};
    EXPECT_TRUE(parallel_for_each(context::background(), squares, 4,
                                  [&](const context&, int square) { sum += square; }));
    EXPECT_EQ(sum, 14);
  });
}

// Goal:   a channel gives each of its values to one call until it is closed.
// Method: what can only be moved.
TEST_P(parallel_for_each_test, drains_a_channel) {
  run([] {
    for (const std::size_t capacity : {std::size_t{0}, std::size_t{3}}) {
      const chan<std::unique_ptr<int>> items{capacity};
      go([items] {
        const close_on_exit closing{items};
        for (int i = 1; i <= 20; ++i) items.send(std::make_unique<int>(i));
      });
      std::atomic<int> sum{0};
      EXPECT_TRUE(
          parallel_for_each(context::background(), items, 3,
                            [&](const context&, std::unique_ptr<int> item) { sum += *item; }));
      EXPECT_EQ(sum, 210);
    }
  });
}

// Goal:   while no call can begin, a channel keeps what it has.
TEST_P(parallel_for_each_test, takes_nothing_that_cannot_run_yet) {
  run([] {
    const chan<int> items{3};
    for (int i = 0; i < 3; ++i) items.send(i);
    items.close();
    std::atomic<std::size_t> left{2};
    EXPECT_TRUE(parallel_for_each(context::background(), recv_only<int>{items}, 1,
                                  [&](const context&, int) {
                                    for (int i = 0; i < 10; ++i) yield();
                                    EXPECT_EQ(items.size(), left);
                                    if (left > 0) --left;
                                  }));
  });
}

// Goal:   a failure ends the loop also while it waits for a channel that gives nothing.
TEST_P(parallel_for_each_test, a_failure_ends_the_wait_for_a_channel) {
  run([] {
    const chan<int> items{1};
    items.send(1);
    const result<> ended =
        parallel_for_each(context::background(), items, 4, [](const context&, int) -> result<> {
          test::until_parked(1, wait_reason::chan_recv);
          return fail(e1);
        });
    EXPECT_EQ(ended.error(), e1);
  });
}

TEST_P(parallel_for_each_test, a_context_ends_the_wait_for_a_channel) {
  run([] {
    const result<> ended = parallel_for_each(with_timeout(context::background(), 1ms), chan<int>{},
                                             4, [](const context&, int) { ADD_FAILURE(); });
    EXPECT_EQ(ended.error(), error{errc::deadline_exceeded});
  });
}

// --- around it

TEST_P(parallel_for_each_test, nests) {
  run([] {
    std::vector<std::vector<int>> rows(4, std::vector<int>(4));
    const auto outer = [](const context& ctx, std::vector<int>& row) {
      return parallel_for_each(ctx, row, 2, [](const context&, int& item) { item = 1; });
    };
    EXPECT_TRUE(parallel_for_each(context::background(), rows, 2, outer));
    for (const auto& row : rows) EXPECT_EQ(std::ranges::count(row, 1), 4);
  });
}

TEST_P(parallel_for_each_test, names_its_fibers_and_the_line_that_called) {
  run([] {
    const std::vector<int> items{1, 2};
    const auto look = [](const context&, int) {
      const auto all = runtime::current().fibers();
      const auto mine = std::ranges::find(all, this_fiber::id(), &fiber_info::id);
      EXPECT_NE(std::string{mine->started_at.file_name()}.find("parallel_for_each_test"),
                std::string::npos);
      EXPECT_TRUE(mine->name == "round" || mine->name.empty());
    };
    EXPECT_TRUE(parallel_for_each(context::background(), items, 2, look));
    EXPECT_TRUE(parallel_for_each({.name = "round"}, context::background(), items, 2, look));
  });
}

TEST(parallel_for_each, works_from_a_plain_thread) {
  std::atomic<int> sum{0};
  EXPECT_TRUE(parallel_for_each(context::background(), std::views::iota(1, 101), 4,
                                [&](const context&, int item) { sum += item; }));
  EXPECT_EQ(sum, 5050);
}

// A function that could not fail loudly: what it returns would be lost.
template <typename Returns>
using returning = Returns (*)(const context&, int);
template <typename F>
concept accepted = requires(const context& ctx, std::vector<int>& items, F f) {
  parallel_for_each(ctx, items, 1, f);
};
static_assert(accepted<returning<void>> && accepted<returning<result<>>> &&
              accepted<returning<result<int>>>);
static_assert(!accepted<returning<int>> && !accepted<void (*)(int)>);

}  // namespace
}  // namespace exeunt
