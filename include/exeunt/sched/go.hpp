// SPDX-License-Identifier: Apache-2.0
// Starting fibers, and what a fiber can say about itself.

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>

namespace exeunt {

/// How to start a fiber: `go({.name = "reader"}, f)`.
struct fiber_options {
  /// Shown in reports and dumps; at most 31 characters are kept.
  std::string_view name = {};
  /// Address space of the stack in bytes, without its guard; 0 is the runtime's default. Only
  /// what is touched becomes memory.
  std::size_t stack_size = 0;
  /// The line that reports name as the fiber's origin.
  std::source_location started_at = std::source_location::current();
};

namespace detail {

class cancel_node;
class timer_queue;

/// The runtime of the running fiber by what stays of it when it goes; null outside fibers.
[[nodiscard]] EXEUNT_API timer_queue* home_of_caller() noexcept;

/// What is cancelled when the runtime that start_fiber() would use now has stopped: its fibers that
/// have not ended by then never will, and who waits for one from outside waits for this, too.
/// Never freed. Throws: as start_fiber().
[[nodiscard]] EXEUNT_API cancel_node& end_of_runtime();
/// Whether the caller is a fiber of the runtime with that end, and so will be left with the others.
[[nodiscard]] EXEUNT_API bool shares_runtime(const cancel_node& end) noexcept;

/// Starts `body` on the current runtime, or on the default one from a thread that has none.
/// An exception that leaves `body` is given to the runtime's panic handler.
EXEUNT_API void start_fiber(const fiber_options& options, unique_function<void()> body);
/// The same in the runtime `home`, unless that is null or has stopped.
EXEUNT_API void start_fiber_in(timer_queue* home, const fiber_options& options,
                               unique_function<void()> body);

template <typename F>
concept fiber_body = !std::is_same_v<std::remove_cvref_t<F>, fiber_options>;

/// Calls as std::thread does: with decayed copies of the arguments, as rvalues.
template <typename F, typename... Args>
unique_function<void()> bind_body(F&& f, Args&&... args) {
  if constexpr (sizeof...(Args) == 0) {
    return [f = std::decay_t<F>(std::forward<F>(f))]() mutable {
      static_cast<void>(std::invoke(std::move(f)));
    };
  } else {
    return [f = std::decay_t<F>(std::forward<F>(f)),
            bound = std::tuple<std::decay_t<Args>...>(std::forward<Args>(args)...)]() mutable {
      std::apply(
          [&f](auto&... arg) { static_cast<void>(std::invoke(std::move(f), std::move(arg)...)); },
          bound);
    };
  }
}

}  // namespace detail

/// Starts `f(args…)` in a fiber of its own and does not wait for it.
///
/// The fiber is supervised, not owned: an exception that leaves it goes to the runtime's panic
/// handler (by default one report: message, type, fiber, where started, stack of the throw), is
/// counted, and the process carries on. If it still lives when the process or its runtime ends,
/// it is reported with the line that started it. Prefer spawn() or errgroup, which know the end.
///
/// Throws:   std::bad_alloc, and what copying the arguments throws.
/// Threads:  any; from a thread outside any runtime the default runtime is used, and started.
/// Ordering: what happened before go() is visible to f. The end of f orders nothing.
/// Cost:     one control block from a pool; a stack is bound when the fiber first runs.
template <typename F>
  requires detail::fiber_body<F> && std::is_invocable_v<std::decay_t<F>>
void go(F&& f, std::source_location where = std::source_location::current()) {
  detail::start_fiber({.started_at = where}, detail::bind_body(std::forward<F>(f)));
}
template <typename F, typename A>
  requires detail::fiber_body<F> && std::is_invocable_v<std::decay_t<F>, std::decay_t<A>>
void go(F&& f, A&& a, std::source_location where = std::source_location::current()) {
  detail::start_fiber({.started_at = where},
                      detail::bind_body(std::forward<F>(f), std::forward<A>(a)));
}
template <typename F, typename A, typename B>
  requires detail::fiber_body<F> &&
           std::is_invocable_v<std::decay_t<F>, std::decay_t<A>, std::decay_t<B>>
void go(F&& f, A&& a, B&& b, std::source_location where = std::source_location::current()) {
  detail::start_fiber(
      {.started_at = where},
      detail::bind_body(std::forward<F>(f), std::forward<A>(a), std::forward<B>(b)));
}

/// As go(f, args…), with a name or a stack size.
template <typename F, typename... Args>
  requires std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>
void go(const fiber_options& options, F&& f, Args&&... args) {
  detail::start_fiber(options, detail::bind_body(std::forward<F>(f), std::forward<Args>(args)...));
}

/// Lets other ready fibers run. From a plain thread: std::this_thread::yield().
EXEUNT_API void yield() noexcept;

/// Suspends the caller for `d`; for d <= 0 it only yields.
///
/// Blocks:  for the whole of `d`. The overload with a context, in time/sleep.hpp, can be ended.
/// Threads: fibers and plain threads.
EXEUNT_API void sleep(clock::duration d) noexcept;

namespace this_fiber {

/// The running fiber's number, counted from 1 within the process; 0 outside fibers.
EXEUNT_API std::uint64_t id() noexcept;
/// Its name, or an empty one. Valid while the fiber runs.
EXEUNT_API std::string_view name() noexcept;
/// As exeunt::yield().
inline void yield() noexcept { exeunt::yield(); }

}  // namespace this_fiber

}  // namespace exeunt
