// SPDX-License-Identifier: Apache-2.0
// Select: one case, evenly chosen, without traces of the others.

#include <exeunt/chan/select.hpp>

#include <gtest/gtest.h>

#include <any>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <exeunt/chan/chan.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>

#include "chan/parked.hpp"
#include "support/explored.hpp"

namespace exeunt {
namespace {

using detail::wait_reason;
using test::until_parked;
using namespace std::chrono_literals;

class select_test : public test::explored {};
EXEUNT_EXPLORED(select_test);

constexpr auto ignore = [](auto&&...) {};
constexpr auto never = [](auto&&...) { ADD_FAILURE() << "a case that was not ready won"; };

// SE-01: every send's value is evaluated at each select, also of nil and losing cases.
TEST_P(select_test, se_01_evaluates_values_of_all_cases) {
  run([] {
    int calls = 0;
    const auto next = [&calls](int v) {
      ++calls;
      return v;
    };
    const auto count = [&](chan<int> a, chan<int> b) {
      int sent = 0;
      int got = 0;
      for (bool more = true; more;) {
        chan<int> was_a = a;
        chan<int> was_b = b;
        select(on_send(was_a, next(1), [&] { ++sent, a = nullptr; }),
               on_send(was_b, next(2), [&] { ++sent, b = nullptr; }),
               otherwise([&] { more = false; }));
        if (was_a && !a) got |= *was_a.recv();
        if (was_b && !b) got |= *was_b.recv();
      }
      return std::pair{sent, got};
    };
    EXPECT_EQ(count(chan<int>{1}, chan<int>{1}), (std::pair{2, 3}));
    EXPECT_EQ(count(chan<int>{nullptr}, chan<int>{1}), (std::pair{1, 2}));
    EXPECT_EQ(calls, 10);
  });
}

// What is ready is preferred to otherwise(); a closed channel is ready.
TEST_P(select_test, se_05_prefers_what_is_ready) {
  run([] {
    const chan<int> c{1};
    EXPECT_EQ(select(on_send(c, 1, [] {}), otherwise(never)), 0U);
    EXPECT_EQ(select(on_recv(c, [](std::optional<int> v) { EXPECT_EQ(v, 1); }), otherwise(never)),
              0U);
    c.close();
    EXPECT_EQ(select(on_recv(c, [](std::optional<int> v) { EXPECT_EQ(v, std::nullopt); }),
                     otherwise(never)),
              0U);
    EXPECT_EQ(select(on_recv(c, [] {})), 0U);
    EXPECT_EQ(select(on_recv(chan<int>{}, never), on_recv(recv_only<int>{c}, [] {})), 1U);
    EXPECT_THROW(select(on_send(c, 1, never)), closed_channel);
    EXPECT_THROW(select(on_send(c, 1, never), otherwise(never)), closed_channel);
  });
}

// SE-07: the handler of a losing case is never called, and its destination not touched.
TEST_P(select_test, se_07_leaves_the_destinations_of_losers) {
  run([] {
    const chan<int> never_ready;
    const chan<int> ready{1};
    ready.send(42);
    struct {
      int field = 0;
    } target;
    select(on_recv(never_ready, never),
           on_recv(ready, [&](std::optional<int> v) { target.field = *v; }));
    EXPECT_EQ(target.field, 42);
  });
}

// SE-08: named cases are evaluated in the order they are written, before anything is done.
TEST_P(select_test, se_08_evaluates_named_cases_in_order) {
  run([] {
    std::string order;
    const chan<int> c{1};
    const auto channel = [&](char name, const chan<int>& of) -> const chan<int>& {
      order += name;
      return of;
    };
    const auto value = [&](char name, int v) {
      order += name;
      EXPECT_EQ(c.size(), 0U);
      return v;
    };
    const chan<int> nil{nullptr};
    const chan<int> idle;
    const chan<int>& a = channel('a', nil);
    auto first = on_send(a, value('b', 1), never);
    auto second = on_recv(channel('c', idle), never);
    const chan<int>& d = channel('d', c);
    auto third = on_send(d, value('e', 3), [&] { order += '!'; });
    EXPECT_EQ(select(first, second, third), 2U);
    EXPECT_EQ(order, "abcde!");
    EXPECT_EQ(c.recv(), 3);
    // Cases can be used again.
    EXPECT_EQ(select(first, second, third), 2U);
    EXPECT_EQ(c.recv(), 3);
  });
}

template <typename Case>
concept can_be_named = requires(Case& one) { select(one); };
template <typename Case>
concept can_be_made_in_the_call = requires(Case&& one) { select(std::move(one)); };

// By the time of the select a temporary would be gone. What is copied is the case's own.
TEST_P(select_test, names_no_case_that_refers_to_an_rvalue) {
  run([] {
    const chan<std::string> c{1};
    std::string value(60, 'x');
    const auto nothing = [] {};
    using of_rvalue = decltype(on_send(c, std::string{}, nothing));
    using of_lvalue = decltype(on_send(c, value, nothing));
    using of_converted = decltype(on_send(c, "literal", nothing));
    static_assert(!can_be_named<of_rvalue> && can_be_made_in_the_call<of_rvalue>);
    static_assert(can_be_named<of_lvalue> && can_be_named<of_converted>);
    auto named = on_send(c, value, nothing);
    value.assign(60, 'y');
    EXPECT_EQ(select(named), 0U);
    EXPECT_EQ(c.recv(), std::string(60, 'x'));
  });
}

// A channel's elements need to move, and no more.
struct unassignable {
  const int number;
};
static_assert(!std::is_move_assignable_v<unassignable>);

TEST_P(select_test, receives_what_cannot_be_assigned) {
  run([] {
    const chan<unassignable> c{2};
    c.send(unassignable{1});
    c.send(unassignable{2});
    auto take = on_recv(c, [](std::optional<unassignable> v) { return v->number; });
    EXPECT_EQ(select(take), 1);
    EXPECT_EQ(select(take), 2);
    EXPECT_EQ(select(on_send(c, unassignable{3}, [] { return 0; })), 0);
    EXPECT_EQ(select(take), 3);
  });
}

// SE-11: receivers that drop the value against all kinds of senders.
TEST_P(select_test, se_11_receives_without_destination) {
  run([] {
    for (int receiver = 0; receiver < 3; ++receiver) {
      for (int sender = 0; sender < 3; ++sender) {
        const chan<int> c;
        const chan<int> idle;
        const chan<void> over;
        go([=] {
          if (receiver == 0) static_cast<void>(c.recv());
          if (receiver == 1) select(on_recv(c, [] {}));
          if (receiver == 2) select(on_recv(c, [] {}), on_recv(idle, never));
          over.send();
        });
        until_parked(1, receiver == 0 ? wait_reason::chan_recv : wait_reason::select);
        if (sender == 0) c.send(1);
        if (sender == 1) select(on_send(c, 1, [] {}));
        if (sender == 2) select(on_send(c, 1, [] {}), on_send(chan<int>{}, 1, never));
        EXPECT_TRUE(over.recv());
      }
    }
  });
}

// SE-15: two fibers that both send and receive on one channel; nobody meets itself.
TEST_P(select_test, se_15_never_meets_itself) {
  for (const std::size_t capacity : {std::size_t{0}, std::size_t{10}}) {
    run([capacity] {
      const chan<int> c{capacity};
      const chan<void> over;
      for (int id = 0; id < 2; ++id) {
        go([=] {
          const auto got = [&](std::optional<int> v) {
            if (capacity == 0) {
              EXPECT_EQ(v, 1 - id);
            }
          };
          for (int round = 0; round < 1'000; ++round) {
            if (id == 0 || round % 2 == 0) {
              select(on_send(c, id, [] {}), on_recv(c, got));
            } else {
              select(on_recv(c, got), on_send(c, id, [] {}));
            }
          }
          over.send();
        });
      }
      EXPECT_TRUE(over.recv());
      // With capacity 0 each exchange ends a round of both.
      EXPECT_TRUE(over.recv());
    });
  }
}

// SE-17: the ready cases are chosen evenly.
TEST_P(select_test, se_17_chooses_evenly) {
  run([] {
    constexpr int trials = 10'000;
    const chan<int> ones{trials + 1};
    const chan<int> twos{trials + 1};
    for (int i = 0; i <= trials; ++i) {
      ones.send(1);
      twos.send(2);
    }
    const chan<int> idle;
    const chan<int> also_idle;
    int from_ones = 0;
    for (int i = 0; i < trials; ++i) {
      select(on_recv(also_idle, never), on_recv(ones, [&](auto) { ++from_ones; }),
             on_recv(twos, ignore), on_recv(idle, never));
    }
    // Once in a million runs a fair choice is further off than 4.891676 standard deviations.
    const double bound = 4.891676 / (2 * std::sqrt(trials));
    EXPECT_NEAR(static_cast<double>(from_ones) / trials, 0.5, bound);
  });
}

// The same over eight ready cases, by the chi-square test with 7 degrees of freedom.
TEST_P(select_test, chooses_evenly_among_many) {
  run([] {
    constexpr int trials = 8'000;
    chan<void> c{1};
    c.close();
    int hits[8] = {};
    for (int i = 0; i < trials; ++i) {
      ++hits[select(on_recv(c, ignore), on_recv(c, ignore), on_recv(c, ignore), on_recv(c, ignore),
                    on_recv(c, ignore), on_recv(c, ignore), on_recv(c, ignore),
                    on_recv(c, ignore))];
    }
    double chi_square = 0;
    for (const int hit : hits) {
      chi_square += (hit - trials / 8.0) * (hit - trials / 8.0) / (trials / 8.0);
    }
    EXPECT_LT(chi_square, 40.5);  // p = 1e-6
  });
}

// SE-18: two sends on one channel each win often enough.
TEST_P(select_test, se_18_chooses_among_sends) {
  for (const std::size_t capacity : {std::size_t{0}, std::size_t{100}}) {
    run([capacity] {
      constexpr int rounds = 100;
      const chan<int> c{capacity};
      const chan<int> ones{1};
      go([=] {
        int count = 0;
        for (int i = 0; i < rounds; ++i) {
          yield();
          count += *c.recv();
        }
        ones.send(count);
      });
      for (int i = 0; i < rounds; ++i) select(on_send(c, 0, [] {}), on_send(c, 1, [] {}));
      const int count = *ones.recv();
      EXPECT_GT(count, rounds / 10);
      EXPECT_LT(count, rounds - rounds / 10);
    });
  }
}

// SE-20: two sends to one full channel.
TEST_P(select_test, se_20_full_for_both) {
  run([] {
    const chan<std::unique_ptr<int>> c{1};
    c.send(nullptr);
    auto first = std::make_unique<int>(1);
    auto second = std::make_unique<int>(2);
    EXPECT_EQ(select(on_send(c, std::move(first), never), on_send(c, std::move(second), never),
                     otherwise([] {})),
              2U);
    EXPECT_NE(first, nullptr);
    EXPECT_NE(second, nullptr);
  });
}

// SE-21: each channel is listed twice, and a close ends the wait of fibers with deep stacks.
TEST_P(select_test, se_21_a_close_ends_parked_selects) {
  run([] {
    const chan<int> c;
    const chan<int> d;
    constexpr std::size_t fibers = 10;
    const chan<int> over{fibers};
    for (std::size_t i = 0; i < fibers; ++i) {
      go([=] {
        int untouched = 42;
        int* const alias = &untouched;
        const std::size_t won =
            select(on_recv(c, [&](std::optional<int> v) { untouched = v.value_or(0); }),
                   on_recv(d, [](std::optional<int> v) { EXPECT_EQ(v, std::nullopt); }),
                   on_recv(c, [&](std::optional<int> v) { untouched = v.value_or(0); }),
                   on_recv(d, [](std::optional<int> v) { EXPECT_EQ(v, std::nullopt); }));
        EXPECT_EQ(won % 2, 1U);
        over.send(*alias);
      });
    }
    until_parked(fibers, wait_reason::select);
    d.close();
    for (std::size_t i = 0; i < fibers; ++i) EXPECT_EQ(over.recv(), 42);
    // Nothing of the losing cases is left.
    EXPECT_FALSE(c.try_send(1));
  });
}

TEST_P(select_test, returns_what_the_handler_returned) {
  run([] {
    const chan<int> c{1};
    const auto once = [&] {
      return select(on_recv(c, [](std::optional<int> v) { return std::to_string(*v); }),
                    otherwise([] { return std::string{"nothing"}; }));
    };
    EXPECT_EQ(once(), "nothing");
    c.send(5);
    EXPECT_EQ(once(), "5");
    const chan<std::unique_ptr<int>> u{1};
    u.send(std::make_unique<int>(6));
    auto taken =
        select(on_recv(u, [](std::optional<std::unique_ptr<int>> v) { return std::move(*v); }));
    EXPECT_EQ(*taken, 6);
    int target = 0;
    int& reference = select(otherwise([&]() -> int& { return target; }));
    reference = 1;
    EXPECT_EQ(target, 1);
  });
}

TEST_P(select_test, moves_a_value_only_if_its_case_wins) {
  run([] {
    const chan<std::unique_ptr<int>> full;
    const chan<std::unique_ptr<int>> room{1};
    auto value = std::make_unique<int>(1);
    select(on_send(full, std::move(value), never), otherwise([] {}));
    ASSERT_NE(value, nullptr);
    select(on_send(full, std::move(value), never), after(1us, [] {}));
    ASSERT_NE(value, nullptr);
    select(on_send(room, std::move(value), [] {}), on_recv(full, never));
    EXPECT_EQ(value, nullptr);
    const chan<std::string> text{2};
    std::string word = "a word that is too long for the small buffer";
    select(on_send(text, word, [] {}));
    EXPECT_FALSE(word.empty());
    select(on_send(text, "converted", [] {}));
    EXPECT_EQ(text.recv(), word);
    EXPECT_EQ(text.recv(), "converted");
    room.close();
    auto refused = std::make_unique<int>(2);
    EXPECT_THROW(select(on_send(room, std::move(refused), never)), closed_channel);
    EXPECT_NE(refused, nullptr);
  });
}

// An element that braces would make from a list of one.
struct counts_its_parts {
  std::size_t parts = 0;
  explicit counts_its_parts(int) {}
  counts_its_parts(std::initializer_list<counts_its_parts> list) : parts{list.size()} {}
};

template <typename Handle, typename V>
concept can_be_sent = requires(Handle c, V&& v) { on_send(c, std::forward<V>(v), [] {}); };
static_assert(can_be_sent<chan<std::unique_ptr<int>>, std::unique_ptr<int>>);
static_assert(!can_be_sent<chan<std::unique_ptr<int>>, int*>);
static_assert(!can_be_sent<chan<std::vector<int>>, int>);
static_assert(can_be_sent<chan<double>, int> && can_be_sent<chan<std::string>, const char*>);
static_assert(!can_be_sent<chan<counts_its_parts>, int>);

TEST_P(select_test, sends_the_value_and_not_a_list_of_it) {
  run([] {
    const chan<std::vector<std::any>> lists{1};
    const std::vector<std::any> three{1, 2, 3};
    select(on_send(lists, three, [] {}));
    EXPECT_EQ(lists.recv()->size(), 3U);
    const chan<counts_its_parts> values{1};
    const counts_its_parts one(1);
    select(on_send(values, one, [] {}));
    EXPECT_EQ(values.recv()->parts, 0U);
  });
}

#ifndef EXEUNT_TSAN  // A close that races with a send; see chan_test.cpp.
TEST_P(select_test, a_close_refuses_a_parked_send_case) {
  run([] {
    const chan<std::unique_ptr<int>> c;
    const chan<void> idle;
    const chan<bool> kept;
    go([=] {
      auto mine = std::make_unique<int>(1);
      EXPECT_THROW(select(on_send(c, std::move(mine), never), on_recv(idle, never)),
                   closed_channel);
      kept.send(mine != nullptr);
    });
    until_parked(1, wait_reason::select);
    c.close();
    EXPECT_EQ(kept.recv(), true);
  });
}
#endif

TEST_P(select_test, a_context_ends_it) {
  run([] {
    const chan<int> idle;
    auto [ctx, cancel] = with_cancel(context::background());
    EXPECT_EQ(select(on_recv(idle, never), on_done(ctx, never), on_recv(ctx.done(), never),
                     otherwise([] {})),
              3U);
    EXPECT_EQ(select(on_done(context::background(), never), otherwise([] {})), 1U);

    const chan<void> over;
    go([=] {
      EXPECT_EQ(select(on_recv(idle, never),
                       on_done(ctx, [](const error& why) { EXPECT_TRUE(why.is(errc::canceled)); })),
                1U);
      over.send();
    });
    go([=] {
      EXPECT_EQ(select(on_recv(ctx.done(), [](bool event) { EXPECT_FALSE(event); }),
                       on_send(chan<int>{}, 1, never)),
                0U);
      over.send();
    });
    until_parked(2, wait_reason::select);
    cancel();
    EXPECT_TRUE(over.recv());
    EXPECT_TRUE(over.recv());
    EXPECT_EQ(select(on_done(ctx, [] {}), on_recv(idle, never)), 0U);
  });
}

TEST_P(select_test, a_time_out_ends_it) {
  run([] {
    const chan<int> idle;
    const auto started = clock::now();
    EXPECT_EQ(select(on_recv(idle, never), after(24h, never), after(2ms, [] {})), 2U);
    EXPECT_GE(clock::now() - started, 2ms);
    EXPECT_EQ(select(on_recv(idle, never), after(-1s, [] {})), 1U);
    EXPECT_EQ(select(on_recv(idle, never), on_done(with_timeout(context::background(), 1ms),
                                                   [](const error& why) {
                                                     EXPECT_TRUE(why.is(errc::deadline_exceeded));
                                                   })),
              1U);
    // A time-out that loses leaves nothing behind.
    const chan<int> c{1};
    c.send(1);
    EXPECT_EQ(select(on_recv(c, ignore), after(24h, never)), 0U);
    go([=] {
      until_parked(1, wait_reason::select);
      c.send(2);
    });
    EXPECT_EQ(select(on_recv(c, ignore), after(24h, never)), 0U);
  });
}

TEST_P(select_test, keeps_temporary_handles) {
  run([] {
    const auto filled = [](int v) {
      chan<int> c{1};
      c.send(v);
      return c;
    };
    auto stored = on_recv(filled(3), [](std::optional<int> v) { return *v; });
    EXPECT_EQ(select(stored), 3);
    const auto ended = [] {
      auto [ctx, cancel] = with_cancel(context::background());
      cancel();
      return context{ctx};
    };
    auto done = on_done(ended(), [] {});
    EXPECT_EQ(select(done), 0U);
    auto event = on_recv(recv_only<void>{ended().done()}, [] {});
    EXPECT_EQ(select(event), 0U);
  });
}

// Goal:   the looks without the lock see all that came before them: fillings, drainings, waiters
//         and closes, of both kinds of channels.
// Method: each state in turn, and what a try and a select with otherwise() make of it.
TEST_P(select_test, otherwise_sees_what_came_before) {
  run([] {
    for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}}) {
      const chan<int> c{capacity};
      const chan<void> over{1};
      const auto receives = [&c] {
        return select(on_recv(c, [] { return true; }), otherwise([] { return false; }));
      };
      const auto sends = [&c] {
        return select(otherwise([] { return false; }), on_send(c, 1, [] { return true; }));
      };
      EXPECT_FALSE(receives());
      EXPECT_FALSE(c.try_recv().has_value());
      if (capacity == 1) {
        EXPECT_TRUE(sends());
        EXPECT_TRUE(receives());
        EXPECT_TRUE(c.try_send(1));
      }
      EXPECT_FALSE(sends());
      EXPECT_FALSE(c.try_send(1));
      go([c, over] {
        c.send(2);
        over.send();
      });
      until_parked(1, wait_reason::chan_send);
      for (std::size_t i = 0; i < 1 + capacity; ++i) EXPECT_TRUE(receives());
      EXPECT_FALSE(receives());
      EXPECT_TRUE(over.recv());
      go([c, over] {
        EXPECT_EQ(c.recv(), 1);
        over.send();
      });
      until_parked(1, wait_reason::chan_recv);
      EXPECT_TRUE(sends());
      EXPECT_TRUE(over.recv());
      c.close();
      EXPECT_TRUE(receives());
      EXPECT_THROW(sends(), closed_channel);
      EXPECT_THROW(static_cast<void>(c.try_send(1)), closed_channel);
    }
  });
}

// Partners may drop the last handles of all channels as soon as the select has communicated.
TEST_P(select_test, its_channels_may_die_at_once) {
  run([] {
    for (int round = 0; round < 2'000; ++round) {
      auto first = std::make_unique<chan<int>>(static_cast<std::size_t>(round % 2));
      auto second = std::make_unique<chan<int>>();
      const chan<void> over{1};
      go([&a = *first, &b = *second, over] {
        select(on_recv(b, never), on_send(a, 1, [] {}));
        over.send();
      });
      EXPECT_EQ(first->recv(), 1);
      first.reset();
      second.reset();
      EXPECT_TRUE(over.recv());
    }
  });
}

TEST_P(select_test, is_for_plain_threads_too) {
  if (is_simulated()) GTEST_SKIP() << "a simulation has no threads";
  run([] {
    const chan<int> a;
    const chan<int> b{2};
    const chan<int> sums{1};
    std::thread adder{[=] {
      int sum = 0;
      for (int left = 200; left > 0; --left) {
        sum += select(on_recv(a, [](std::optional<int> v) { return *v; }),
                      on_recv(b, [](std::optional<int> v) { return *v; }),
                      after(24h, [] { return -1; }));
      }
      sums.send(sum);
    }};
    for (int i = 0; i < 100; ++i) {
      a.send(1);
      b.send(100);
    }
    EXPECT_EQ(sums.recv(), 10'100);
    adder.join();
  });
}

}  // namespace
}  // namespace exeunt
