// SPDX-License-Identifier: Apache-2.0
// One channel at a time: order, blocking, closing, refusal, from fibers and from threads.

#include <exeunt/chan/chan.hpp>

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <ranges>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <exeunt/base/log.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>

#include "chan/parked.hpp"
#include "support/explored.hpp"

namespace exeunt {
namespace {

using detail::wait_reason;
using test::until_parked;
using namespace std::chrono_literals;

class chan_test : public test::explored {};
EXEUNT_EXPLORED(chan_test);

constexpr std::size_t capacities_max = 20;

static_assert(sizeof(chan<int>) == sizeof(void*));
static_assert(std::is_nothrow_copy_constructible_v<chan<int>>);
static_assert(std::is_convertible_v<chan<int>, recv_only<int>>);
static_assert(std::is_convertible_v<chan<int>, send_only<int>>);
static_assert(!std::is_convertible_v<recv_only<int>, chan<int>>);
static_assert(!std::is_convertible_v<recv_only<int>, send_only<int>>);
static_assert(!std::is_convertible_v<std::size_t, chan<int>>);
static_assert(std::is_convertible_v<std::nullptr_t, chan<int>>);

template <typename Handle>
concept can_close = requires(Handle handle) { handle.close(); };
static_assert(can_close<chan<int>> && can_close<send_only<int>> && !can_close<recv_only<int>>);

struct throws_when_moved {
  throws_when_moved(throws_when_moved&&) noexcept(false) {}
};
static_assert(!channel_element<throws_when_moved>);
static_assert(!channel_element<int&> && !channel_element<const int>);
static_assert(channel_element<std::unique_ptr<int>> && channel_element<void>);

// CH-01: no send blocks while there is room, and values come in order.
TEST_P(chan_test, ch_01_keeps_values_in_order) {
  run([] {
    const chan<int> c{10};
    go([c] {
      for (int i = 0; i < 10; ++i) c.send(i);
      c.close();
    });
    while (c.size() < 10) yield();
    for (int i = 0; i < 10; ++i) EXPECT_EQ(c.recv(), i);
    EXPECT_EQ(c.recv(), std::nullopt);
  });
}

// CH-02: receivers that park in a known order are served in it.
TEST_P(chan_test, ch_02_serves_receivers_in_order) {
  run([] {
    const chan<int> c;
    const chan<void> over{10};
    for (int i = 0; i < 10; ++i) {
      go([=] {
        EXPECT_EQ(c.recv(), i);
        over.send();
      });
      until_parked(static_cast<std::size_t>(i) + 1, wait_reason::chan_recv);
    }
    for (int i = 0; i < 10; ++i) c.send(i);
    for (int i = 0; i < 10; ++i) EXPECT_TRUE(over.recv());
  });
}

// The same for senders, whose values move up through the ring.
TEST_P(chan_test, serves_senders_in_order) {
  for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}, std::size_t{3}}) {
    run([capacity] {
      const chan<int> c{capacity};
      for (std::size_t i = 0; i < capacity; ++i) c.send(static_cast<int>(i));
      const chan<void> over{10};
      for (int i = 0; i < 10; ++i) {
        go([=] {
          c.send(static_cast<int>(capacity) + i);
          over.send();
        });
        until_parked(static_cast<std::size_t>(i) + 1, wait_reason::chan_send);
      }
      for (int i = 0; i < 10 + static_cast<int>(capacity); ++i) EXPECT_EQ(c.recv(), i);
      for (int i = 0; i < 10; ++i) EXPECT_TRUE(over.recv());
      EXPECT_EQ(c.size(), 0U);
    });
  }
}

// CH-03: a chain of many fibers, each parked.
TEST_P(chan_test, ch_03_passes_through_a_chain) {
  if (is_simulated()) GTEST_SKIP() << "too many fibers for many schedules";
#ifdef EXEUNT_TSAN
  static constexpr int links = 1'000;  // The tool has room for some 8 000 fibers.
#else
  static constexpr int links = 10'000;
#endif
  run([] {
    const chan<int> leftmost;
    chan<int> right = leftmost;
    for (int i = 0; i < links; ++i) {
      const chan<int> left = right;
      right = chan<int>{};
      go([left, right] { left.send(1 + *right.recv()); });
    }
    right.send(0);
    EXPECT_EQ(leftmost.recv(), links);
  });
}

// CH-04: try_send and try_recv against a partner that waits.
template <typename T>
void try_both(std::size_t capacity, const T& value) {
  const chan<T> c{capacity};
  EXPECT_EQ(c.try_recv(), std::nullopt);

  const chan<void> over;
  go([=] {
    EXPECT_EQ(c.recv(), value);
    over.send();
  });
  if (capacity == 0) until_parked(1, wait_reason::chan_recv);
  EXPECT_TRUE(c.try_send(value));
  EXPECT_TRUE(over.recv());

  std::atomic<bool> sent = false;
  go([&, c, over] {
    c.send(value);
    sent = true;
    over.send();
  });
  if (capacity == 0) {
    until_parked(1, wait_reason::chan_send);
    EXPECT_FALSE(sent);
  } else {
    until_parked(1, wait_reason::chan_send);  // In over.send().
    EXPECT_TRUE(sent);
  }
  EXPECT_EQ(c.try_recv(), value);
  EXPECT_TRUE(over.recv());
}

TEST_P(chan_test, ch_04_tries_meet_who_waits) {
  run([] {
    for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}}) {
      try_both<std::int32_t>(capacity, 123);
      try_both<std::int64_t>(capacity, 9'876'543'210);
      try_both<bool>(capacity, true);
      try_both<std::string>(capacity, "a text too long for the small buffer");
    }
  });
}

// CH-05: receives on an empty channel wait; a try says so.
TEST_P(chan_test, ch_05_empty_blocks_receivers) {
  run([] {
    for (std::size_t capacity = 0; capacity <= capacities_max; ++capacity) {
      const chan<int> c{capacity};
      const chan<int> got{2};
      go([=] { got.send(*c.recv()); });
      go([=] { got.send(c.recv().value_or(-1)); });
      until_parked(2, wait_reason::chan_recv);
      EXPECT_EQ(got.size(), 0U);
      // A try would compete with the waiting for nothing; there is nothing.
      EXPECT_EQ(c.try_recv(), std::nullopt);
      bool idle = false;
      select(on_recv(c, [](auto) { FAIL(); }), otherwise([&] { idle = true; }));
      EXPECT_TRUE(idle);
      c.send(1);
      c.send(2);
      EXPECT_EQ(*got.recv() + *got.recv(), 3);
    }
  });
}

// CH-06: a send to a full channel waits; a try says so.
TEST_P(chan_test, ch_06_full_blocks_senders) {
  run([] {
    for (std::size_t capacity = 0; capacity <= capacities_max; ++capacity) {
      const chan<int> c{capacity};
      for (std::size_t i = 0; i < capacity; ++i) c.send(static_cast<int>(i));
      const chan<void> sent{1};
      go([=] {
        c.send(static_cast<int>(capacity));
        sent.send();
      });
      until_parked(1, wait_reason::chan_send);
      EXPECT_EQ(sent.size(), 0U);
      EXPECT_EQ(c.size(), capacity);
      EXPECT_FALSE(c.try_send(-1));
      bool idle = false;
      select(on_send(c, -1, [] { FAIL(); }), otherwise([&] { idle = true; }));
      EXPECT_TRUE(idle);
      EXPECT_EQ(c.recv(), 0);
      EXPECT_TRUE(sent.recv());
      for (std::size_t i = 1; i <= capacity; ++i) EXPECT_EQ(c.recv(), static_cast<int>(i));
    }
  });
}

// CH-07: a closed channel is drained first, then says for ever that it is over.
TEST_P(chan_test, ch_07_close_drains) {
  run([] {
    for (std::size_t capacity = 0; capacity <= capacities_max; ++capacity) {
      const chan<int> c{capacity};
      for (std::size_t i = 0; i < capacity; ++i) c.send(static_cast<int>(i));
      c.close();
      EXPECT_EQ(c.size(), capacity);
      for (std::size_t i = 0; i < capacity; ++i) EXPECT_EQ(c.recv(), static_cast<int>(i));
      for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(c.recv(), std::nullopt);
        EXPECT_EQ(c.try_recv(), std::nullopt);
        const auto over = c.recv(context::background());
        ASSERT_FALSE(over);
        EXPECT_TRUE(over.error().is(errc::closed));
      }
    }
  });
}

// CH-08: a close wakes every parked receiver, with nothing. More than one batch of wake-ups.
TEST_P(chan_test, ch_08_close_wakes_receivers) {
  run([] {
    for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}, std::size_t{7}}) {
      for (const std::size_t count : {std::size_t{1}, std::size_t{3}, std::size_t{100}}) {
        const chan<int> c{capacity};
        const chan<bool> over{count};
        for (std::size_t i = 0; i < count; ++i) go([=] { over.send(c.recv().has_value()); });
        until_parked(count, wait_reason::chan_recv);
        EXPECT_EQ(over.size(), 0U);
        c.close();
        for (std::size_t i = 0; i < count; ++i) EXPECT_EQ(over.recv(), false);
      }
    }
  });
}

// CH-10: size and capacity.
TEST_P(chan_test, ch_10_counts) {
  run([] {
    const chan<int> c{10};
    EXPECT_EQ(c.size(), 0U);
    EXPECT_EQ(c.capacity(), 10U);
    for (int i = 0; i < 3; ++i) c.send(i);
    EXPECT_EQ(c.size(), 3U);
    for (int i = 3; i < 10; ++i) c.send(i);
    EXPECT_EQ(c.size(), c.capacity());

    const chan<int> unbuffered;
    go([=] { unbuffered.send(1); });
    until_parked(1, wait_reason::chan_send);
    EXPECT_EQ(unbuffered.size(), 0U);
    EXPECT_EQ(unbuffered.capacity(), 0U);
    EXPECT_EQ(unbuffered.recv(), 1);

    const chan<int> nil{nullptr};
    EXPECT_EQ(nil.size(), 0U);
    EXPECT_EQ(nil.capacity(), 0U);
    EXPECT_FALSE(nil);
    EXPECT_TRUE(c);
    EXPECT_NE(c, unbuffered);
    EXPECT_EQ(c, chan<int>{c});
  });
}

template <typename F>
std::string closed_channel_from(F&& f) {
  try {
    f();
  } catch (const closed_channel& thrown) {
    return thrown.what();
  }
  return "nothing thrown";
}

// CH-13, CH-14: each misuse is an error of one family that can be caught, and life goes on.
TEST_P(chan_test, ch_13_ch_14_misuse_throws) {
  run([] {
    const chan<int> nil{nullptr};
    EXPECT_EQ(closed_channel_from([&] { nil.close(); }), "close of nil channel");
    EXPECT_EQ(closed_channel_from([&] { send_only<int>{nullptr}.close(); }),
              "close of nil channel");
    for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}}) {
      const chan<int> c{capacity};
      c.close();
      EXPECT_EQ(closed_channel_from([&] { c.close(); }), "close of closed channel");
      EXPECT_EQ(closed_channel_from([&] { c.send(1); }), "send on closed channel");
      EXPECT_EQ(closed_channel_from([&] { static_cast<void>(c.try_send(1)); }),
                "send on closed channel");
      EXPECT_EQ(closed_channel_from([&] { static_cast<void>(c.send(context::background(), 1)); }),
                "send on closed channel");
      EXPECT_THROW(c.send(1), panic_error);
    }
    volatile int negative = -1;
    EXPECT_THROW(chan<int>{static_cast<std::size_t>(negative)}, panic_error);
    EXPECT_THROW(chan<void>{static_cast<std::size_t>(negative)}, panic_error);
  });
}

struct nothing {};

// CH-16: empty elements and events are counted although there is nothing to keep.
TEST_P(chan_test, ch_16_empty_elements) {
  run([] {
    for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}}) {
      const chan<nothing> c{capacity};
      go([=] { c.send(nothing{}); });
      if (capacity == 1) {
        while (c.size() == 0) yield();
        EXPECT_FALSE(c.try_send(nothing{}));
      }
      EXPECT_TRUE(c.recv().has_value());
      EXPECT_EQ(c.size(), 0U);
    }
    const chan<void> events{3};
    EXPECT_FALSE(events.try_recv());
    EXPECT_TRUE(events.try_send());
    events.send();
    EXPECT_TRUE(events.send(context::background()));
    EXPECT_FALSE(events.try_send());
    EXPECT_EQ(events.size(), 3U);
    events.close();
    EXPECT_TRUE(events.recv());
    EXPECT_TRUE(events.recv(context::background()));
    EXPECT_TRUE(events.try_recv());
    EXPECT_FALSE(events.recv());
    EXPECT_TRUE(events.recv(context::background()).error().is(errc::closed));
    EXPECT_FALSE(chan<void>{std::size_t{1} << 40U}.try_recv());
  });
}

// CH-17: channels travel through channels.
TEST_P(chan_test, ch_17_channels_as_elements) {
  run([] {
    const chan<chan<int>> outer{1};
    const chan<int> inner{1};
    outer.send(inner);
    bool sent = false;
    select(on_send(*outer.recv(), 2, [&] { sent = true; }), otherwise([] { FAIL(); }));
    EXPECT_TRUE(sent);
    EXPECT_EQ(inner.recv(), 2);
  });
}

// CH-19: the sieve, a chain of fibers that grows as it finds primes and ends from its source on.
TEST_P(chan_test, ch_19_sieve) {
  constexpr std::array primes{2,  3,  5,  7,  11, 13, 17, 19, 23, 29, 31, 37, 41,
                              43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97};
  run([&] {
    chan<int> numbers;
    go([numbers] {
      const close_on_exit end{numbers};
      for (int i = 2; i <= 100; ++i) numbers.send(i);
    });
    for (const int expected : primes) {
      const auto prime = numbers.recv();
      ASSERT_EQ(prime, expected);
      const chan<int> filtered;
      go([prime, from = numbers, to = filtered] {
        const close_on_exit end{to};
        for (const int n : from) {
          if (n % *prime != 0) to.send(n);
        }
      });
      numbers = filtered;
    }
    EXPECT_EQ(numbers.recv(), std::nullopt);
  });
}

int deepen(int depth) {
  std::array<volatile char, 512> frame{};
  frame[0] = static_cast<char>(depth);
  return depth == 0 ? frame[0] : deepen(depth - 1) + frame[0] - frame[0];
}

// CH-25: values on the sender's own stack, which grows and shrinks between sends.
TEST_P(chan_test, ch_25_sends_from_its_own_stack) {
  run([] {
    const chan<int> c;
    constexpr int count = 50;
    go([c] {
      for (int i = 0; i < count; ++i) {
        const int local = i;
        c.send(local);
        EXPECT_EQ(deepen(100), 0);
      }
    });
    for (int i = 0; i < count; ++i) {
      until_parked(1, wait_reason::chan_send);
      EXPECT_EQ(c.recv(), i);
    }
  });
}

// A refused value stays with the caller, however it is refused.
TEST_P(chan_test, leaves_refused_values_with_the_caller) {
  run([] {
    const chan<std::unique_ptr<int>> c{1};
    auto first = std::make_unique<int>(1);
    auto second = std::make_unique<int>(2);
    EXPECT_TRUE(c.try_send(std::move(first)));
    EXPECT_EQ(first, nullptr);
    EXPECT_FALSE(c.try_send(std::move(second)));
    ASSERT_NE(second, nullptr);

    auto [ctx, cancel] = with_cancel(context::background());
    go([&cancel] {
      until_parked(1, wait_reason::chan_send);
      cancel();
    });
    const auto canceled = c.send(ctx, std::move(second));
    ASSERT_FALSE(canceled);
    EXPECT_TRUE(canceled.error().is(errc::canceled));
    ASSERT_NE(second, nullptr);
    // An ended context refuses even where there is room.
    EXPECT_EQ(**c.recv(), 1);
    EXPECT_FALSE(c.send(ctx, std::move(second)));
    ASSERT_NE(second, nullptr);

    c.close();
    EXPECT_THROW(c.send(std::move(second)), closed_channel);
    EXPECT_THROW(static_cast<void>(c.try_send(std::move(second))), closed_channel);
    EXPECT_THROW(static_cast<void>(c.send(context::background(), std::move(second))),
                 closed_channel);
    ASSERT_NE(second, nullptr);
    EXPECT_EQ(*second, 2);
  });
}

// A send that races with a close is a race of the program by the memory model, so ThreadSanitizer
// reports it. What happens then is defined all the same.
#ifndef EXEUNT_TSAN
TEST_P(chan_test, close_refuses_parked_senders) {
  run([] {
    for (const std::size_t capacity : {std::size_t{0}, std::size_t{2}}) {
      const chan<std::unique_ptr<int>> c{capacity};
      for (std::size_t i = 0; i < capacity; ++i) c.send(std::make_unique<int>(-1));
      const chan<int> kept{50};
      for (int i = 0; i < 50; ++i) {
        go([=] {
          auto mine = std::make_unique<int>(i);
          EXPECT_THROW(c.send(std::move(mine)), closed_channel);
          kept.send(mine == nullptr ? -1 : *mine);
        });
      }
      until_parked(50, wait_reason::chan_send);
      c.close();
      int sum = 0;
      for (int i = 0; i < 50; ++i) sum += *kept.recv();
      EXPECT_EQ(sum, 49 * 50 / 2);
      for (std::size_t i = 0; i < capacity; ++i) EXPECT_EQ(**c.recv(), -1);
      EXPECT_EQ(c.recv(), std::nullopt);
    }
  });
}
#endif

// recv(ctx): the value, the end of the channel, the end of the context.
TEST_P(chan_test, receives_until_the_context_ends) {
  run([] {
    const chan<int> c{1};
    auto [ctx, cancel] = with_cancel(context::background());
    c.send(1);
    EXPECT_EQ(c.recv(ctx), 1);

    const chan<void> over;
    go([=] {
      const auto got = c.recv(ctx);
      EXPECT_FALSE(got);
      EXPECT_TRUE(got.error().is(errc::canceled));
      over.send();
    });
    until_parked(1, wait_reason::chan_recv);
    cancel();
    EXPECT_TRUE(over.recv());
    // Nothing of the ended wait is left: a value meets nobody, and stays.
    c.send(2);
    EXPECT_EQ(c.size(), 1U);
    EXPECT_FALSE(c.recv(ctx));
    EXPECT_EQ(c.size(), 1U);
    EXPECT_EQ(c.recv(), 2);
  });
}

TEST_P(chan_test, a_deadline_ends_a_wait) {
  run([] {
    const chan<int> c;
    const auto got = c.recv(with_timeout(context::background(), 1ms));
    ASSERT_FALSE(got);
    EXPECT_TRUE(got.error().is(errc::deadline_exceeded));
    const auto sent = c.send(with_timeout(context::background(), 1ms), 1);
    ASSERT_FALSE(sent);
    EXPECT_TRUE(sent.error().is(errc::deadline_exceeded));
  });
}

TEST_P(chan_test, a_context_ends_the_nil_channel) {
  run([] {
    const chan<int> nil{nullptr};
    EXPECT_FALSE(nil.recv(with_timeout(context::background(), 1ms)));
    EXPECT_FALSE(nil.send(with_timeout(context::background(), 1ms), 1));
    EXPECT_EQ(nil.try_recv(), std::nullopt);
    EXPECT_FALSE(nil.try_send(1));
    auto [ctx, cancel] = with_timeout(context::background(), 1ms);
    for ([[maybe_unused]] const int v : nil.values(ctx)) {
      FAIL();
    }
  });
}

// The end of a context is a recv_only<void>.
TEST_P(chan_test, the_end_of_a_context_is_an_event) {
  run([] {
    auto [ctx, cancel] = with_cancel(context::background());
    const recv_only<void> ended = ctx.done();
    EXPECT_EQ(ended, recv_only<void>{ctx.done()});
    EXPECT_TRUE(ended);
    EXPECT_FALSE(recv_only<void>{context::background().done()});
    EXPECT_FALSE(ended.try_recv());
    EXPECT_TRUE(
        ended.recv(with_timeout(context::background(), 1ms)).error().is(errc::deadline_exceeded));
    const chan<bool> got;
    go([=] { got.send(ended.recv()); });
    until_parked(1, wait_reason::select);
    cancel();
    EXPECT_EQ(got.recv(), false);
    EXPECT_FALSE(ended.recv());
    EXPECT_TRUE(ended.recv(context::background()).error().is(errc::closed));
  });
}

TEST_P(chan_test, ranges_over_move_only_values) {
  run([] {
    const chan<std::unique_ptr<int>> c{2};
    go([c] {
      const close_on_exit closing{c};
      for (int i = 0; i < 10; ++i) c.send(std::make_unique<int>(i));
    });
    int next = 0;
    for (std::unique_ptr<int> v : c) EXPECT_EQ(*v, next++);
    EXPECT_EQ(next, 10);
  });
}

static_assert(std::ranges::input_range<const chan<std::string>>);
static_assert(std::ranges::input_range<const chan<std::unique_ptr<int>>>);
static_assert(std::ranges::input_range<detail::recv_range<std::string>>);

// A filter looks at an element before it passes it on.
TEST_P(chan_test, range_adaptors_lose_nothing) {
  run([] {
    const chan<std::string> words{4};
    const std::string a(40, 'a');
    const std::string b(40, 'b');
    words.send(a);
    words.send("");
    words.send(b);
    words.close();
    std::vector<std::string> got;
    const auto filled = [](const std::string& word) { return !word.empty(); };
    for (std::string word : words | std::views::filter(filled)) got.push_back(std::move(word));
    EXPECT_EQ(got, (std::vector{a, b}));

    const chan<std::unique_ptr<int>> numbers{4};
    for (int i = 0; i < 4; ++i) numbers.send(std::make_unique<int>(i));
    numbers.close();
    int sum = 0;
    const auto odd = [](const std::unique_ptr<int>& number) { return *number % 2 == 1; };
    for (std::unique_ptr<int> number : numbers | std::views::filter(odd)) sum += *number;
    EXPECT_EQ(sum, 1 + 3);
  });
}

// The loop is the last to know the channel, and would go on in memory that is free.
TEST_P(chan_test, a_range_keeps_its_channel) {
  run([] {
    chan<int> c{4};
    c.send(1);
    c.send(2);
    c.close();
    int sum = 0;
    for (const int v : c) {
      c = nullptr;
      sum += v;
    }
    EXPECT_EQ(sum, 3);
  });
}

template <typename Context>
concept can_give_values =
    requires(chan<int> c, Context&& ctx) { c.values(std::forward<Context>(ctx)); };
static_assert(can_give_values<context> && can_give_values<with_cancel_result&>);
static_assert(!can_give_values<with_cancel_result>, "it would have ended before the loop begins");

TEST_P(chan_test, values_end_with_the_context) {
  run([] {
    const chan<int> c;
    auto [ctx, cancel] = with_cancel(context::background());
    go([=] {
      for (int i = 0; c.send(ctx, i); ++i) {
      }
    });
    int count = 0;
    for (const int v : c.values(ctx)) {
      EXPECT_EQ(v, count);
      if (++count == 5) cancel();
    }
    EXPECT_EQ(count, 5);
    EXPECT_TRUE(ctx.err().has_value());
  });
}

TEST_P(chan_test, close_on_exit_closes_once) {
  run([] {
    const chan<int> c;
    const chan<int> closed_before;
    try {
      const close_on_exit closing{c};
      const close_on_exit other{send_only<int>{closed_before}};
      const close_on_exit none{chan<int>{nullptr}};
      closed_before.close();
      throw 1;
    } catch (int) {
    }
    EXPECT_EQ(c.recv(), std::nullopt);
    EXPECT_EQ(closed_before.recv(), std::nullopt);
  });
}

// An element counts its living copies.
struct counted {
  static inline std::atomic<int> alive = 0;
  explicit counted(int v) noexcept : value{v} { ++alive; }
  counted(const counted& other) noexcept : value{other.value} { ++alive; }
  counted(counted&& other) noexcept : value{std::exchange(other.value, -1)} { ++alive; }
  counted& operator=(const counted&) = delete;
  ~counted() { --alive; }
  int value;
};

TEST_P(chan_test, destroys_what_nobody_took) {
  run([] {
    {
      const chan<counted> c{4};
      for (int i = 0; i < 4; ++i) c.send(counted{i});
      EXPECT_EQ(c.recv()->value, 0);
      c.send(counted{4});  // The ring has wrapped.
      EXPECT_EQ(counted::alive, 4);
    }
    EXPECT_EQ(counted::alive, 0);
    {
      const auto core = detail::chan_core::make(detail::element_ops_of<counted>, 2,
                                                detail::chan_look::unbuffered);
      const auto c = detail::handle_access::make<recv_only<counted>>(core);
      counted value{1};
      EXPECT_EQ(core->try_send(&value), detail::send_status::sent);
      EXPECT_EQ(value.value, -1);
      EXPECT_EQ(c.size(), 0U);
      EXPECT_EQ(c.capacity(), 0U);
      core->discard();
      EXPECT_EQ(counted::alive, 1);
      EXPECT_FALSE(c.try_recv().has_value());
    }
    EXPECT_EQ(counted::alive, 0);
  });
}

struct alignas(128) wide {
  int value;
};

TEST_P(chan_test, keeps_the_alignment_of_elements) {
  run([] {
    const chan<wide> c{3};
    for (int i = 0; i < 3; ++i) c.send(wide{i});
    for (int i = 0; i < 3; ++i) {
      const auto got = c.recv();
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&*got) % 128, 0U);
      EXPECT_EQ(got->value, i);
    }
  });
}

// The last handle may go while the channel's own operation is still on its way out.
TEST_P(chan_test, may_die_as_soon_as_it_has_delivered) {
  run([] {
    for (int round = 0; round < 2'000; ++round) {
      auto c = std::make_unique<chan<int>>(static_cast<std::size_t>(round % 2));
      const chan<void> over{1};
      go([&one = *c, over] {
        if (one.recv().has_value()) static_cast<void>(one.recv());
        over.send();
      });
      c->send(1);
      c->close();
      EXPECT_TRUE(over.recv());
      c.reset();
    }
  });
}

// Plain threads use channels as fibers do.
TEST_P(chan_test, connects_threads_and_fibers) {
  if (is_simulated()) GTEST_SKIP() << "a simulation has no threads";
  for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}, std::size_t{16}}) {
    run([capacity] {
      const chan<int> to_thread{capacity};
      const chan<int> to_fiber{capacity};
      std::thread echo{[=] {
        const close_on_exit closing{to_fiber};
        for (const int v : to_thread) to_fiber.send(v + 1);
      }};
      go([to_thread] {
        for (int i = 0; i < 500; ++i) to_thread.send(i);
        to_thread.close();
      });
      int next = 1;
      for (const int v : to_fiber) EXPECT_EQ(v, next++);
      EXPECT_EQ(next, 501);
      echo.join();
    });
  }
}

// Without any runtime: only threads.
TEST(chan_threads, work_without_a_runtime) {
  const chan<int> c;
  const chan<int> back{1};
  std::thread doubler{[=] {
    for (const int v : c) back.send(2 * v);
    back.close();
  }};
  for (int i = 0; i < 100; ++i) {
    c.send(i);
    EXPECT_EQ(back.recv(), 2 * i);
  }
  c.close();
  EXPECT_EQ(back.recv(), std::nullopt);
  doubler.join();
}

}  // namespace
}  // namespace exeunt
