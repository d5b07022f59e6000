// SPDX-License-Identifier: Apache-2.0
// Timers, tickers and delayed calls: a node in the runtime's timers and what its firing feeds.
//
// A *tick source* is a channel's companion: it lives as long as the channel, in one block with it,
// and posts into its one slot. A *delayed call* is shared by its timer and by the fibers that run
// it.
//
// Invariants, whenever lock_ is free:
//   I1  A node that is not started, and whose channel is empty, has nothing to deliver.
//   I2  What is in the channel was posted after the last stop() or reset() of its source: both stop
//       the node first, which waits for a running post, and then discard.
//   I3  period_ and due_ are written only while the node is stopped, or by its firing.
// Locks: a source's lock_, then the timers' lock, then the channel's. The firing runs under the
//   timers' lock and takes the channel's, never lock_.
// Wake-ups: a post wakes a receiver, who may drop the last handle: end() then waits for the timers'
//   lock in stop() before the memory goes.
// Tests: tests/time/timer_test.cpp (I1, I2), ticker_test.cpp, timer_stress_test.cpp (I2, I3).

#include <exeunt/time/timer.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/error.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/timer_node.hpp>

namespace exeunt {

namespace detail {

namespace {

// A timer that is never due in practice is still running, and is started like any other.
constexpr clock::time_point latest = no_deadline - clock::duration{1};

void check_period(clock::duration period) {
  if (period <= clock::duration::zero()) throw panic_error{"a ticker's period must be positive"};
}

}  // namespace

class tick_source final : public chan_companion, public timer_node {
 public:
  using channel = recv_only<clock::time_point>;

  tick_source() noexcept
      : chan_companion{.end = &tick_source::on_end, .free = &tick_source::on_free},
        timer_node{&tick_source::on_fire} {}

  /// A channel that is fed at `due` and, if `period` is not zero, again and again.
  static channel make(clock::time_point due, clock::duration period) {
    auto source = std::make_unique<tick_source>();
    auto core = chan_core::make_in<clock::time_point>(source->memory_, *source);
    source->fed_ = core.get();
    source.release()->begin(due, period);
    return handle_access::make<channel>(std::move(core));
  }

  /// Null for the nil channel.
  static tick_source* of(const channel& fed) noexcept {
    chan_core* const core = handle_access::core(fed);
    return core == nullptr ? nullptr : static_cast<tick_source*>(core->companion());
  }

  /// Returns: whether something was prevented.
  bool stop() noexcept {
    const spin_guard guard{lock_};
    return halt();
  }

  bool restart(clock::time_point due, clock::duration period) noexcept {
    const spin_guard guard{lock_};
    const bool was_active = halt();
    begin(due, period);
    return was_active;
  }

 private:
  void begin(clock::time_point due, clock::duration period) noexcept {
    due_ = std::min(due, latest);
    period_ = period;
    race_release(this);
    timer_node::start(due_);
  }

  bool halt() noexcept {
    const bool was_started = timer_node::stop();
    const bool was_due = fed_->discard();
    return was_started || was_due;
  }

  // Under the timers' lock.
  static clock::time_point on_fire(timer_node& node, clock::time_point now) noexcept {
    auto& self = static_cast<tick_source&>(node);
    race_acquire(&self);
    clock::time_point value = self.due_;
    // Full: the reader is slow, and loses this tick.
    static_cast<void>(self.fed_->try_send(&value));
    race_release(&self.fed_);
    if (self.period_ == clock::duration::zero()) return no_deadline;
    const auto periods = (now - self.due_) / self.period_ + 1;
    // The next multiple that is not past, unless time itself ends before.
    self.due_ =
        periods > (latest - self.due_) / self.period_ ? latest : self.due_ + periods * self.period_;
    return self.due_;
  }

  static void on_end(chan_companion& companion) noexcept {
    auto* const self = static_cast<tick_source*>(&companion);
    self->timer_node::stop();
    race_acquire(&self->fed_);  // A post comes before the end of the channel's memory.
  }
  static void on_free(chan_companion& companion) noexcept {
    delete static_cast<tick_source*>(&companion);
  }

  spin_lock lock_;
  chan_core* fed_ = nullptr;  // In memory_.
  clock::time_point due_{};
  clock::duration period_{};  // Zero: once.
  alignas(chan_core) std::byte memory_[chan_core::bytes_for_one<clock::time_point>()];
};

class delayed_call final : public ref_counted, public timer_node {
 public:
  static timer make(clock::duration d, unique_function<void()> f, std::source_location where) {
    auto call = ref_ptr<delayed_call>::adopt(new delayed_call{std::move(f), where});
    call->restart(d);
    return timer{std::move(call)};
  }

  bool stop() noexcept {
    const spin_guard guard{lock_};
    return timer_node::stop();
  }

  bool restart(clock::duration d) noexcept {
    const clock::time_point due = std::min(deadline_after(d), latest);
    const spin_guard guard{lock_};
    race_release(this);
    return timer_node::start(due);
  }

  void release() const noexcept {
    if (drop()) delete this;
  }

 private:
  delayed_call(unique_function<void()> f, std::source_location where)
      : timer_node{&delayed_call::on_fire}, f_{std::move(f)}, where_{where} {}

  // Under the timers' lock, whose rank is below those of the run queues.
  static clock::time_point on_fire(timer_node& node, clock::time_point) noexcept {
    auto& self = static_cast<delayed_call&>(node);
    start_fiber({.started_at = self.where_}, [call = ref_ptr<delayed_call>::share(&self)] {
      race_acquire(call.get());
      call->f_();
    });
    return no_deadline;
  }

  spin_lock lock_;
  unique_function<void()> f_;
  const std::source_location where_;
};

timer call_after(clock::duration d, unique_function<void()> f, std::source_location where) {
  return delayed_call::make(d, std::move(f), where);
}

}  // namespace detail

using detail::tick_source;

timer::timer(clock::duration d)
    : channel_{tick_source::make(deadline_after(d), clock::duration::zero())} {}

timer::timer(detail::ref_ptr<detail::delayed_call> call) noexcept
    : channel_{nullptr}, call_{std::move(call)} {}

timer::timer(timer&& other) noexcept
    : channel_{std::exchange(other.channel_, nullptr)}, call_{std::move(other.call_)} {}

timer& timer::operator=(timer&& other) noexcept {
  if (this != &other) {
    timer gone{std::move(*this)};
    channel_ = std::exchange(other.channel_, nullptr);
    call_ = std::move(other.call_);
  }
  return *this;
}

timer::~timer() {
  if (call_ || channel_) stop();
}

bool timer::stop() noexcept {
  detail::step("timer stop", this);
  if (call_) return call_->stop();
  EXEUNT_ASSERT(channel_, "stop of a timer that was moved from");
  return tick_source::of(channel_)->stop();
}

bool timer::reset(clock::duration d) noexcept {
  detail::step("timer reset", this);
  if (call_) return call_->restart(d);
  EXEUNT_ASSERT(channel_, "reset of a timer that was moved from");
  return tick_source::of(channel_)->restart(deadline_after(d), clock::duration::zero());
}

recv_only<clock::time_point> after(clock::duration d) {
  return tick_source::make(deadline_after(d), clock::duration::zero());
}

ticker::ticker(clock::duration period)
    : channel_{(detail::check_period(period), tick_source::make(deadline_after(period), period))} {}

ticker::ticker(ticker&& other) noexcept : channel_{std::exchange(other.channel_, nullptr)} {}

ticker& ticker::operator=(ticker&& other) noexcept {
  if (this != &other) {
    ticker gone{std::move(*this)};
    channel_ = std::exchange(other.channel_, nullptr);
  }
  return *this;
}

ticker::~ticker() { stop(); }

void ticker::stop() noexcept {
  // One that was moved from has nothing to stop, like Go's zero Ticker.
  detail::step("ticker stop", this);
  if (tick_source* const source = tick_source::of(channel_)) source->stop();
}

void ticker::reset(clock::duration period) {
  detail::check_period(period);
  detail::step("ticker reset", this);
  EXEUNT_ASSERT(channel_, "reset of a ticker that was moved from");
  tick_source::of(channel_)->restart(deadline_after(period), period);
}

}  // namespace exeunt
