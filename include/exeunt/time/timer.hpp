// SPDX-License-Identifier: Apache-2.0
// Events of time as channels: once, again and again, or as a call.
//
// The channels look unbuffered: their size() and capacity() are 0. A value that has become due is
// kept for the next receiver, one at most; it is the moment at which it was due, however late it
// is read. These are Go's rules since 1.23: nothing need ever be drained.

#pragma once

#include <source_location>
#include <type_traits>
#include <utility>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/chan/chan.hpp>

namespace exeunt {

namespace detail {
class tick_source;
class delayed_call;
}  // namespace detail

/// Something that is due once, at a time that can be changed.
///
/// It belongs to the runtime it was made in, or to the default one. The last copy of its channel
/// may outlive it, and then gets nothing more: destroying a timer stops it. Not copyable.
///
/// Threads:  stop() and reset() may be called concurrently. Moving and destroying are the owner's.
/// Ordering: what came before the timer was set is visible to who receives its value, or in the
///           function that it calls.
/// Cost:     one allocation; stop() and reset() are O(log n) in the number of pending timers.
class EXEUNT_API timer {
 public:
  /// Sends the time on channel() once `d` has passed; for d <= 0, at once.
  /// Throws:  std::bad_alloc.
  /// Asserts: that the default runtime can be started, if it is needed and was not.
  [[nodiscard]] explicit timer(clock::duration d);

  timer(timer&& other) noexcept;
  /// Stops the timer that this one was.
  timer& operator=(timer&& other) noexcept;
  /// stop().
  ~timer();

  /// Where the time is sent. The nil channel for a timer made by after_func().
  [[nodiscard]] const recv_only<clock::time_point>& channel() const noexcept { return channel_; }

  /// Prevents what has not happened yet. After it returns nothing of this timer is received.
  ///
  /// Returns: true if the timer was running, or was due with its value not received; that is then
  ///          gone. false if the value was received, the call has started (it is not waited for),
  ///          or the timer was stopped before.
  /// Asserts: the timer was not moved from; so also reset().
  bool stop() noexcept;

  /// Sets it to `d` from now, whatever it was. After it returns, no value of the earlier setting is
  /// received; an earlier call may still be running beside the new one.
  ///
  /// Returns: as stop().
  bool reset(clock::duration d) noexcept;

 private:
  friend class detail::delayed_call;
  explicit timer(detail::ref_ptr<detail::delayed_call> call) noexcept;

  recv_only<clock::time_point> channel_;
  detail::ref_ptr<detail::delayed_call> call_;  // Null unless made by after_func().
};

/// Sends the time once, `d` from now.
///
/// In a select, `on_recv(after(2s), …)` needs no care: when the last copy of the channel is gone,
/// so is its timer. select's own after() case needs no channel at all.
///
/// Throws: as timer.
[[nodiscard]] EXEUNT_API recv_only<clock::time_point> after(clock::duration d);

namespace detail {
[[nodiscard]] EXEUNT_API timer call_after(clock::duration d, unique_function<void()> f,
                                          std::source_location where);
}  // namespace detail

/// Calls `f()` in a fiber of its own, `d` from now. An exception of it is treated as go() does.
///
/// The call is tied to the returned timer: destroying it before then stops it, so keep it.
/// reset() makes f be called again; two calls may then overlap.
template <typename F>
  requires std::is_invocable_v<std::decay_t<F>&>
[[nodiscard]] timer after_func(clock::duration d, F&& f,
                               std::source_location where = std::source_location::current()) {
  return detail::call_after(
      d, [f = std::decay_t<F>(std::forward<F>(f))]() mutable { static_cast<void>(f()); }, where);
}

/// Sends the time again and again, with a fixed period. Who reads too slowly loses ticks; the
/// period does not drift.
///
/// Destroying it stops it; the channel is never closed. Otherwise as timer.
class EXEUNT_API ticker {
 public:
  /// Throws: panic_error if `period` <= 0.
  [[nodiscard]] explicit ticker(clock::duration period);

  ticker(ticker&& other) noexcept;
  ticker& operator=(ticker&& other) noexcept;
  /// stop().
  ~ticker();

  [[nodiscard]] const recv_only<clock::time_point>& channel() const noexcept { return channel_; }

  /// After it returns no tick is received, until reset().
  void stop() noexcept;
  /// Stops, and ticks with `period` from now on. Throws: as the constructor; it ticks on then.
  void reset(clock::duration period);

 private:
  recv_only<clock::time_point> channel_;
};

}  // namespace exeunt
