// SPDX-License-Identifier: Apache-2.0
// Select over cases known only at run time.

#include <exeunt/chan/selector.hpp>

#include <gtest/gtest.h>

#include <any>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
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

class selector_test : public test::explored {};
EXEUNT_EXPLORED(selector_test);

// SE-24: every subset of the kinds of cases; what wins must have been possible.
TEST_P(selector_test, se_24_chooses_what_is_possible) {
  enum kind : unsigned {
    ready_send,
    ready_recv,
    idle_send,
    idle_recv,
    nil_recv,
    closed_recv,
    closed_send,
    fallback,
    kinds
  };
  run([] {
    const chan<int> nil{nullptr};
    chan<int> closed;
    closed.close();
    for (unsigned set = 1; set < 1U << kinds; ++set) {
      const auto has = [set](unsigned one) { return (set >> one & 1U) != 0; };
      const chan<int> room{1};
      const chan<int> filled{1};
      filled.send(7);
      const chan<int> to_idle;
      const chan<int> from_idle;
      std::vector<unsigned> order;
      std::optional<int> got;
      const auto take = [&](std::optional<int> v) { got = v; };

      selector cases;
      const auto note = [&](unsigned one, std::size_t index) {
        EXPECT_EQ(index, order.size());
        order.push_back(one);
      };
      if (has(ready_send)) note(ready_send, cases.on_send(room, 5, [] {}));
      if (has(ready_recv)) note(ready_recv, cases.on_recv(filled, take));
      if (has(idle_send)) note(idle_send, cases.on_send(to_idle, 6, [] {}));
      if (has(idle_recv)) note(idle_recv, cases.on_recv(from_idle, take));
      if (has(nil_recv)) note(nil_recv, cases.on_recv(nil, take));
      if (has(closed_recv)) note(closed_recv, cases.on_recv(closed, take));
      if (has(closed_send)) note(closed_send, cases.on_send(closed, 8, [] {}));
      if (has(fallback)) note(fallback, cases.otherwise([] {}));

      const bool ready = has(ready_send) || has(ready_recv) || has(closed_recv) || has(closed_send);
      const bool partner = !ready && !has(fallback) && (has(idle_send) || has(idle_recv));
      if (!ready && !has(fallback) && !partner) continue;  // Would block for good.
      const chan<void> over{1};
      if (partner) {
        const bool takes = has(idle_send);
        go([=] {
          until_parked(1, wait_reason::select);
          if (takes) {
            EXPECT_EQ(to_idle.recv(), 6);
          } else {
            from_idle.send(9);
          }
          over.send();
        });
      }
      unsigned won = kinds;
      try {
        won = order[cases.run()];
      } catch (const closed_channel&) {
        won = closed_send;
      }
      ASSERT_TRUE(has(won));
      if (partner) {
        EXPECT_TRUE(over.recv());
        EXPECT_EQ(won, has(idle_send) ? idle_send : idle_recv);
      } else if (ready) {
        EXPECT_TRUE(won == ready_send || won == ready_recv || won == closed_recv ||
                    won == closed_send);
      } else {
        EXPECT_EQ(won, fallback);
      }
      EXPECT_EQ(got, won == ready_recv  ? std::optional{7}
                     : won == idle_recv ? std::optional{9}
                                        : std::nullopt);
      EXPECT_EQ(room.try_recv(), won == ready_send ? std::optional{5} : std::nullopt);
    }
  });
}

// SE-25: nothing but a fallback; the most cases there may be; one too many.
TEST_P(selector_test, se_25_limits) {
  run([] {
    selector only;
    only.otherwise([] {});
    EXPECT_EQ(only.run(), 0U);

    const chan<int> closed;
    closed.close();
    selector many;
    for (std::size_t i = 0; i < selector::cases_max; ++i) many.on_recv(closed, [] {});
    EXPECT_LT(many.run(), selector::cases_max);
    EXPECT_THROW(many.on_recv(closed, [] {}), panic_error);
    EXPECT_EQ(many.size(), selector::cases_max);
  });
}

// Many different channels, parked and woken.
TEST_P(selector_test, waits_on_ten_thousand_channels) {
  run([] {
    const std::size_t count = is_simulated() ? 1'000 : 10'000;
    const std::size_t step = count / 10;
    std::vector<chan<int>> channels(count);
    selector cases;
    int sum = 0;
    for (std::size_t i = count; i-- > 0;) {  // Not in the order of the channels' ids.
      cases.on_recv(channels[i], [&](std::optional<int> v) { sum += *v; });
    }
    go([&channels, count, step] {  // Those two are looked at when all has come.
      for (std::size_t i = 0; i < count; i += step) channels[i].send(static_cast<int>(i));
    });
    for (std::size_t i = 0; i < count; i += step) EXPECT_EQ(cases.run(), count - 1 - i);
    EXPECT_EQ(sum, 45 * static_cast<int>(step));
  });
}

// Goal:   a set that changes all the time stays as large as it is: numbers and memory come again.
// Method: more cases in turn than there may be at a time, each with something to be freed.
TEST_P(selector_test, takes_cases_away_and_gives_their_numbers_again) {
  run([] {
    const auto held = std::make_shared<int>(0);
    const chan<int> closed;
    closed.close();
    selector cases;
    const std::size_t kept = cases.on_recv(chan<int>{}, [held] { ADD_FAILURE(); });
    const std::size_t rounds = is_simulated() ? 10 : 2 * selector::cases_max;
    for (std::size_t i = 0; i < rounds; ++i) {
      const std::size_t added = cases.on_recv(closed, [held] {});
      EXPECT_EQ(added, 1U);
      EXPECT_EQ(cases.size(), 2U);
      if (i % 1000 == 0) {
        EXPECT_EQ(cases.run(), added);
      }
      cases.remove(added);
      EXPECT_EQ(held.use_count(), 2);
    }
    EXPECT_EQ(cases.size(), 1U);
    EXPECT_THROW(cases.remove(1), panic_error);
    EXPECT_THROW(cases.disable(7), panic_error);
    cases.remove(kept);
    EXPECT_EQ(held.use_count(), 1);
    for (int i = 0; i < 2; ++i) {
      const std::size_t fallback = cases.otherwise([] {});
      EXPECT_EQ(cases.run(), fallback);
      cases.remove(fallback);
    }
  });
}

// Goal:   a handler may take its own case away, and put others in its place.
// Method: what the handler holds is used after the removal, for the sanitizers to see.
TEST_P(selector_test, handlers_remove_their_own_cases) {
  run([] {
    std::vector<chan<int>> channels;
    for (int i = 0; i < 5; ++i) {
      channels.emplace_back(std::size_t{1});
      channels.back().send(i);
      channels.back().close();
    }
    selector cases;
    int values = 0;
    int closed = 0;
    for (std::size_t i = 0; i < channels.size(); ++i) {
      cases.on_recv(channels[i], [&, i, text = std::string(100, 'x')](std::optional<int> value) {
        if (value) {
          ++values;
          return;
        }
        cases.remove(i);
        EXPECT_EQ(text.size(), 100U);
        ++closed;
      });
    }
    while (cases.size() > 0) cases.run();
    EXPECT_EQ(values, 5);
    EXPECT_EQ(closed, 5);
  });
}

TEST_P(selector_test, keeps_what_it_was_given) {
  run([] {
    chan<std::unique_ptr<int>> c{2};
    selector cases;
    {
      auto [ctx, cancel] = with_cancel(context::background());
      cases.on_send(c, std::make_unique<int>(1), [] {});
      cases.on_send(c, std::make_unique<int>(2), [] {});
      cases.on_done(ctx, [](const error&) {});
      cases.on_recv(ctx.done(), [](bool event) { EXPECT_FALSE(event); });
      cases.disable(2);
      cases.disable(3);
    }
    // A send case that has won is off.
    const std::size_t first = cases.run();
    EXPECT_EQ(cases.run(), 1 - first);
    cases.after(1ms, [] {});
    EXPECT_EQ(cases.run(), 4U);
    EXPECT_EQ(**c.recv() + **c.recv(), 3);

    chan<void> events{1};
    selector of_events;
    of_events.on_send(events, [] {});
    of_events.on_recv(events, [](bool event) { EXPECT_TRUE(event); });
    for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(of_events.run(), i % 2);
  });
}

TEST_P(selector_test, keeps_a_temporary_context) {
  run([] {
    selector cases;
    bool ended = false;
    cases.on_done(with_cancel(context::background()), [&] { ended = true; });
    cases.otherwise([] {});
    EXPECT_EQ(cases.run(), 1U);
    EXPECT_FALSE(ended);
  });
}

template <typename Handle, typename V>
concept can_be_sent =
    requires(selector cases, Handle c, V&& v) { cases.on_send(c, std::forward<V>(v), [] {}); };
static_assert(can_be_sent<chan<std::unique_ptr<int>>, std::unique_ptr<int>>);
static_assert(!can_be_sent<chan<std::unique_ptr<int>>, int*>);
static_assert(!can_be_sent<chan<std::vector<int>>, int>);

TEST_P(selector_test, sends_the_value_and_not_a_list_of_it) {
  run([] {
    const chan<std::vector<std::any>> lists{1};
    const std::vector<std::any> three{1, 2, 3};
    selector cases;
    cases.on_send(lists, three, [] {});
    EXPECT_EQ(cases.run(), 0U);
    EXPECT_EQ(lists.recv()->size(), 3U);
  });
}

}  // namespace
}  // namespace exeunt
