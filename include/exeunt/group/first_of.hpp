// SPDX-License-Identifier: Apache-2.0
// Several ways to one value: the first success ends the others.

#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <iterator>
#include <optional>
#include <ranges>
#include <source_location>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <exeunt/base/error.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/context/completion.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/group/errgroup.hpp>
#include <exeunt/sched/go.hpp>

namespace exeunt {

namespace detail {

/// A context with the line that passes it, for functions whose last parameters are a pack.
struct context_here {
  template <std::convertible_to<const context&> Context>
  context_here(const Context& passed,
               std::source_location line = std::source_location::current()) noexcept
      : ctx{static_cast<const context&>(passed)}, where{line} {}

  const context& ctx;
  std::source_location where;
};

/// Those that run for one outcome.
class EXEUNT_API contest {
 public:
  explicit contest(const context& parent)
      : parent_{parent}, group_{parent, {.cancel_on = cancel_on::nothing}} {}

  /// Starts one. `f` and `outcome` outlive finish().
  template <typename T, typename F>
  void enter(const fiber_options& options, F& f, std::optional<result<T>>& outcome) {
    group_.go(options, [this, &f, &outcome](const context& ctx) {
      call_into(outcome, f, ctx);
      if (*outcome) succeed(&outcome);
    });
  }

  /// Waits for all.
  template <typename T>
  [[nodiscard]] result<T> finish(std::span<std::optional<result<T>>> outcomes) {
    const void* const winner = wait_for_all();
    for (std::optional<result<T>>& outcome : outcomes) {
      if (&outcome != winner && outcome && !*outcome) add_failure(outcome->error());
    }
    for (std::optional<result<T>>& outcome : outcomes) {
      if (&outcome == winner) return *std::move(outcome);
    }
    return fail(all_failures());
  }

 private:
  /// Ends the others, if this is the first.
  void succeed(const void* who) noexcept;
  /// Returns: who was the first to succeed; null if none did.
  [[nodiscard]] const void* wait_for_all();
  void add_failure(const error& failure);
  [[nodiscard]] error all_failures() const;

  const context& parent_;
  spin_lock lock_;
  const void* winner_ = nullptr;
  std::optional<error> failures_;
  bool parent_ended_ = false;  // And somebody failed because of it.
  std::optional<error> left_;  // The runtime has stopped without some.
  errgroup group_;             // Its tasks use the rest.
};

template <typename F>
using contender_value_t = flat_value_t<std::invoke_result_t<F&, const context&>>;

/// What first_of() takes.
template <typename F>
concept contender =
    std::is_invocable_v<F&, const context&> && fiber_body<F> &&
    (std::is_void_v<contender_value_t<F>> || std::is_object_v<contender_value_t<F>>);

template <typename R>
concept contenders = std::ranges::forward_range<R&> && !contender<R> &&
                     std::is_lvalue_reference_v<std::ranges::range_reference_t<R&>> &&
                     contender<std::remove_reference_t<std::ranges::range_reference_t<R&>>>;

}  // namespace detail

/// Calls each `f(context)` in a fiber of its own, takes the first success, ends the context of the
/// others, and waits for them.
///
/// Each f returns a T, or a result<T>, or nothing, and all the same. Which of several that succeed
/// at the same time is first is left to chance; the others' values are destroyed.
///
/// Returns:  the value of the first that succeeds. If all fail, the first one's failure with those
///           of the others joined to it, in the order of the arguments; an exception is a failure
///           with type and stack. If `ctx` ends, its error once, besides failures of other kinds;
///           if it had ended before, nothing is called. errc::shutting_down if the runtime has
///           stopped without some.
///           After a success failures are dropped, but for exceptions: they go to the panic
///           handler.
/// Blocks:   until all have ended; so each should obey its context.
/// Throws:   std::bad_alloc, with all that had been started ended.
/// Threads:  any; from a thread outside any runtime the functions run on the default one.
/// Ordering: what was done before is visible to each f, and what each did to the caller afterwards.
/// Cost:     a fiber for each, and one context.
template <typename F, typename... Fs>
  requires detail::contender<std::remove_reference_t<F>> &&
           (detail::contender<std::remove_reference_t<Fs>> && ...) &&
           (std::same_as<detail::contender_value_t<std::remove_reference_t<F>>,
                         detail::contender_value_t<std::remove_reference_t<Fs>>> &&
            ...)
[[nodiscard]] result<detail::contender_value_t<std::remove_reference_t<F>>> first_of(
    detail::context_here here, F&& f, Fs&&... fs) {
  using outcome = std::optional<result<detail::contender_value_t<std::remove_reference_t<F>>>>;
  if (std::optional<error> why = here.ctx.err()) return fail(*std::move(why));
  std::array<outcome, 1 + sizeof...(Fs)> outcomes;
  detail::contest contest{here.ctx};
  const fiber_options options{.started_at = here.where};
  std::size_t next = 0;
  contest.enter(options, f, outcomes[next++]);
  (contest.enter(options, fs, outcomes[next++]), ...);
  return contest.finish(std::span<outcome>{outcomes});
}

/// The same for functions whose number is known only at run time: a forward range of them. Of none
/// there is no first: errc::closed.
template <detail::contenders Range>
[[nodiscard]] auto first_of(detail::context_here here, Range&& functions) {
  using function = std::remove_reference_t<std::ranges::range_reference_t<Range&>>;
  using value = detail::contender_value_t<function>;
  using returns = result<value>;
  if (std::optional<error> why = here.ctx.err()) return returns{fail(*std::move(why))};
  std::vector<std::optional<returns>> outcomes(
      static_cast<std::size_t>(std::ranges::distance(functions)));
  if (outcomes.empty()) return returns{fail(errc::closed, "first_of: no functions")};
  detail::contest contest{here.ctx};
  const fiber_options options{.started_at = here.where};
  auto outcome = outcomes.begin();
  for (function& f : functions) contest.enter(options, f, *outcome++);
  return contest.finish(std::span<std::optional<returns>>{outcomes});
}

}  // namespace exeunt
