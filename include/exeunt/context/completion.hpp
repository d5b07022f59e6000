// SPDX-License-Identifier: Apache-2.0
// detail: a call that runs elsewhere, its outcome, and the one event "it has ended".

#pragma once

#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

#include <exeunt/base/error.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/intrusive_list.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/boundary.hpp>
#include <exeunt/sched/wait.hpp>

namespace exeunt::detail {

class cancel_node;

/// Happens once; whoever waits for it shares ownership with whoever completes it.
///
/// Threads:  all members, concurrently.
/// Ordering: what came before complete() is visible to whoever saw it.
class EXEUNT_API completion : public ref_counted {
 public:
  completion() noexcept = default;

  /// Wakes: everybody who waits.
  /// Asserts: called once.
  void complete() noexcept;

  /// Blocks:  until completion, or until `until` or `home` (null: never) is cancelled. `home` is
  /// the
  ///          end of the runtime that completes this; its own fibers do not look at it.
  /// Returns: whether it is complete.
  [[nodiscard]] bool wait(wait_reason why, cancel_node* until = nullptr,
                          cancel_node* home = nullptr) noexcept;

  [[nodiscard]] bool done() noexcept;

  void release() const noexcept {
    if (drop()) delete this;
  }

 protected:
  virtual ~completion();

 private:
  spin_lock lock_;
  bool done_ = false;
  intrusive_list<waiter> waiters_;
};

template <typename T>
struct flat_result {
  using type = result<T>;
  using value = T;
};
template <typename T>
struct flat_result<result<T>> {
  using type = result<T>;
  using value = T;
};

/// What a call gives as a result: T and result<T> both give result<T>.
template <typename T>
using flat_result_t = typename flat_result<T>::type;
template <typename T>
using flat_value_t = typename flat_result<T>::value;

/// Makes `into` what `f(args…)` returns, in place, or the exception that left it, or left the copy
/// or move of what it returned, as an error with its type and stack. Nothing is thrown or moved
/// afterwards: somebody waits for the end of this, and must not wait for good.
///
/// Returns: whether something was thrown.
template <typename Outcome, typename F, typename... Args>
bool call_into(std::optional<Outcome>& into, F&& f, Args&&... args) {
  std::optional<error> thrown = call_caught([&] {
    if constexpr (std::is_void_v<std::invoke_result_t<F, Args...>>) {
      std::invoke(std::forward<F>(f), std::forward<Args>(args)...);
      into.emplace();
    } else {
      into.emplace(std::invoke(std::forward<F>(f), std::forward<Args>(args)...));
    }
  });
  if (!thrown) return false;
  into.emplace(std::unexpect, std::move(*thrown));
  return true;
}

/// A function that is destroyed when it has run, before what keeps it is.
///
/// Moved word by word, as far as can be: a closure that is copied as a block, right after its parts
/// have been written, waits for the processor to put them together (7 ns).
template <typename F>
class kept_function {
 public:
  template <typename G>
    requires(!std::is_same_v<std::remove_cvref_t<G>, kept_function>)
  explicit kept_function(G&& f) : f_(std::forward<G>(f)) {}
  kept_function(kept_function&& other) noexcept(std::is_nothrow_move_constructible_v<F>)
      : f_(std::move(other.f_)) {}

  F& operator*() noexcept {
    if constexpr (stays) {
      return f_;
    } else {
      return *f_;
    }
  }
  void reset() noexcept {
    if constexpr (!stays) f_.reset();
  }

 private:
  static constexpr bool stays = std::is_trivially_destructible_v<F>;
  std::conditional_t<stays, F, std::optional<F>> f_;
};

/// What is to be done with a failure that nobody asked for: exceptions go to the panic handler,
/// others are logged. `whose` names what failed.
EXEUNT_API void report_unread(const error& failure, const char* whose) noexcept;

}  // namespace exeunt::detail
