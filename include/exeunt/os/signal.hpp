// SPDX-License-Identifier: Apache-2.0
// Signals of the operating system as values: into channels, and as the end of a context.
//
// Signals are caught by a handler that only counts them, and delivered by a thread of their own:
// no application thread needs a mask for it, and no worker needs to be free. A signal goes to
// every subscription that asked for it. A child that was forked without exec has the handlers, but
// not the thread: it gets nothing, and a call from here that asks for signals ends it with a
// message.

#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>

#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/chan/chan.hpp>
#include <exeunt/context/context.hpp>

namespace exeunt::detail {
class signal_target;

/// Ends a subscription when it goes.
class EXEUNT_API signal_handle {
 public:
  explicit signal_handle(ref_ptr<signal_target> target) noexcept;
  signal_handle(signal_handle&& other) noexcept;
  signal_handle& operator=(signal_handle&& other) noexcept;
  ~signal_handle();

  void stop() noexcept;

 private:
  ref_ptr<signal_target> target_;
};
}  // namespace exeunt::detail

namespace exeunt::signal {

/// Numbers as in <csignal>. An empty list stands for every signal that may be caught: all but
/// SIGKILL, SIGSTOP, those that report a fault of the running code (SIGSEGV, SIGBUS, SIGFPE,
/// SIGILL, SIGTRAP, SIGSYS, SIGABRT), and the two that the C library keeps for itself.
using list = std::initializer_list<int>;

/// Signals to a channel, until stop() or the end of the scope.
class EXEUNT_API subscription {
 public:
  /// When it returns, no more values come into the channel, and signals that nobody else wants
  /// have the effect again that they had before somebody did: by default, ignored, or a handler of
  /// the application's. One that was on its way has been delivered, or takes that effect.
  /// Idempotent.
  ///
  /// SIGUSR1, SIGUSR2, SIGALRM and other signals that a program uses only by asking for them would
  /// end the process by default. They do not when they come late: they are dropped (reset() makes
  /// them deadly again). SIGHUP, SIGINT, SIGTERM and SIGQUIT are deadly again at once.
  ///
  /// Blocks: for one round of the delivering thread. Of several concurrent calls only the first
  ///         waits. Fibers and plain threads.
  void stop() noexcept { handle_.stop(); }

 private:
  friend EXEUNT_API subscription notify(const send_only<int>& to, list signals);
  explicit subscription(detail::signal_handle&& handle) noexcept : handle_{std::move(handle)} {}

  detail::signal_handle handle_;
};

/// Sends the number of each of `signals` that arrives to `to`. It never blocks: what finds no room
/// is dropped, so give the channel as much room as there are signals to expect; 1 is enough for
/// one that ends the program. Several subscriptions of one signal each get it. A closed channel
/// takes nothing more.
///
/// The kernel merges equal signals that are pending at once, up to number 31.
///
/// Throws:  panic_error for the nil channel, and for a signal that cannot be caught;
///          std::system_error if the system refuses the delivering thread.
/// Threads: any.
[[nodiscard]] EXEUNT_API subscription notify(const send_only<int>& to, list signals = {});

/// What another signal means once the first has ended the context.
enum class second : std::uint8_t {
  /// Nothing, as in Go: it is caught and dropped until stop() is called.
  ignore,
  /// What it would have done without notify_context: the second ^C kills.
  default_action,
  /// Prints what is in flight (the requests of servers, all fibers) and exits with 128 + its
  /// number, in 100 ms at most, even when all workers are stuck. A signal that arrives twice for
  /// one
  /// request to stop is no second one: the same number, before the first has ended the context, or
  /// from another sender within 20 ms (make and timeout pass on what the group has got already).
  exit_with_report,
};

struct notify_options {
  signal::second second = signal::second::ignore;
};

/// Ends the context of notify_context(), as a plain cancel, and its subscription. It does so at
/// the latest when it goes out of scope.
class EXEUNT_API stop_func {
 public:
  stop_func(stop_func&&) noexcept = default;
  stop_func& operator=(stop_func&&) noexcept = default;
  ~stop_func() = default;

  /// As subscription::stop(). Idempotent.
  void operator()() noexcept { handle_.stop(); }

 private:
  friend EXEUNT_API cancelable_context<stop_func> notify_context(const context& parent,
                                                                 list signals,
                                                                 notify_options options);
  explicit stop_func(detail::signal_handle&& handle) noexcept : handle_{std::move(handle)} {}

  detail::signal_handle handle_;
};

/// A context that also ends at the first of `signals`. Its error is errc::canceled, its cause
/// names the signal: "SIGTERM received", and cause(ctx)->signal() is the number.
///
/// `auto [ctx, stop] = notify_context(context::background(), {SIGINT, SIGTERM});`
///
/// Throws, Threads: as notify().
[[nodiscard]] EXEUNT_API cancelable_context<stop_func> notify_context(const context& parent,
                                                                      list signals,
                                                                      notify_options options = {});

/// Ends all subscriptions of `signals` and ignores them from now on; all that can be, if none are
/// named. Subscriptions of other signals, also of the same channels, go on.
///
/// Blocks:  for one round of the delivering thread.
/// Throws:  panic_error for a signal that cannot be caught; std::system_error if the system refuses
///          the delivering thread.
/// Threads: any, fibers and plain ones.
EXEUNT_API void ignore(list signals = {});

/// Ends all subscriptions of `signals` and gives them the effect they had when this library first
/// touched them: what the program was started with, or a handler that it had set itself by then.
///
/// Blocks, Throws, Threads: as ignore().
EXEUNT_API void reset(list signals = {});

/// Whether the process ignores the signal now: by ignore(), or because it was started so and
/// nobody subscribes to it.
[[nodiscard]] EXEUNT_API bool ignored(int signal_number) noexcept;

/// While one lives, SIGQUIT (^\) prints every fiber and ends the process with status 2. If somebody
/// subscribes to SIGQUIT, he gets it instead; if there was a handler before, it is called after
/// the dump, and decides. For main programs.
///
/// Threads: any. Several may live at once.
class EXEUNT_API quit_dumps {
 public:
  /// Throws: std::system_error if the system refuses the delivering thread.
  [[nodiscard]] quit_dumps();
  ~quit_dumps();
  quit_dumps(const quit_dumps&) = delete;
  quit_dumps& operator=(const quit_dumps&) = delete;
};

}  // namespace exeunt::signal

namespace exeunt::detail {

/// Something that can say what is in flight when the process is made to exit.
class EXEUNT_API exit_reporter {
 public:
  /// `describe` returns whole lines, or nothing. It is called at most once, by a thread of its own
  /// while all else goes on; it should not wait, as what comes after 80 ms is not printed.
  [[nodiscard]] explicit exit_reporter(unique_function<std::string()> describe);
  /// Waits for a running `describe` to return.
  ~exit_reporter();
  exit_reporter(const exit_reporter&) = delete;
  exit_reporter& operator=(const exit_reporter&) = delete;

 private:
  struct entry;
  ref_ptr<entry> entry_;
  friend struct exit_reporters;
};

}  // namespace exeunt::detail
