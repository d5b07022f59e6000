// SPDX-License-Identifier: Apache-2.0
// Waiting until a number of things are done.

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/error.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sync/wait_queue.hpp>

namespace exeunt {

class context;

/// A count that can be waited for: wait() returns when it is zero.
///
/// Prefer go(f) to add() and done(). For members whose failure should end the others, see
/// errgroup. A group may be used again as soon as its count is zero: those whom the zero released
/// are not held by what comes after. It must outlive its members.
///
/// Threads:  all members may be called concurrently, from fibers and plain threads. An add() from
///           zero must happen before the wait() that is to wait for it: call it where the member
///           is started, not in the member.
/// Ordering: each done() happens before the return of a wait() that it releases.
class EXEUNT_API wait_group {
 public:
  wait_group() noexcept = default;
  wait_group(const wait_group&) = delete;
  wait_group& operator=(const wait_group&) = delete;
  /// Asserts: nobody waits.
  ~wait_group();

  /// Adds `n`, which may be negative, to the count.
  ///
  /// Wakes:  everybody in wait(), if the count becomes zero.
  /// Throws: panic_error if it would become negative; it is unchanged then.
  void add(std::int64_t n = 1);
  /// add(-1).
  void done() { add(-1); }

  /// Starts `f()` in a fiber and counts it until it has returned and is destroyed.
  ///
  /// An exception that leaves f goes to the runtime's panic handler at once, counts as done, and
  /// is then what wait() throws.
  /// Throws: std::bad_alloc; f then counts for nothing.
  template <typename F>
    requires detail::fiber_body<F> && std::is_invocable_v<std::decay_t<F>>
  void go(F&& f, std::source_location where = std::source_location::current()) {
    go({.started_at = where}, std::forward<F>(f));
  }
  /// As go(f), with a name or a stack size.
  template <typename F>
    requires std::is_invocable_v<std::decay_t<F>>
  void go(const fiber_options& options, F&& f) {
    start(options, [f = std::decay_t<F>(std::forward<F>(f))]() mutable {
      auto member = std::move(f);
      static_cast<void>(std::invoke(std::move(member)));
    });
  }

  /// Blocks: until the count is zero.
  /// Throws: the first exception that ever left a member started by go().
  void wait();

  /// As wait(), giving up when `ctx` ends.
  ///
  /// Returns: the first exception that ever left a member, as errc::panic; the context's error.
  [[nodiscard]] result<> wait(const context& ctx);

  /// What is not done yet. A snapshot.
  [[nodiscard]] std::int64_t count() const noexcept;

 private:
  static constexpr std::uint64_t waiting_bit = 1;  // queue_ is not empty; changes under lock_.
  static constexpr std::uint64_t failed_bit = 2;   // failure_ is set for good; changes under lock_.
  static constexpr unsigned count_shift = 2;
  static constexpr std::uint64_t one = std::uint64_t{1} << count_shift;

  void start(const fiber_options& options, unique_function<void()> body);
  void run_member(unique_function<void()>& body) noexcept;
  bool reach_zero(std::uint64_t delta) noexcept;
  bool enqueue(detail::queued_waiter& self) noexcept;
  void show_first_add() noexcept;
  void show_first_wait() noexcept;

  detail::atomic<std::uint64_t> state_{0};  // The count, shifted, and the bits.
  detail::spin_lock lock_;
  detail::wait_queue queue_;
  std::optional<error> failure_;
#ifdef EXEUNT_HAS_TSAN
  static constexpr unsigned no_place = ~0U;
  detail::atomic<unsigned> place_{no_place};  // Since the count left zero, until somebody waits.
#endif
};

}  // namespace exeunt
