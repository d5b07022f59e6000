// SPDX-License-Identifier: Apache-2.0
// The token bucket, which is filled by arithmetic whenever somebody asks.
//
// The rules are those of golang.org/x/time/rate. *Debt* is a negative number of tokens: what has
// been reserved beyond what was there.
//
// Invariants, whenever lock_ is free:
//   I1  tokens_ is what the bucket had at last_, at most the burst of that moment.
//   I2  last_event_ is no earlier than the moment of any reservation that has not been cancelled,
//       unless a caller gave a time that lies before one that was given already.
// Locks: lock_ is a leaf; nothing is called under it but arithmetic.
// Wake-ups: none. A wait() knows its moment when it begins and parks for its timer and its context.
// Tests: tests/sync/rate_limiter_test.cpp, sync_allocation_test.cpp, flows_race_test.cpp.

#include <exeunt/sync/rate_limiter.hpp>

#include <algorithm>
#include <limits>
#include <optional>
#include <string>

#include <exeunt/base/error.hpp>
#include <exeunt/context/context.hpp>

#include "sync/park_until.hpp"

namespace exeunt {

using detail::spin_guard;

namespace {

constexpr double ns_per_second = 1e9;

void refuse_negative(std::int64_t n) {
  if (n < 0) throw panic_error{"rate_limiter: a negative number of events"};
}

// How long it takes until `tokens` have come.
clock::duration time_for(double tokens, double limit) noexcept {
  if (limit <= 0) return rate_limiter::never;
  const double ns = tokens / limit * ns_per_second;
  // The largest count itself is no double: what rounds to it is too much.
  if (ns >= static_cast<double>(std::numeric_limits<clock::rep>::max())) return rate_limiter::never;
  return clock::duration{static_cast<clock::rep>(ns)};
}

double tokens_in(clock::duration d, double limit) noexcept {
  return limit <= 0 ? 0 : static_cast<double>(d.count()) / ns_per_second * limit;
}

}  // namespace

double rate_limiter::every(clock::duration interval) noexcept {
  if (interval <= clock::duration::zero()) return unlimited;
  return ns_per_second / static_cast<double>(interval.count());
}

rate_limiter::rate_limiter(double limit, std::int64_t burst) noexcept
    : limit_{limit}, burst_{burst}, tokens_{static_cast<double>(burst)} {}

double rate_limiter::limit() const noexcept {
  const spin_guard guard{lock_};
  return limit_;
}

std::int64_t rate_limiter::burst() const noexcept {
  const spin_guard guard{lock_};
  return burst_;
}

double rate_limiter::tokens_at(clock::time_point t) const noexcept {
  const spin_guard guard{lock_};
  return tokens_by(t);
}

// Under lock_. A time before the last one brings nothing and takes nothing.
double rate_limiter::tokens_by(clock::time_point t) const noexcept {
  const clock::duration passed = std::max(t - last_, clock::duration::zero());
  return std::min(tokens_ + tokens_in(passed, limit_), static_cast<double>(burst_));
}

// Under lock_.
void rate_limiter::settle(clock::time_point t) noexcept {
  tokens_ = tokens_by(t);
  last_ = t;
}

void rate_limiter::set_limit_at(clock::time_point t, double limit) noexcept {
  const spin_guard guard{lock_};
  settle(t);
  limit_ = limit;
}

void rate_limiter::set_burst_at(clock::time_point t, std::int64_t burst) noexcept {
  const spin_guard guard{lock_};
  settle(t);
  burst_ = burst;
}

// Takes `n` tokens, if they are there within `longest` after `t`.
bool rate_limiter::take(reservation& into, clock::time_point t, std::int64_t n,
                        clock::duration longest) noexcept {
  const spin_guard guard{lock_};
  into.limit_ = limit_;
  into.tokens_ = n;
  if (limit_ == unlimited) {
    into.when_ = t;
    into.limiter_ = this;
    return true;
  }
  const double left = tokens_by(t) - static_cast<double>(n);
  const clock::duration delay = left < 0 ? time_for(-left, limit_) : clock::duration::zero();
  if (n > burst_ || delay > longest) return false;
  into.when_ = deadline_after(t, delay);
  into.limiter_ = this;
  last_ = t;
  tokens_ = left;
  last_event_ = into.when_;
  return true;
}

bool rate_limiter::allow_at(clock::time_point t, std::int64_t n) {
  refuse_negative(n);
  reservation taken;
  return take(taken, t, n, clock::duration::zero());
}

rate_limiter::reservation rate_limiter::reserve(std::int64_t n, clock::duration longest) {
  return reserve_at(clock::now(), n, longest);
}

rate_limiter::reservation rate_limiter::reserve_at(clock::time_point t, std::int64_t n,
                                                   clock::duration longest) {
  refuse_negative(n);
  reservation taken;
  static_cast<void>(take(taken, t, n, longest));
  return taken;
}

result<> rate_limiter::wait(const context& ctx, std::int64_t n) {
  refuse_negative(n);
  const clock::time_point t = clock::now();
  detail::cancel_node* const cancel = detail::node_of(ctx);
  if (cancel != nullptr && cancel->canceled()) return fail(cancel->reason());
  clock::duration longest = never;
  if (const std::optional<clock::time_point> deadline = ctx.deadline()) longest = *deadline - t;

  reservation taken;
  if (!take(taken, t, n, longest)) {
    const std::string events = std::to_string(n) + " events";
    if (n > burst()) return fail(errc::limit_exceeded, events + " at once are above the burst");
    return fail(errc::deadline_exceeded, "the wait for " + events + " would outlast the context");
  }
  if (taken.when_ <= t) {
    detail::checkpoint();
    return {};
  }
  detail::ticket several;
  detail::queued_waiter self{several};  // In no queue: only the timer and the context end it.
  const detail::wait_end end =
      detail::park_until(several, self, cancel, taken.when_, detail::wait_reason::rate, this);
  if (end == detail::wait_end::canceled) {
    taken.cancel();
    return fail(cancel->reason());
  }
  return {};
}

rate_limiter::reservation& rate_limiter::reservation::operator=(reservation&& other) noexcept {
  limiter_ = std::exchange(other.limiter_, nullptr);
  tokens_ = other.tokens_;
  when_ = other.when_;
  limit_ = other.limit_;
  return *this;
}

clock::duration rate_limiter::reservation::delay_from(clock::time_point t) const noexcept {
  if (!ok() || when_ == no_deadline) return never;
  return std::max(when_ - t, clock::duration::zero());
}

void rate_limiter::reservation::cancel_at(clock::time_point t) noexcept {
  if (!ok()) return;
  const std::int64_t reserved = std::exchange(tokens_, 0);
  if (reserved == 0 || when_ < t || limit_ == unlimited) return;
  rate_limiter& from = *limiter_;
  const spin_guard guard{from.lock_};
  if (from.limit_ == unlimited) return;
  // What was reserved after this one is as much as its moment lies before the last one's; its
  // holders count on it.
  const clock::duration promised = std::max(from.last_event_ - when_, clock::duration::zero());
  const double back = static_cast<double>(reserved) - tokens_in(promised, limit_);
  if (back <= 0) return;
  from.tokens_ = std::min(from.tokens_by(t) + back, static_cast<double>(from.burst_));
  from.last_ = t;
  if (when_ == from.last_event_ && limit_ > 0) {
    const clock::duration span = time_for(static_cast<double>(reserved), limit_);
    if (span <= when_ - t) from.last_event_ = when_ - span;
  }
}

}  // namespace exeunt
