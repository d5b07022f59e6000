// SPDX-License-Identifier: Apache-2.0

#include <exeunt/context/context.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <new>
#include <optional>
#include <random>
#include <stop_token>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <exeunt/context/after_func.hpp>
#include <exeunt/context/stop_token.hpp>
#include <exeunt/sched/go.hpp>

#include "support/allocations.hpp"
#include "support/explored.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using detail::node_of;

class context_test : public exeunt::test::explored {};

struct request_id {
  using type = std::string;
};
struct attempt {
  using type = int;
};
struct retries {
  using type = int;
};
struct user {
  std::string name;
};
struct maybe {
  using type = std::optional<int>;
};

const error canceled = errc::canceled;
const error late = errc::deadline_exceeded;
const error own_cause{errc::closed, "own cause"};
const error parents_cause{errc::malformed, "parent's cause"};

// Checks reason and cause of a context that has ended.
void expect_ended(const context& ctx, const error& reason, const error& why) {
  ASSERT_TRUE(ctx.err().has_value());
  EXPECT_EQ(*ctx.err(), reason);
  ASSERT_TRUE(cause(ctx).has_value());
  EXPECT_EQ(*cause(ctx), why);
  EXPECT_TRUE(ctx.done().ready());
}

void expect_live(const context& ctx) {
  EXPECT_FALSE(ctx.err().has_value());
  EXPECT_FALSE(cause(ctx).has_value());
  EXPECT_FALSE(ctx.done().ready());
}

std::size_t children(const context& ctx) { return node_of(ctx)->child_count(); }

// CX-01.
// A temporary ends with its statement. What keeps a context refuses it; a call may take it.
struct key {
  using type = int;
};
constexpr auto nothing = [] {};
template <typename Parent>
concept gives_cancel = requires(Parent&& p) { with_cancel(std::forward<Parent>(p)); };
template <typename Parent>
concept gives_cancel_cause = requires(Parent&& p) { with_cancel_cause(std::forward<Parent>(p)); };
template <typename Parent>
concept gives_deadline = requires(Parent&& p) {
  with_deadline(std::forward<Parent>(p), clock::time_point{});
} || requires(Parent&& p) {
  with_deadline_cause(std::forward<Parent>(p), clock::time_point{}, error{errc::closed});
};
template <typename Parent>
concept gives_timeout = requires(Parent&& p) {
  with_timeout(std::forward<Parent>(p), 1h);
} || requires(Parent&& p) { with_timeout_cause(std::forward<Parent>(p), 1h, error{errc::closed}); };
template <typename Parent>
concept gives_value = requires(Parent&& p) { with_value<key>(std::forward<Parent>(p), 1); };
template <typename Parent>
concept gives_after_func = requires(Parent&& p) { after_func(std::forward<Parent>(p), nothing); };
template <typename Parent>
concept gives_token = requires(Parent&& p) { exeunt::stop_token(std::forward<Parent>(p)); };
template <typename Parent>
concept takes_token =
    requires(Parent&& p) { with_stop_token(std::forward<Parent>(p), std::stop_token{}); };
template <typename Parent>
concept gives_any = gives_cancel<Parent> || gives_cancel_cause<Parent> || gives_deadline<Parent> ||
                    gives_timeout<Parent> || gives_value<Parent> || gives_after_func<Parent> ||
                    gives_token<Parent> || takes_token<Parent>;
template <typename Parent>
concept gives_all = gives_cancel<Parent> && gives_cancel_cause<Parent> && gives_deadline<Parent> &&
                    gives_timeout<Parent> && gives_value<Parent> && gives_after_func<Parent> &&
                    gives_token<Parent> && takes_token<Parent>;
static_assert(gives_all<context> && gives_all<const context&> && gives_all<with_cancel_result&>);
static_assert(!gives_any<with_cancel_result> && !gives_any<with_cancel_cause_result>);
static_assert(!std::is_constructible_v<context, with_cancel_result>);
static_assert(!std::is_convertible_v<with_cancel_cause_result, context>);
static_assert(std::is_constructible_v<context, with_cancel_result&>);
static_assert(std::is_invocable_v<void (*)(const context&), with_cancel_result>);

TEST(context, background_and_todo_never_end) {
  for (const context& ctx : {context::background(), context::todo()}) {
    expect_live(ctx);
    EXPECT_FALSE(ctx.deadline().has_value());
    EXPECT_EQ(ctx.done().node(), nullptr);
    EXPECT_EQ(ctx.value<request_id>(), nullptr);
  }
  EXPECT_EQ(context::background().name(), "background");
  EXPECT_EQ(context::todo().name(), "todo");
}

// CX-15: there is no null context to derive from; a handle is two words.
static_assert(!std::is_default_constructible_v<context>);
static_assert(!std::is_constructible_v<context, std::nullptr_t>);
static_assert(sizeof(context) == 2 * sizeof(void*));
static_assert(!std::is_copy_constructible_v<cancel_func>);

// The context of a temporary can be used where it stands, and not taken away.
template <typename T, typename From>
concept takes = requires(void (&take)(T), From&& from) { take(std::forward<From>(from).ctx); };
static_assert(!takes<context, with_cancel_result>);
static_assert(!takes<context, const with_cancel_result>);
static_assert(!takes<context, with_cancel_cause_result>);
static_assert(takes<context, with_cancel_result&>);
static_assert(takes<const context&, with_cancel_result&>);
static_assert(std::is_convertible_v<with_cancel_result, const context&>);
static_assert(!std::is_constructible_v<context, detail::held_context>);
static_assert(!std::is_move_constructible_v<detail::held_context>);

// CX-02, with a value layer as the wrapper in between.
TEST(context, cancel_ends_all_below_before_it_returns) {
  auto [c1, cancel] = with_cancel(context::background());
  const context wrapped = with_value<request_id>(c1, "7");
  auto [c2, cancel_2] = with_cancel(wrapped);
  for (const context& ctx : {c1, wrapped, c2}) expect_live(ctx);
  cancel();
  for (const context& ctx : {c1, wrapped, c2}) expect_ended(ctx, canceled, canceled);
  cancel();
}

// CX-03.
TEST(context, parent_ends_before_its_children) {
  auto [parent, cancel] = with_cancel(context::background());
  auto [child, cancel_child] = with_cancel(parent);
  const context value = with_value<attempt>(parent, 1);
  auto [timed, cancel_timed] = with_timeout(value, 1h);
  EXPECT_EQ(children(parent), 2U);
  cancel();
  for (const context& ctx : {parent, child, value, timed}) expect_ended(ctx, canceled, canceled);
  EXPECT_EQ(children(parent), 0U);
  expect_ended(with_value<attempt>(parent, 2), canceled, canceled);
}

// CX-04.
TEST(context, child_ends_before_its_parent) {
  auto [alone, cancel_alone] = with_cancel(context::background());
  cancel_alone();
  expect_ended(alone, canceled, canceled);

  auto [parent, cancel_parent] = with_cancel(context::background());
  auto [child, cancel] = with_cancel(parent);
  EXPECT_EQ(children(parent), 1U);
  cancel();
  expect_ended(child, canceled, canceled);
  EXPECT_EQ(children(parent), 0U);
  expect_live(parent);
}

TEST(context, cancel_func_cancels_at_scope_end) {
  std::optional<context> kept;
  {
    auto [ctx, cancel] = with_cancel(context::background());
    kept = ctx;
    auto moved = std::move(cancel);
    expect_live(*kept);
  }
  expect_ended(*kept, canceled, canceled);
}

TEST(context, cancel_func_cancels_what_it_held_when_assigned) {
  auto [first, cancel] = with_cancel(context::background());
  auto [second, cancel_2] = with_cancel(context::background());
  cancel = std::move(cancel_2);
  expect_ended(first, canceled, canceled);
  expect_live(second);
  cancel();
  expect_ended(second, canceled, canceled);
}

TEST(context, temporary_lives_as_long_as_the_call_it_is_passed_to) {
  const auto look = [](const context& ctx) { return ctx.err().has_value(); };
  const auto keep = [](const context& ctx) {
    EXPECT_FALSE(ctx.err().has_value());
    return ctx;
  };
  EXPECT_FALSE(look(with_cancel(context::background())));
  EXPECT_FALSE(look(with_timeout(context::background(), 1h)));
  const context kept = keep(with_cancel(context::background()));
  expect_ended(kept, canceled, canceled);
}

TEST(context, result_can_be_moved_and_used_in_parts) {
  auto made = with_cancel_cause(context::background());
  auto moved = std::move(made);
  const context copy = moved.ctx;
  EXPECT_FALSE(moved.ctx.err().has_value());
  moved.cancel(own_cause);
  expect_ended(copy, canceled, own_cause);
}

// CX-05 and CX-16.
TEST_P(context_test, deadline_fires) {
  run([] {
    auto [direct, cancel_1] = with_deadline(context::background(), clock::now() + 1ms);
    EXPECT_EQ(direct.name(), "with_deadline");
    direct.wait();
    expect_ended(direct, late, late);
    EXPECT_TRUE(direct.err()->is(std::errc::timed_out));

    auto [wrapped, cancel_2] = with_timeout(with_value<attempt>(context::background(), 1), 1ms);
    wrapped.wait();
    expect_ended(wrapped, late, late);

    auto [parent, cancel_3] = with_timeout(context::background(), 1ms);
    auto [child, cancel_4] = with_timeout(with_value<attempt>(parent, 1), 1000h);
    EXPECT_EQ(child.deadline(), parent.deadline());
    child.wait();
    expect_ended(child, late, late);

    auto [past, cancel_5] = with_deadline(context::background(), clock::now() - 1s);
    expect_ended(past, late, late);
    auto [now, cancel_6] = with_deadline(context::background(), clock::now());
    expect_ended(now, late, late);
    auto [none, cancel_7] = with_timeout(context::background(), 0s);
    expect_ended(none, late, late);
  });
}

TEST(context, too_long_a_timeout_is_none) {
  auto [ctx, cancel] = with_timeout(context::background(), clock::duration::max());
  EXPECT_FALSE(ctx.deadline().has_value());
  expect_live(ctx);
}

// CX-06.
TEST(context, cancel_comes_before_a_far_deadline) {
  auto [parent, cancel_parent] = with_timeout(context::background(), 1h);
  auto [child, cancel] = with_timeout(with_value<attempt>(parent, 1), 1000h);
  cancel();
  expect_ended(child, canceled, canceled);
  expect_live(parent);
}

// CX-07.
TEST(context, values_are_found_by_key_inside_out) {
  const context c1 = with_value<attempt>(context::background(), 1);
  const context c2 = with_value<retries>(c1, 2);
  auto [c3, cancel] = with_cancel(c2);
  const context c4 = with_value<request_id>(c3, "7");
  const context c5 = with_value<user>(c4, user{"ada"});
  EXPECT_EQ(*c5.value<attempt>(), 1);
  EXPECT_EQ(*c5.value<retries>(), 2);
  EXPECT_EQ(*c5.value<request_id>(), "7");
  EXPECT_EQ(c5.value<user>()->name, "ada");
  EXPECT_EQ(c4.value<user>(), nullptr);
  EXPECT_EQ(c1.value<retries>(), nullptr);

  const context hidden = with_value<attempt>(c5, 3);
  EXPECT_EQ(*hidden.value<attempt>(), 3);
  EXPECT_EQ(*c5.value<attempt>(), 1);

  const context given = with_value<maybe>(context::background(), 4);
  const context taken = with_value<maybe>(given, std::nullopt);
  ASSERT_NE(taken.value<maybe>(), nullptr);
  EXPECT_FALSE(taken.value<maybe>()->has_value());
  EXPECT_EQ(given.value<maybe>()->value(), 4);
}

TEST(context, value_lives_as_long_as_a_descendant) {
  std::optional<context> inner;
  {
    const context outer = with_value<request_id>(context::background(), std::string(100, 'x'));
    inner = with_value<attempt>(outer, 1);
  }
  EXPECT_EQ(inner->value<request_id>()->size(), 100U);
}

#ifdef EXEUNT_COUNTS_ALLOCATIONS
// CX-08: our own budget.
TEST(context, allocates_little) {
  const auto count = [](const std::function<void()>& f) {
    const std::size_t before = test::allocations;
    f();
    return test::allocations - before;
  };
  EXPECT_EQ(count([] { static_cast<void>(context::background()); }), 0U);
  EXPECT_EQ(count([] { static_cast<void>(with_value<attempt>(context::background(), 1)); }), 1U);
  EXPECT_EQ(count([] { static_cast<void>(with_cancel(context::background())); }), 1U);
  EXPECT_EQ(count([] { static_cast<void>(with_timeout(context::background(), -1s)); }), 1U);
  auto [ctx, cancel] = with_cancel(context::background());
  EXPECT_EQ(count([&c = ctx] {
              static_cast<void>(c.err());
              static_cast<void>(context{c});
            }),
            0U);
}
#endif

// CX-11.
TEST_P(context_test, random_layers) {
  run([] {
    for (const unsigned seed : {1U, 2U, 3U, 4U, 5U, 6U}) {
      std::minstd_rand random{seed};
      const bool by_timeout = seed % 2 == 0;
      std::vector<context> layers{context::background()};
      std::vector<cancel_func> cancels;
      int last_value = 0;
      for (int i = 1; i <= 40; ++i) {
        const context& outer = layers.back();
        switch (random() % 3) {
          case 0:
            layers.push_back(with_value<attempt>(outer, i));
            last_value = i;
            break;
          case 1: {
            auto [ctx, cancel] = with_cancel(outer);
            layers.push_back(ctx);
            cancels.push_back(std::move(cancel));
            break;
          }
          default: {
            auto [ctx, cancel] = with_timeout(outer, by_timeout ? 20ms : 1h);
            layers.push_back(ctx);
            cancels.push_back(std::move(cancel));
          }
        }
      }
      auto [innermost, cancel] = with_timeout(layers.back(), by_timeout ? 20ms : 1h);
      const auto check_value = [&, &inner = innermost] {
        ASSERT_NE(inner.value<attempt>(), nullptr) << "seed " << seed;
        EXPECT_EQ(*inner.value<attempt>(), last_value) << "seed " << seed;
      };
      check_value();
      if (by_timeout) {
        innermost.wait();
        expect_ended(innermost, late, late);
      } else {
        expect_live(innermost);
        cancels[random() % cancels.size()]();
        expect_ended(innermost, canceled, canceled);
      }
      check_value();
    }
  });
}

// CX-12; after_func's half is in after_func_test.cpp.
TEST(context, ended_children_leave_nothing) {
  auto [parent, cancel_parent] = with_cancel(context::background());
  {
    auto [ctx, cancel] = with_cancel(parent);
    cancel();
    EXPECT_EQ(children(parent), 0U);
  }
  {
    auto [ctx, cancel] = with_timeout(parent, 1h);
    EXPECT_EQ(children(parent), 1U);
    cancel();
    EXPECT_EQ(children(parent), 0U);
  }
  static_cast<void>(with_cancel(parent));
  EXPECT_EQ(children(parent), 0U);
}

// CX-13.
TEST(context, child_of_an_ended_parent_has_ended) {
  auto [parent, cancel] = with_cancel_cause(context::background());
  cancel(parents_cause);
  auto [child, cancel_child] = with_cancel(parent);
  expect_ended(child, canceled, parents_cause);
  auto [timed, cancel_timed] = with_timeout_cause(parent, 1h, own_cause);
  expect_ended(timed, canceled, parents_cause);
}

// CX-18.
TEST(context, cause_of_a_cancel) {
  EXPECT_FALSE(cause(context::background()).has_value());
  EXPECT_FALSE(cause(context::todo()).has_value());
  auto [plain, cancel_plain] = with_cancel(context::background());
  cancel_plain();
  expect_ended(plain, canceled, canceled);
  auto [with_cause, cancel_with_cause] = with_cancel_cause(context::background());
  cancel_with_cause(own_cause);
  cancel_with_cause(parents_cause);
  expect_ended(with_cause, canceled, own_cause);
  auto [without, cancel_without] = with_cancel_cause(context::background());
  cancel_without();
  cancel_without(own_cause);
  expect_ended(without, canceled, canceled);
}

TEST(context, cause_can_be_a_signal) {
  auto [ctx, cancel] = with_cancel_cause(context::background());
  cancel(error::from_signal(15));
  EXPECT_EQ(cause(ctx)->signal(), 15);
  EXPECT_EQ(*ctx.err(), canceled);
}

TEST(context, first_cause_on_the_path_counts) {
  auto [parent, cancel_parent] = with_cancel_cause(context::background());
  auto [child, cancel_child] = with_cancel_cause(parent);
  cancel_child(own_cause);
  cancel_parent(parents_cause);
  expect_ended(child, canceled, own_cause);
  expect_ended(parent, canceled, parents_cause);
}

// CX-20.
TEST_P(context_test, cause_of_a_deadline) {
  run([] {
    auto [zero, cancel_zero] = with_timeout(context::background(), 0s);
    cancel_zero();
    expect_ended(zero, late, late);
    auto [far, cancel_far] = with_timeout(context::background(), 1h);
    cancel_far();
    expect_ended(far, canceled, canceled);

    auto [expired, cancel_expired] = with_timeout_cause(context::background(), 1ms, own_cause);
    expired.wait();
    expect_ended(expired, late, own_cause);
    cancel_expired();
    expect_ended(expired, late, own_cause);

    auto [early, cancel_early] = with_timeout_cause(context::background(), 1h, own_cause);
    cancel_early();
    expect_ended(early, canceled, canceled);

    auto [parent, cancel_parent] = with_cancel_cause(context::background());
    auto [child, cancel_child] = with_timeout_cause(parent, 1h, own_cause);
    cancel_parent(parents_cause);
    expect_ended(child, canceled, parents_cause);

    // The parent's deadline is earlier: the child's cause is lost.
    auto [sooner, cancel_sooner] = with_timeout_cause(context::background(), 1ms, parents_cause);
    auto [later, cancel_later] = with_timeout_cause(sooner, 1h, own_cause);
    later.wait();
    expect_ended(later, late, parents_cause);
  });
}

// CX-21.
TEST(context, detached_copy_keeps_only_the_values) {
  const context value = with_value<request_id>(context::background(), "7");
  auto [ctx, cancel] = with_cancel_cause(value);
  auto [timed, cancel_timed] = with_timeout(ctx, 0s);
  const context detached = without_cancel(ctx);
  const context detached_timed = without_cancel(timed);
  cancel(own_cause);
  for (const context& free : {detached, detached_timed}) {
    expect_live(free);
    EXPECT_FALSE(free.deadline().has_value());
    EXPECT_EQ(free.done().node(), nullptr);
    EXPECT_EQ(*free.value<request_id>(), "7");
  }
  auto [below, cancel_below] = with_timeout(detached_timed, 1h);
  expect_live(below);
}

TEST(context, done_is_the_same_each_time) {
  auto [ctx, cancel] = with_cancel(context::background());
  auto [other, cancel_other] = with_cancel(context::background());
  EXPECT_EQ(ctx.done(), ctx.done());
  EXPECT_EQ(ctx.done(), with_value<attempt>(ctx, 1).done());
  EXPECT_FALSE(ctx.done() == other.done());
}

TEST_P(context_test, wait_is_ended_by_a_cancel) {
  run([] {
    auto [ctx, cancel] = with_cancel(context::background());
    std::atomic<int> ended{0};
    for (int i = 0; i < 10; ++i) {
      go([ctx, &ended] {
        ctx.wait();
        EXPECT_TRUE(ctx.err().has_value());
        ++ended;
      });
    }
    yield();
    cancel();
    while (ended < 10) yield();
    ctx.wait();
  });
}

TEST(context, plain_threads_wait_for_a_deadline) {
  auto [ctx, cancel] = with_timeout(context::background(), 1ms);
  std::thread other{[ctx] {
    ctx.wait();
    EXPECT_EQ(*ctx.err(), late);
  }};
  ctx.wait();
  other.join();
  expect_ended(ctx, late, late);
}

// What came before a cancel is visible to whoever sees the end; ThreadSanitizer is the judge. The
// count orders the readers before the next round only: nothing but the end orders the write before
// them.
TEST_P(context_test, cancel_orders) {
  run([] {
    for (int round = 0; round < 200; ++round) {
      int written = 0;
      auto [parent, cancel] = with_cancel(context::background());
      auto [ctx, cancel_child] = with_timeout(parent, 1h);
      std::atomic<int> ended{0};
      go([ctx, &written, &ended] {
        ctx.wait();
        EXPECT_EQ(written, 1);
        ended.fetch_add(1, std::memory_order_release);
      });
      go([ctx, &written, &ended] {
        while (!ctx.err()) yield();
        EXPECT_EQ(written, 1);
        ended.fetch_add(1, std::memory_order_release);
      });
      written = 1;
      cancel();
      while (ended.load(std::memory_order_acquire) < 2) yield();
    }
  });
}

// As 100 000 derived contexts, one below the other, on a fiber's stack.
TEST_P(context_test, deep_chain) {
  if (is_simulated()) GTEST_SKIP() << "too deep for many schedules";
  run([] {
    std::vector<cancel_func> cancels;
    auto [root, cancel] = with_cancel(context::background());
    context ctx = root;
    for (int i = 0; i < 100'000; ++i) {
      auto [derived, cancel_derived] = with_cancel(with_value<attempt>(ctx, i));
      ctx = derived;
      cancels.push_back(std::move(cancel_derived));
    }
    EXPECT_EQ(*ctx.value<attempt>(), 99'999);
    EXPECT_EQ(ctx.value<request_id>(), nullptr);
    cancel();
    expect_ended(ctx, canceled, canceled);
  });
}

EXEUNT_EXPLORED(context_test);

}  // namespace
}  // namespace exeunt
