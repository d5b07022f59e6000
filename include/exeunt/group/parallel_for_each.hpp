// SPDX-License-Identifier: Apache-2.0
// A loop whose rounds run at the same time, so many at once and no more.

#pragma once

#include <concepts>
#include <functional>
#include <iterator>
#include <optional>
#include <ranges>
#include <source_location>
#include <type_traits>
#include <utility>

#include <exeunt/base/error.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/group/errgroup.hpp>
#include <exeunt/sched/boundary.hpp>
#include <exeunt/sched/go.hpp>

namespace exeunt {

namespace detail {

/// A channel, by what is needed of it here.
template <typename Source>
concept receivable = requires(const Source& source, const context& ctx) {
  typename Source::element_type;
  { source.recv(ctx) } -> std::same_as<result<typename Source::element_type>>;
} && !std::is_void_v<typename Source::element_type>;

/// What one round gets.
template <typename Source>
struct item_of;
template <typename Source>
  requires receivable<Source>
struct item_of<Source> {
  using type = typename Source::element_type&&;
};
template <typename Source>
  requires(!receivable<Source> && std::ranges::forward_range<Source&>)
struct item_of<Source> {
  using type = std::ranges::range_reference_t<Source&>;
};
template <typename Source>
  requires(!receivable<Source> && !std::ranges::forward_range<Source&> &&
           std::ranges::input_range<Source&>)
struct item_of<Source> {
  using type = std::ranges::range_value_t<Source&>&&;
};
template <typename Source>
using item_of_t = typename item_of<std::remove_reference_t<Source>>::type;

/// What parallel_for_each() takes.
template <typename F, typename Source>
concept round_body =
    requires { typename item_of_t<Source>; } &&
    std::is_invocable_v<std::remove_reference_t<F>&, const context&, item_of_t<Source>> &&
    void_or_result<
        std::invoke_result_t<std::remove_reference_t<F>&, const context&, item_of_t<Source>>>;

/// One round, in a fiber of its own. What has not begun when the context ends does not begin.
template <typename F, typename Item>
result<> run_round(const context& ctx, F& f, Item&& item) {
  if (std::optional<error> why = ctx.err()) return fail(*std::move(why));
  if constexpr (std::is_void_v<std::invoke_result_t<F&, const context&, Item>>) {
    std::invoke(f, ctx, std::forward<Item>(item));
  } else {
    auto returned = std::invoke(f, ctx, std::forward<Item>(item));
    if (!returned) return fail(std::move(returned).error());
  }
  return {};
}

/// Starts the rounds. A slot comes before its item, so that what cannot run yet stays where it is.
template <typename Source, typename F>
void start_rounds(errgroup& group, const fiber_options& options, Source& source, F& f) {
  using access = errgroup_access;
  if constexpr (receivable<Source>) {
    while (access::enter(group)) {
      auto received = source.recv(access::ctx(group));
      if (!received) {
        if (!received.error().is(errc::closed)) access::record(group, received.error());
        return access::leave(group);
      }
      access::start(group, options, [&f, item = *std::move(received)](const context& ctx) mutable {
        return run_round(ctx, f, std::move(item));
      });
    }
  } else {
    const auto last = std::ranges::end(source);
    for (auto next = std::ranges::begin(source); next != last; ++next) {
      if (!access::enter(group)) return;
      if constexpr (std::ranges::forward_range<Source&>) {
        access::start(group, options,
                      [&f, next](const context& ctx) { return run_round(ctx, f, *next); });
      } else {
        access::start(
            group, options,
            [&f, item = std::ranges::range_value_t<Source&>(std::ranges::iter_move(next))](
                const context& ctx) mutable { return run_round(ctx, f, std::move(item)); });
      }
    }
  }
}

}  // namespace detail

/// Calls `f(context, item)` for each item of `source`, at most `limit` calls at a time, each in a
/// fiber of its own, and waits for them.
///
/// `source` is a range or a channel. The items of a forward range are passed as the range gives
/// them, `T&` of a container; each call looks its own up, so that what a view computes is computed
/// in parallel. Those of an input range or a channel are moved into the call. A channel is
/// received from until it is closed and drained, or a call fails; an item is taken only when there
/// is room for its call. (An input range is read one item ahead, and not interrupted.)
///
/// f returns nothing or a result<>; it is shared by all calls, which use it concurrently. Its
/// context ends with `ctx`, and when a call has failed. Then no further call begins.
///
/// `limit`:  below 0 there is none.
/// Returns:  success if f has succeeded for each item; else the first failure, with later ones
///           joined to it, as errgroup::wait(). An exception of f, or of the range, is a failure
///           with type and stack. If `ctx` ends before the last call has begun, its error.
/// Blocks:   until all calls that have begun have ended; ending `ctx` asks them to hurry.
/// Throws:   panic_error if the limit is 0; std::bad_alloc before the first call.
/// Threads:  any; from a thread outside any runtime the calls run on the default one.
/// Ordering: what was done before is visible to each call, what the calls did to the caller
///           afterwards. The calls are not ordered among themselves.
/// Cost:     a fiber for each item. Items of less than a microsecond had better come in blocks.
template <typename Source, typename F>
  requires detail::round_body<F, Source>
[[nodiscard]] result<> parallel_for_each(const fiber_options& options, const context& ctx,
                                         Source&& source, int limit, F&& f) {
  if (limit == 0) throw panic_error{"parallel_for_each: a limit of 0"};
  errgroup group{ctx, {.limit = limit}};
  std::optional<error> thrown =
      detail::call_caught([&] { detail::start_rounds(group, options, source, f); });
  if (thrown) detail::errgroup_access::record(group, *std::move(thrown));
  return group.wait();
}
template <typename Source, typename F>
  requires detail::round_body<F, Source>
[[nodiscard]] result<> parallel_for_each(
    const context& ctx, Source&& source, int limit, F&& f,
    std::source_location where = std::source_location::current()) {
  return parallel_for_each(fiber_options{.started_at = where}, ctx, source, limit, f);
}

}  // namespace exeunt
