// SPDX-License-Identifier: Apache-2.0
// Something that happens once, whoever asks for it first.

#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sync/wait_queue.hpp>

namespace exeunt {

class context;

/// Runs a function at most once; all callers return after it is done.
///
/// An exception that leaves the function counts as done, unlike with std::call_once: it is thrown
/// to this and to each later caller, and the function is not tried again.
///
/// Threads:  all members may be called concurrently, from fibers and plain threads.
/// Ordering: the end of the function happens before each return of call().
/// Cost:     one load once it is done.
class EXEUNT_API once {
 public:
  constexpr once() noexcept = default;
  once(const once&) = delete;
  once& operator=(const once&) = delete;

  /// Calls `f()` if nothing has been called yet. Different callers may pass different functions;
  /// the first one's runs.
  ///
  /// Blocks: while another caller's function runs.
  /// Throws: what the function threw; panic_error if called from within the function itself, which
  ///         would wait for its own end.
  template <typename F>
    requires std::is_invocable_v<F&>
  void call(F&& f) {
    if (finished_well()) return;
    call_slowly(nullptr, [&f] { static_cast<void>(f()); });
  }

  /// As call(f), but waits for another caller's function only until `ctx` ends. f itself is not
  /// interrupted.
  ///
  /// Returns: the context's error, if it ended first, or before f could be started.
  template <typename F>
    requires std::is_invocable_v<F&>
  [[nodiscard]] result<> call(const context& ctx, F&& f) {
    if (finished_well()) return {};
    return call_slowly(&ctx, [&f] { static_cast<void>(f()); });
  }

  /// Whether the function has returned or thrown.
  [[nodiscard]] bool done() const noexcept;

 private:
  enum stage : std::uint8_t { fresh, running, returned, threw };

  EXEUNT_NO_TSAN bool finished_well() const noexcept {
    // order: acquire, pairs with the release in finish().
    if (stage_.load(detail::memory_order_acquire) != returned) return false;
    detail::race_acquire(this);
    return true;
  }
  result<> call_slowly(const context* ctx, function_ref<void()> body);
  void run(function_ref<void()> body);
  void finish(stage how) noexcept;
  result<> outcome() const;

  detail::atomic<std::uint8_t> stage_{fresh};  // Changes under lock_, and only forwards.
  detail::spin_lock lock_;
  detail::wait_queue queue_;                  // Empty unless running.
  detail::caller runner_;                     // Meaningful while running.
  std::optional<std::exception_ptr> thrown_;  // Set if, and before, stage_ is `threw`.
};

/// A value that is made at its first use: `once_value config{[] { return load(); }}; config();`
///
/// The function is destroyed after its call. If it throws, that is thrown at each use.
/// Threads, Ordering: as once.
template <typename F>
class once_value {
 public:
  using value_type = std::invoke_result_t<F&>;
  static_assert(std::is_object_v<value_type>, "return a value; for nothing, use once");

  explicit once_value(F make) : make_{std::move(make)} {}

  /// Returns: the same object each time.
  const value_type& operator()() {
    made_.call([this] { make(); });
    return *value_;
  }
  /// As once::call(ctx, f).
  [[nodiscard]] result<const value_type*> get(const context& ctx) {
    if (const result<> made = made_.call(ctx, [this] { make(); }); !made) return fail(made.error());
    return &*value_;
  }

 private:
  void make() {
    // Destroyed on each way out.
    F make = std::move(*make_);
    make_.reset();
    value_.emplace(make());
  }

  once made_;
  std::optional<F> make_;
  std::optional<value_type> value_;
};

}  // namespace exeunt
