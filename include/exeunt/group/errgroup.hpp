// SPDX-License-Identifier: Apache-2.0
// Tasks that belong together: one failure, or one exit, ends all, and none is left behind.

#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <exeunt/base/error.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>
#include <exeunt/base/intrusive_list.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/context/completion.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/wait.hpp>

namespace exeunt {

/// What ends the context of an errgroup's tasks, besides its parent.
enum class cancel_on : std::uint8_t {
  first_failure,  ///< the first task that fails; also the return of wait()
  first_exit,     ///< the first task that returns, even with success: one exits, all exit
  nothing,        ///< only the destructor; such a group can be used again after wait()
};

struct errgroup_options {
  exeunt::cancel_on cancel_on = exeunt::cancel_on::first_failure;
  /// How many tasks may run at a time; below 0 there is no limit.
  int limit = -1;
};

namespace detail {

/// One task while it runs, on its stack.
struct errgroup_task : list_hook<> {
  std::string_view name;  // Its fiber's.
  std::source_location started_at;
};

template <typename R>
concept void_or_result = std::is_void_v<R> || std::is_same_v<flat_result_t<R>, R>;

/// What errgroup::go() takes.
template <typename F>
concept group_body = fiber_body<F> && std::is_invocable_v<std::decay_t<F>&, const context&> &&
                     void_or_result<std::invoke_result_t<std::decay_t<F>&, const context&>>;

struct errgroup_access;

}  // namespace detail

/// A group of tasks with one context, whose end is waited for together.
///
/// Each task takes the group's context and returns nothing or a result<>. An exception that leaves
/// it is a failure that holds its type and stack. A task's copy of its function is destroyed before
/// wait() returns.
///
/// What is recorded: every failure, first things first, but not those that say no more than that
/// the group itself had cancelled. If the parent's end made tasks fail, that is one failure.
///
/// Cancels:  the group's context, as options.cancel_on says; its cause() is the first failure.
/// Threads:  go(), try_go(), wait() and running() may be called concurrently and from tasks, but a
///           task must not wait for its own group. Tasks may start tasks until the last has ended.
/// Ordering: what was done before go() is visible to the task, what a task did to who has waited.
class EXEUNT_API errgroup {
 public:
  /// Without a parent and with cancel_on::nothing: a failure cancels nobody.
  errgroup();
  /// Throws: std::bad_alloc.
  explicit errgroup(const context& parent, errgroup_options options = {});
  /// The parent would end before the first task.
  template <typename CancelFunc>
  explicit errgroup(cancelable_context<CancelFunc>&& parent,
                    errgroup_options options = {}) = delete;
  /// Cancels, waits for all tasks, and reports the failures that no wait() has returned. Tasks that
  /// their runtime has left when it stopped are reported, and not waited for.
  ~errgroup();
  errgroup(const errgroup&) = delete;
  errgroup& operator=(const errgroup&) = delete;

  /// Starts `f(ctx)` in a fiber of its own.
  ///
  /// Blocks: while as many tasks run as the limit allows; a task that calls it on its own group
  ///         then may wait for itself. First come, first served. Cancelling does not end it: what
  ///         is started late finds its context ended.
  /// Throws: panic_error if the limit is 0, or wait() has returned and the context has ended with
  ///         it, or the runtime has stopped while it waited; std::bad_alloc.
  template <detail::group_body F>
  void go(F&& f, std::source_location where = std::source_location::current()) {
    go(fiber_options{.started_at = where}, std::forward<F>(f));
  }
  template <detail::group_body F>
  void go(const fiber_options& options, F&& f) {
    enter();
    start(options, std::forward<F>(f));
  }

  /// As go(), but never blocks.
  /// Returns: false, and nothing is started, if the limit is reached.
  template <detail::group_body F>
  [[nodiscard]] bool try_go(F&& f, std::source_location where = std::source_location::current()) {
    return try_go(fiber_options{.started_at = where}, std::forward<F>(f));
  }
  template <detail::group_body F>
  [[nodiscard]] bool try_go(const fiber_options& options, F&& f) {
    if (!try_enter()) return false;
    start(options, std::forward<F>(f));
    return true;
  }

  /// How many tasks may run at a time; below 0 no limit, with 0 none may start.
  /// Throws: panic_error while tasks run.
  void set_limit(int limit);

  /// Waits until all tasks have ended, then ends the group's context (not with
  /// cancel_on::nothing).
  ///
  /// Returns: success, or the first failure with later ones joined to it. The same on each call.
  ///          When the parent was ended by a signal, the failure says so (see exit_code()). A
  ///          failure with errc::shutting_down if the runtime has stopped without some task.
  /// Blocks:  for as long as the tasks take; ending the parent asks them to hurry.
  [[nodiscard]] result<> wait();

  /// Ends the group's context as if a task had failed, without recording a failure.
  void cancel() noexcept;

  /// The tasks that run now, as "name (file:line)", oldest first.
  [[nodiscard]] std::vector<std::string> running() const;

 private:
  friend struct detail::errgroup_access;

  void enter();
  [[nodiscard]] bool try_enter();
  void leave(detail::errgroup_task* task) noexcept;
  void enter_late(detail::cancel_node& end);
  void run(const std::source_location& where, function_ref<result<>(const context&)> body) noexcept;
  void record(const result<>& ended) noexcept;
  [[nodiscard]] bool take_slot(detail::cancel_node& end) noexcept;
  struct outcome {
    std::size_t recorded;  // So many failures.
    std::size_t left;      // So many tasks whose runtime has stopped.
  };
  [[nodiscard]] outcome wait_all(bool for_good) noexcept;
  [[nodiscard]] bool park_in(detail::intrusive_list<detail::waiter>& waiters,
                             detail::spin_guard& guard) noexcept;
  void use_runtime(detail::cancel_node& end) noexcept;

  template <typename F>
  void start(const fiber_options& options, F&& f) {
    using body = std::decay_t<F>;
    try {
      detail::start_fiber(options, [this, where = options.started_at,
                                    f = detail::kept_function<body>{std::forward<F>(f)}]() mutable {
        run(where, [&f](const context& ctx) -> result<> {
          using returns = std::invoke_result_t<body&, const context&>;
          std::optional<detail::flat_result_t<returns>> returned;
          detail::call_into(returned, *f, ctx);
          f.reset();  // Before the group, and with it what f refers to, can go.
          if (!*returned) return fail(std::move(*returned).error());
          return {};
        });
      });
    } catch (...) {
      leave(nullptr);
      throw;
    }
  }

  mutable detail::spin_lock lock_;
  const cancel_on cancel_on_;
  bool finished_ = false;      // A wait() has ended the context for good.
  bool canceled_ = false;      // The group ended its context itself.
  bool parent_ended_ = false;  // That the parent ended is among the failures.
  int limit_;
  std::size_t active_ = 0;  // Entered and not left.
  std::size_t read_ = 0;    // So many failures a wait() has returned.
  std::list<error> failures_;
  detail::cancel_node* home_ =
      nullptr;  // The end of the active tasks' runtime; null if of several.
  detail::intrusive_list<detail::waiter> slots_;    // enter() at the limit.
  detail::intrusive_list<detail::waiter> waiters_;  // wait_all() while active_ > 0.
  detail::intrusive_list<detail::errgroup_task> tasks_;
  const context ctx_;
  detail::cancel_node* const node_;  // Of ctx_.
};

namespace detail {

/// For loops that take a slot first, and then look for what is to use it.
struct errgroup_access {
  [[nodiscard]] static const context& ctx(const errgroup& group) noexcept { return group.ctx_; }
  /// Waits for a slot. start() or leave() has to follow.
  /// Returns: false, without a slot, if the group's context has ended; that is recorded.
  [[nodiscard]] static bool enter(errgroup& group) {
    group.enter();
    const std::optional<error> why = group.ctx_.err();
    if (!why) return true;
    group.record(fail(*why));
    group.leave(nullptr);
    return false;
  }
  template <typename F>
  static void start(errgroup& group, const fiber_options& options, F&& f) {
    group.start(options, std::forward<F>(f));
  }
  static void leave(errgroup& group) noexcept { group.leave(nullptr); }
  /// As if a task had failed so.
  static void record(errgroup& group, const error& failure) noexcept {
    group.record(fail(failure));
  }
};

}  // namespace detail

}  // namespace exeunt
