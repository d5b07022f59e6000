// SPDX-License-Identifier: Apache-2.0
// The life of a connection: parked without a fiber, active, handling, and over.
//
// Invariants, whenever lock_ is free:
//   I1  In a parked stage there is a pending start, or run() is about to take the stage over, or
//       park() has not yet returned; never two of these.
//   I2  In the other stages exactly one fiber owns the connection.
//   I3  A start that is not the watch's is taken back only under lock_ with the stage parked, so a
//       watch is never mistaken for one.
//   I4  scheduled_ is no later than expires_ of a parked stage.
//   I5  From watch() on there is a pending start of the watch's, or watch_fired() runs, or
//       watch_over_ is set; never two of these.
// A readiness is often old news when the watch begins: of bytes that were read since, or of a
// deadline that was moved. So the watch goes on until the peer is seen to have left.
// A deadline mostly moves later, from one idle time to the next. So the timer is left alone and
// looks, when it fires, where the deadline is by now; it is moved only for an earlier one.
// Locks: lock_ comes after the timers' and before a descriptor's. The timer is started without it.
// Wake-ups: the park in unwatch() is ended by watch_fired(). expire() on a connection that is just
//   being parked leaves last_call_, which park() looks at after registering.
// Tests: tests/http/idle_test.cpp (I5), drain_test.cpp, allocation_test.cpp,
//   server_stress_test.cpp.

#include "http/connection.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

#include <exeunt/sched/boundary.hpp>
#include <exeunt/sched/go.hpp>

#include "http/core.hpp"
#include "http/exchange.hpp"
#include "http/guarded.hpp"
#include "net/socket.hpp"

namespace exeunt::detail {

namespace {

constexpr clock::duration expiry_retry = std::chrono::seconds{1};
// Read and dropped while lingering, before others get their turn.
constexpr std::size_t linger_bytes = std::size_t{1} << 20U;

}  // namespace

http_connection::http_connection(ref_ptr<http_core> core, net::conn&& conn) noexcept
    : timer_node{&http_connection::on_fire},
      core_{std::move(core)},
      conn_{std::move(conn)},
      accepted_at_{clock::now()} {}

http_connection::~http_connection() = default;

void http_connection::begin() noexcept {
  park(stage::fresh, limit_from(accepted_at_, core_->options.read_header_timeout));
}

void http_connection::start() noexcept {
  start_fiber({.name = "http connection"},
              [self = ref_ptr<http_connection>::share(this)] { self->run(); });
}

void http_connection::park(stage as, clock::time_point until) noexcept {
  bool earlier = false;
  {
    const ordered_guard guard{lock_};
    stage_ = as;
    expires_ = until;
    earlier = until < scheduled_;
    if (earlier) scheduled_ = until;
  }
  if (earlier) timer_node::start(until);
  // From here on another fiber may own the connection; the caller holds a reference.
  conn_.when_readable([self = ref_ptr<http_connection>::share(this)] { self->run(); });
  bool late = false;
  {
    const ordered_guard guard{lock_};
    late = last_call_ && take_back_start();
  }
  if (late) {
    start();
  } else if (as != stage::lingering && core_->drained()) {
    expire(false);  // The stop has perhaps looked at it before it was parked.
  }
}

// Under lock_. Returns: true if the caller has to start() it.
bool http_connection::take_back_start() noexcept {
  return is_parked(stage_) && conn_.cancel_when_readable();
}

void http_connection::expire(bool lingers_too) noexcept {
  bool mine = false;
  {
    const ordered_guard guard{lock_};
    if (!is_parked(stage_) || (stage_ == stage::lingering && !lingers_too)) return;
    last_call_ = true;
    mine = take_back_start();
  }
  if (mine) start();
}

void http_connection::expire_if_due() noexcept {
  bool mine = false;
  {
    const ordered_guard guard{lock_};
    if (!is_parked(stage_) || expires_ > clock::now()) return;
    last_call_ = true;
    mine = take_back_start();
  }
  if (mine) start();
}

clock::time_point http_connection::on_fire(timer_node& timer, clock::time_point now) noexcept {
  auto& self = static_cast<http_connection&>(timer);
  bool due = false;
  clock::time_point again = no_deadline;
  {
    const ordered_guard guard{self.lock_};
    if (is_parked(self.stage_)) {
      due = self.expires_ <= now;
      again = due ? now + expiry_retry : self.expires_;
    } else {
      // Whatever stage comes next expires later than this, or moves the timer.
      again = limit_from(now, self.core_->options.idle_timeout);
    }
    self.scheduled_ = again;
  }
  if (due) {
    start_fiber({.name = "http timeout"},
                [expired = ref_ptr<http_connection>::share(&self)] { expired->expire_if_due(); });
  }
  return again;
}

void http_connection::run() noexcept {
  stage before = stage::active;
  bool last_call = false;
  {
    const ordered_guard guard{lock_};
    before = stage_;
    stage_ = before == stage::lingering ? stage::active : stage::looking;
    last_call = std::exchange(last_call_, false);
  }
  if (before == stage::lingering) {
    discard(last_call);
  } else {
    run_exchange(before, last_call);
  }
}

void http_connection::run_exchange(stage before, bool last_call) noexcept {
  pooled<http_exchange> exchange;
  auto next = http_exchange::next::close;
  // What handlers and logs throw is caught closer to them; this is memory that could not be had.
  const auto thrown = call_caught([&] {
    exchange = core_->take_exchange();
    next = exchange->run(*this, !was_used_);
  });
  if (thrown) {
    report_panic(*thrown);
    static_cast<void>(unwatch());
    handling_ended();  // Before the exchange goes, which has the texts that in_flight() reads.
    static_cast<void>(exchange.release());  // Nobody knows what it is like now.
    return end();
  }
  if (next != http_exchange::next::nothing_came) was_used_ = true;
  exchange.reset();
  switch (next) {
    case http_exchange::next::nothing_came:
      if (last_call || core_->drained()) {
        if (core_->closing()) count_idle();
        return end();
      }
      return park(before, expires_);
    case http_exchange::next::idle:
      return park(stage::idle, limit_from(clock::now(), core_->options.idle_timeout));
    case http_exchange::next::linger:
      return linger();
    case http_exchange::next::close:
      return end();
  }
}

void http_connection::linger() noexcept {
  const clock::duration time = core_->options.linger;
  if (time <= clock::duration::zero() || !conn_.shutdown_write()) return end();
  park(stage::lingering, limit_from(clock::now(), time));
}

void http_connection::discard(bool last_call) noexcept {
  char dropped[4096];
  for (std::size_t total = 0; total < linger_bytes;) {
    const auto count = conn_.try_read(dropped);
    if (!count || *count == std::size_t{0}) return end();
    if (!*count) {
      if (last_call) return end();
      return park(stage::lingering, expires_);
    }
    total += **count;
  }
  // There may be more, so this starts again at once; only the clock ends who never ends.
  if (last_call || clock::now() >= expires_) return end();
  park(stage::lingering, expires_);
}

void http_connection::end() noexcept {
  something_came();  // Its end: whoever cuts it now has nothing to count.
  timer_node::stop();
  conn_.close();
  core_->remove(*this);
}

void http_connection::count_idle() noexcept {
  const ordered_guard guard{lock_};
  if (!std::exchange(counted_, true)) core_->count_idle();
}

void http_connection::cut() noexcept {
  {
    const ordered_guard guard{lock_};
    // One that is looked at for the last time would no longer find out that nothing came.
    const bool idle = stage_ == stage::fresh || stage_ == stage::idle || stage_ == stage::looking;
    if ((idle || half_head_) && !std::exchange(counted_, true)) {
      if (idle) core_->count_idle();
      if (half_head_) core_->count_half_head();
    }
  }
  conn_.close();
}

void http_connection::something_came() noexcept {
  const ordered_guard guard{lock_};
  stage_ = stage::active;
}

void http_connection::begins_to_wait_for_head() noexcept {
  const ordered_guard guard{lock_};
  half_head_ = true;
}

void http_connection::ended_to_wait_for_head(bool by_stop) noexcept {
  const ordered_guard guard{lock_};
  half_head_ = false;
  if (by_stop && !std::exchange(counted_, true)) core_->count_half_head();
}

void http_connection::handling_began(std::string_view method, std::string_view target,
                                     clock::time_point now) noexcept {
  const ordered_guard guard{lock_};
  stage_ = stage::handling;
  method_ = method;
  target_ = target;
  handling_since_ = now;
}

void http_connection::handling_ended() noexcept {
  const ordered_guard guard{lock_};
  stage_ = stage::active;
}

std::optional<std::string> http_connection::in_flight(clock::time_point now) const {
  std::string text;
  clock::duration since{};
  for (std::size_t size = 0;; text.reserve(size)) {
    // Memory is got without the lock; once more if there was too little.
    const ordered_guard guard{lock_};
    if (stage_ != stage::handling) return std::nullopt;
    size = method_.size() + 1 + target_.size();
    if (size > text.capacity()) continue;
    text.append(method_).append(" ").append(target_);
    since = now - handling_since_;
    break;
  }
  const auto tenths = std::max<clock::rep>(
                          std::chrono::duration_cast<std::chrono::milliseconds>(since).count(), 0) /
                      100;
  text.append(" from ").append(conn_.remote_address().to_string()).append(", ");
  text.append(std::to_string(tenths / 10)).append(".").append(std::to_string(tenths % 10));
  text.append(" s");
  return text;
}

void http_connection::watch(ref_ptr<cancel_node> node) {
  watching_ = true;
  {
    const ordered_guard guard{lock_};
    unwatched_ = watch_over_ = watch_saw_ = false;
  }
  conn_.when_readable([self = ref_ptr<http_connection>::share(this), node = std::move(node)] {
    self->watch_fired(node);
  });
}

void http_connection::watch_fired(const ref_ptr<cancel_node>& node) noexcept {
  const net::peer_state peer = net::look_at_peer(conn_.native_handle());
  if (peer.left) node->cancel(errc::canceled, error{errc::closed, "the client went away"});
  wakeup due;
  {
    const ordered_guard guard{lock_};
    watch_saw_ = watch_saw_ || peer.sent;
    if (!peer.left && !unwatched_) {
      // Under the lock, so that unwatch() finds this start if it does not find the end (I5).
      conn_.when_readable(
          [self = ref_ptr<http_connection>::share(this), node] { self->watch_fired(node); });
      return;
    }
    watch_over_ = true;
    waiter* const waiting = std::exchange(unwatching_, nullptr);
    if (waiting != nullptr && !waiting->claim(due)) due = {};
  }
  due.fire();
}

bool http_connection::unwatch() noexcept {
  if (!std::exchange(watching_, false)) return false;
  waiter self;
  ordered_guard guard{lock_};
  unwatched_ = true;
  if (conn_.cancel_when_readable()) return watch_saw_;
  if (!watch_over_) {
    unwatching_ = &self;
    detail::park(guard.release(), wait_reason::io_read, this);  // Woken by: watch_fired().
    race_acquire(&lock_);
  }
  return true;
}

}  // namespace exeunt::detail
