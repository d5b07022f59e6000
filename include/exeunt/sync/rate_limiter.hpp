// SPDX-License-Identifier: Apache-2.0
// A bound on how often something happens.

#pragma once

#include <cstdint>
#include <limits>
#include <utility>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/base/spin_lock.hpp>

namespace exeunt {

class context;

/// A bucket of tokens that is full at first, holds `burst` of them at most, and gets `limit` new
/// ones a second. Each event takes one: what finds none is refused by allow(), told when by
/// reserve(), and waits in wait().
///
/// The behaviour is that of golang.org/x/time/rate. Reservations may leave the bucket in debt; who
/// comes later then waits for all of it, so events happen in the order in which they were asked
/// for. With the limit `unlimited` all is allowed at once, whatever the burst. With the limit 0
/// there is the first bucket and no more.
///
/// Threads:  all members may be called concurrently, from fibers and plain threads.
/// Ordering: none.
/// Cost:     a look at the clock and a short lock; nothing is allocated, and nobody runs while
///           nobody asks.
class EXEUNT_API rate_limiter {
 public:
  /// Events a second, when any number may happen.
  static constexpr double unlimited = std::numeric_limits<double>::infinity();
  /// Of a reservation that will never be due.
  static constexpr clock::duration never = clock::duration::max();

  /// One event in `interval`, as a limit; unlimited for none.
  [[nodiscard]] static double every(clock::duration interval) noexcept;

  class reservation;

  /// Allows `limit` events a second, and `burst` at once.
  rate_limiter(double limit, std::int64_t burst) noexcept;
  rate_limiter(const rate_limiter&) = delete;
  rate_limiter& operator=(const rate_limiter&) = delete;

  [[nodiscard]] double limit() const noexcept;
  /// The most that one call can ask for.
  [[nodiscard]] std::int64_t burst() const noexcept;
  /// What is in the bucket; negative if it is owed.
  [[nodiscard]] double tokens() const noexcept { return tokens_at(clock::now()); }
  [[nodiscard]] double tokens_at(clock::time_point t) const noexcept;

  /// From now, or `t`, on. What was reserved before stays where it is, though the new limit or
  /// burst would not have it so.
  void set_limit(double limit) noexcept { set_limit_at(clock::now(), limit); }
  void set_limit_at(clock::time_point t, double limit) noexcept;
  void set_burst(std::int64_t burst) noexcept { set_burst_at(clock::now(), burst); }
  void set_burst_at(clock::time_point t, std::int64_t burst) noexcept;

  /// Whether `n` events may happen now, or at `t`; then their tokens are taken. For what is dropped
  /// otherwise. Never waits.
  /// Throws: panic_error if `n` is negative, as all of these.
  [[nodiscard]] bool allow(std::int64_t n = 1) { return allow_at(clock::now(), n); }
  [[nodiscard]] bool allow_at(clock::time_point t, std::int64_t n = 1);

  /// Takes the tokens of `n` events, though they may not be there yet: the reservation says when
  /// the events may happen. For who waits in his own way. Never waits.
  ///
  /// A reservation that would be due after `longest` takes nothing and is not ok(), and so one for
  /// more than the burst.
  [[nodiscard]] reservation reserve(std::int64_t n = 1, clock::duration longest = never);
  [[nodiscard]] reservation reserve_at(clock::time_point t, std::int64_t n = 1,
                                       clock::duration longest = never);

  /// Waits until `n` events may happen. A wait that `ctx` ends gives back what it had reserved, as
  /// reservation::cancel() does.
  ///
  /// Returns: errc::limit_exceeded for more than the burst; the context's error if it ended;
  ///          errc::deadline_exceeded at once, and with nothing taken, if its deadline would come
  ///          first.
  /// Blocks:  until then.
  [[nodiscard]] result<> wait(const context& ctx, std::int64_t n = 1);

 private:
  [[nodiscard]] double tokens_by(clock::time_point t) const noexcept;
  void settle(clock::time_point t) noexcept;
  bool take(reservation& into, clock::time_point t, std::int64_t n,
            clock::duration longest) noexcept;

  mutable detail::spin_lock lock_;
  double limit_;
  std::int64_t burst_;
  double tokens_;                   // At last_.
  clock::time_point last_{};        // When tokens_ was right.
  clock::time_point last_event_{};  // The latest moment that was given to anybody.
};

/// What reserve() took.
///
/// The limiter outlives it. Dropping one gives nothing back.
/// Threads: one object is one caller's.
class EXEUNT_API rate_limiter::reservation {
 public:
  reservation(reservation&& other) noexcept { *this = std::move(other); }
  /// After a move the source is not ok().
  reservation& operator=(reservation&& other) noexcept;
  ~reservation() = default;

  /// Whether the tokens were taken, so that the events may happen, later perhaps.
  [[nodiscard]] bool ok() const noexcept { return limiter_ != nullptr; }
  /// When they may happen; no_deadline if never.
  [[nodiscard]] clock::time_point when() const noexcept { return ok() ? when_ : no_deadline; }
  /// How long to wait from now, or from `t`, on: 0 to go ahead, `never` if not ok().
  [[nodiscard]] clock::duration delay() const noexcept { return delay_from(clock::now()); }
  [[nodiscard]] clock::duration delay_from(clock::time_point t) const noexcept;

  /// Says that the events will not happen, and gives their tokens back, as far as later
  /// reservations do not count on them. Too late, or for the second time, it does nothing.
  void cancel() noexcept { cancel_at(clock::now()); }
  void cancel_at(clock::time_point t) noexcept;

 private:
  friend class rate_limiter;
  reservation() noexcept = default;

  rate_limiter* limiter_ = nullptr;  // Null: not ok.
  std::int64_t tokens_ = 0;
  clock::time_point when_{};
  double limit_ = 0;  // When it was made.
};

}  // namespace exeunt
