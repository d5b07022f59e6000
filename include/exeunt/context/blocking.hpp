// SPDX-License-Identifier: Apache-2.0
// Calls that block a thread, given up by the caller when its context ends.

#pragma once

#include <optional>
#include <type_traits>
#include <utility>

#include <exeunt/base/ref_counted.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/context/completion.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/blocking.hpp>
#include <exeunt/sched/go.hpp>

namespace exeunt {

namespace detail {

template <typename F>
class blocking_call final : public completion, public blocking_job {
 public:
  using outcome = flat_result_t<std::invoke_result_t<F&>>;

  template <typename G>
  explicit blocking_call(G&& f) : f_{std::in_place, std::forward<G>(f)} {}

  void run() noexcept override {
    threw_ = call_into(outcome_, *f_);
    f_.reset();
  }
  void finish() noexcept override {
    complete();
    release();  // The pool's.
  }
  void refuse(const error& why) noexcept override {
    outcome_.emplace(std::unexpect, why);
    finish();
  }

  outcome take() {
    outcome taken = std::move(*outcome_);
    outcome_.reset();
    if (threw_) taken.error().rethrow();
    return taken;
  }

 private:
  ~blocking_call() override {
    if (outcome_ && threw_) report_panic_in(home_, outcome_->error());
  }

  timer_queue* const home_ = home_of_caller();
  std::optional<F> f_;
  std::optional<outcome> outcome_;  // Written before complete(), read after it.
  bool threw_ = false;              // As outcome_: f was left by the exception in it.
};

}  // namespace detail

/// As blocking(f), but the caller stops waiting when `ctx` ends. If `f` still waits for a thread
/// then, it is not called. If it has begun, it cannot be stopped: it runs to its end on its thread,
/// with its own copy of what it was given, and what it returns is dropped. So `f` must hold by
/// value whatever it uses.
///
/// Returns: what f returns, as a result<> or flattened if it is one; or why `ctx` ended; or why
///          there is no thread for it, see blocking(f).
/// Throws:  what f throws. If the caller is gone by then, it is reported to its runtime's panic
///          handler. A failed result<> that f returns is returned, also if there is an exception in
///          it.
/// Blocks:  until f is done or `ctx` ends. Also from a plain thread f runs on the side pool.
/// Cost:    as blocking(f), and one allocation.
template <typename F>
  requires std::is_invocable_v<std::decay_t<F>&>
[[nodiscard]] detail::flat_result_t<std::invoke_result_t<std::decay_t<F>&>> blocking(
    const context& ctx, F&& f) {
  using call = detail::blocking_call<std::decay_t<F>>;
  if (std::optional<error> ended = ctx.err()) return fail(std::move(*ended));
  const auto state = detail::ref_ptr<call>::adopt(new call{std::forward<F>(f)});
  auto posted = state;
  detail::post_blocking(*posted);
  static_cast<void>(posted.detach());  // The pool's, or ours again if we take the job back.
  if (state->wait(detail::wait_reason::blocking, detail::node_of(ctx))) return state->take();
  if (detail::withdraw_blocking(*state)) state->release();
  return fail(*ctx.err());
}

}  // namespace exeunt
