// SPDX-License-Identifier: Apache-2.0
// spawn(): a fiber with an owner, who gets what it returns.

#pragma once

#include <exception>
#include <functional>
#include <optional>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>

#include <exeunt/base/error.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/context/completion.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>

namespace exeunt {

namespace detail {

/// What a spawned fiber and its handle share.
class EXEUNT_API spawned_base : public completion {
 public:
  /// Gives the fiber a context of its own. Before it starts.
  void adopt_context(const context& parent);
  /// Remembers the runtime that is to run it. Before it starts.
  void adopt_runtime();
  /// Waits for end(), until `until` (null: never) is cancelled, or the runtime has stopped.
  /// Returns: whether the fiber has ended.
  [[nodiscard]] bool join(cancel_node* until) noexcept;
  /// Says that the owner leaves a fiber that will never end.
  static void report_left() noexcept;
  /// Ends that context, if there is one.
  void cancel() noexcept;
  /// The fiber's side, at its end: after this, the outcome is the handle's.
  void end() noexcept;

  [[nodiscard]] const context& ctx() const noexcept { return ctx_; }

 protected:
  spawned_base() noexcept = default;
  ~spawned_base() override;

  /// Reports a failure unless it is a mere cancellation.
  static void report(const error& failure) noexcept;

 private:
  ref_ptr<cancel_node> node_;
  cancel_node* home_ = nullptr;  // The end of the fiber's runtime.
  context ctx_ = context::background();
};

template <typename T>
class spawned final : public spawned_base {
 public:
  /// For the fiber; nobody else looks before end().
  [[nodiscard]] std::optional<result<T>>& outcome() noexcept { return outcome_; }

  result<T> take() {
    // Forced unwinding has no exception to tell of.
    if (!outcome_) return fail(error{errc::panic, "the fiber was unwound by force"});
    read_ = true;
    try {
      return result<T>{std::move(*outcome_)};
    } catch (...) {  // Of the value's move.
      return fail(error::from_exception(std::current_exception()));
    }
  }

  void report_unread() noexcept {
    if (outcome_ && !*outcome_ && !read_) report(outcome_->error());
    outcome_.reset();
  }

 private:
  ~spawned() override { report_unread(); }

  std::optional<result<T>> outcome_;  // The fiber's until end(), then the handle's.
  bool read_ = false;                 // take() has given it away; the handle's.
};

/// Ends the fiber for its handle however the fiber is left, also by a destructor that throws.
class spawned_end {
 public:
  explicit spawned_end(spawned_base& fiber) noexcept : fiber_{fiber} {}
  spawned_end(const spawned_end&) = delete;
  spawned_end& operator=(const spawned_end&) = delete;
  ~spawned_end() { fiber_.end(); }

 private:
  spawned_base& fiber_;
};

[[noreturn]] EXEUNT_API void throw_no_fiber();
/// Why a join() found no end: the runtime has stopped.
[[nodiscard]] EXEUNT_API error left_behind();

template <typename F, typename... Args>
concept takes_context = std::is_invocable_v<std::decay_t<F>, context, std::decay_t<Args>...>;

template <typename T>
inline constexpr bool is_context = std::is_same_v<T, context>;
template <typename CancelFunc>
inline constexpr bool is_context<cancelable_context<CancelFunc>> = true;

// A context as the first argument would be the caller's, which the handle does not end, though its
// destructor waits: `spawn(ctx, f)` was meant.
template <typename... Args>
inline constexpr bool context_comes_first = false;
template <typename First, typename... Rest>
inline constexpr bool context_comes_first<First, Rest...> = is_context<std::decay_t<First>>;

template <typename F, typename... Args>
concept spawnable =
    fiber_body<F> && !is_context<std::remove_cvref_t<F>> &&
    (takes_context<F, Args...> || (!context_comes_first<Args...> &&
                                   std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>));

template <typename F, typename... Args>
struct spawn_returns {};  // Nothing, for overloads that are only looked at.
template <typename F, typename... Args>
  requires(!takes_context<F, Args...> &&
           std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>)
struct spawn_returns<F, Args...> {
  using type = std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>;
};
template <typename F, typename... Args>
  requires takes_context<F, Args...>
struct spawn_returns<F, Args...> {
  using type = std::invoke_result_t<std::decay_t<F>, context, std::decay_t<Args>...>;
};

}  // namespace detail

/// The owner of a spawned fiber: joins it at scope end, if nobody did before.
///
/// Threads: one owner at a time; join() and the destructor from any fiber or thread but itself.
template <typename T>
class [[nodiscard]] fiber {
 public:
  /// Owns none.
  fiber() noexcept = default;
  explicit fiber(detail::ref_ptr<detail::spawned<T>> state) noexcept : state_{std::move(state)} {}
  fiber(fiber&&) noexcept = default;
  /// First does with the fiber it owned as the destructor would.
  fiber& operator=(fiber&& other) noexcept {
    if (this != &other) {
      end();
      state_ = std::move(other.state_);
    }
    return *this;
  }
  /// Ends the fiber's own context, if it has one, waits for the fiber, and reports a failure: but
  /// not a mere errc::canceled.
  /// Blocks: until the fiber ends; for one without a context of its own, that may last. If its
  ///         runtime has stopped and left it, that is reported, and not waited for.
  ~fiber() { end(); }

  /// Whether there is a fiber to join.
  [[nodiscard]] bool joinable() const noexcept { return static_cast<bool>(state_); }

  /// Waits for the fiber.
  ///
  /// Returns:  what it returned; or the exception that left it, with type and stack;
  ///           errc::shutting_down if its runtime has stopped and left it. An exception of a move
  ///           that hands the value over counts as the fiber's.
  /// Blocks:   until its end. Does not end its context: see cancel().
  /// Throws:   panic_error if there is none to join.
  /// Ordering: all it did is visible.
  [[nodiscard]] result<T> join() {
    if (!state_) detail::throw_no_fiber();
    if (!state_->join(nullptr)) {
      state_ = nullptr;
      return fail(detail::left_behind());
    }
    return std::exchange(state_, nullptr)->take();
  }

  /// As join(), and stops waiting when `ctx` ends: joinable() stays true then, and the result is
  /// why `ctx` ended.
  [[nodiscard]] result<T> join(const context& ctx) {
    if (!state_) detail::throw_no_fiber();
    if (!state_->join(detail::node_of(ctx))) {
      if (std::optional<error> ended = ctx.err()) return fail(std::move(*ended));
      state_ = nullptr;
      return fail(detail::left_behind());
    }
    return std::exchange(state_, nullptr)->take();
  }

  /// Ends the fiber's own context; does nothing if it has none. Waits for nobody.
  void cancel() noexcept {
    if (state_) state_->cancel();
  }

  /// Lets the fiber go on alone. A failure of it will be reported, as by the destructor.
  void detach() noexcept { state_ = nullptr; }

 private:
  void end() noexcept {
    if (!state_) return;
    state_->cancel();
    if (state_->join(nullptr)) {
      state_->report_unread();
    } else {
      state_->report_left();
    }
    state_ = nullptr;
  }

  detail::ref_ptr<detail::spawned<T>> state_;
};

namespace detail {

template <typename F, typename... Args>
using spawned_fiber = fiber<flat_value_t<typename spawn_returns<F, Args...>::type>>;

template <typename F, typename... Args>
spawned_fiber<F, Args...> spawn_below(const fiber_options& options, const context& parent, F&& f,
                                      Args&&... args) {
  using state = spawned<flat_value_t<typename spawn_returns<F, Args...>::type>>;
  using function = std::decay_t<F>;
  using arguments = std::tuple<std::decay_t<Args>...>;
  const auto shared = ref_ptr<state>::adopt(new state);
  shared->adopt_runtime();
  if constexpr (takes_context<F, Args...>) shared->adopt_context(parent);
  start_fiber(options, [shared, f = std::optional<function>{std::in_place, std::forward<F>(f)},
                        bound = std::optional<arguments>{std::in_place,
                                                         std::forward<Args>(args)...}]() mutable {
    const spawned_end at_end{*shared};
    std::apply(
        [&](auto&... arg) {
          if constexpr (takes_context<F, Args...>) {
            call_into(shared->outcome(), std::move(*f), context{shared->ctx()}, std::move(arg)...);
          } else {
            call_into(shared->outcome(), std::move(*f), std::move(arg)...);
          }
        },
        *bound);
    // What they hold is gone when join() returns.
    f.reset();
    bound.reset();
  });
  return spawned_fiber<F, Args...>{shared};
}

}  // namespace detail

/// Starts `f(args…)`, with decayed copies, in a fiber that the returned handle owns.
///
/// If f takes a context first, it gets one of its own, which the handle's destructor ends before
/// it joins, and which ends with the fiber: `spawn(ctx, f)` makes that one a child of ctx, while
/// `spawn(f, ctx)` does not compile. If f returns a result<T>, so does join().
///
/// Throws:   std::bad_alloc, and what copying the arguments throws.
/// Threads:  any, as go().
/// Ordering: what happened before is visible to f; what f did to whoever joined.
template <typename F>
  requires detail::spawnable<F>
detail::spawned_fiber<F> spawn(F&& f,
                               std::source_location where = std::source_location::current()) {
  return detail::spawn_below({.started_at = where}, context::background(), std::forward<F>(f));
}
template <typename F, typename A>
  requires detail::spawnable<F, A>
detail::spawned_fiber<F, A> spawn(F&& f, A&& a,
                                  std::source_location where = std::source_location::current()) {
  return detail::spawn_below({.started_at = where}, context::background(), std::forward<F>(f),
                             std::forward<A>(a));
}
template <typename F, typename A, typename B>
  requires detail::spawnable<F, A, B>
detail::spawned_fiber<F, A, B> spawn(F&& f, A&& a, B&& b,
                                     std::source_location where = std::source_location::current()) {
  return detail::spawn_below({.started_at = where}, context::background(), std::forward<F>(f),
                             std::forward<A>(a), std::forward<B>(b));
}

/// The same for an f that takes a context: its own is below `ctx`.
template <typename F>
  requires detail::takes_context<F>
detail::spawned_fiber<F> spawn(const context& ctx, F&& f,
                               std::source_location where = std::source_location::current()) {
  return detail::spawn_below({.started_at = where}, ctx, std::forward<F>(f));
}
template <typename F, typename A>
  requires detail::takes_context<F, A>
detail::spawned_fiber<F, A> spawn(const context& ctx, F&& f, A&& a,
                                  std::source_location where = std::source_location::current()) {
  return detail::spawn_below({.started_at = where}, ctx, std::forward<F>(f), std::forward<A>(a));
}
template <typename F, typename A, typename B>
  requires detail::takes_context<F, A, B>
detail::spawned_fiber<F, A, B> spawn(const context& ctx, F&& f, A&& a, B&& b,
                                     std::source_location where = std::source_location::current()) {
  return detail::spawn_below({.started_at = where}, ctx, std::forward<F>(f), std::forward<A>(a),
                             std::forward<B>(b));
}

/// With a name or a stack size.
template <typename F, typename... Args>
  requires detail::spawnable<F, Args...>
detail::spawned_fiber<F, Args...> spawn(const fiber_options& options, F&& f, Args&&... args) {
  return detail::spawn_below(options, context::background(), std::forward<F>(f),
                             std::forward<Args>(args)...);
}
template <typename F, typename... Args>
  requires detail::takes_context<F, Args...>
detail::spawned_fiber<F, Args...> spawn(const fiber_options& options, const context& ctx, F&& f,
                                        Args&&... args) {
  return detail::spawn_below(options, ctx, std::forward<F>(f), std::forward<Args>(args)...);
}

/// The context would end in the same statement.
template <typename CancelFunc, typename... Args>
void spawn(cancelable_context<CancelFunc>&& ctx, Args&&... args) = delete;
template <typename CancelFunc, typename... Args>
void spawn(const fiber_options& options, cancelable_context<CancelFunc>&& ctx,
           Args&&... args) = delete;

}  // namespace exeunt
