// SPDX-License-Identifier: Apache-2.0
// A world of its own for a test: fibers on one thread, and a clock that nobody waits for.
//
//   sim::bubble([] {
//     auto ended = with_timeout(context::background(), 1h);
//     ended.ctx.wait();                      // no time passes outside
//     assert(clock::now() == sim::epoch + 1h);
//   });
//
// What runs inside is the library itself, not stand-ins: its scheduler asks the simulation for the
// time, for random numbers, and whose turn it is.

#pragma once

#include <chrono>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>

namespace exeunt::detail {
EXEUNT_API void run_bubble(function_ref<void()> f, std::source_location where);
}

namespace exeunt::sim {

/// The time at which each simulation begins: 2000-01-01 00:00 UTC, as in Go's testing/synctest. In
/// a simulation clock::now() counts from 1970, and unix_time() is the same.
inline constexpr clock::time_point epoch{std::chrono::seconds{946'684'800}};

/// What went wrong in a simulation. what() is the whole report.
class EXEUNT_API failure : public std::runtime_error {
 public:
  enum class reason {
    deadlock,   ///< all wait, and neither a timer nor anybody else can end it
    left,       ///< the function has returned, and left something: fibers that wait for good,
                ///< sockets that are open, timers that are pending, memory if asked for
    exception,  ///< one escaped from a fiber
    check,      ///< check() failed, or what the caller judges by
    divergent,  ///< the same choices led to something else: something is not simulated
    foreign,    ///< a channel was used that was made outside
    endless,    ///< it went on and on
  };

  failure(reason why, const std::string& report) : std::runtime_error{report}, reason_{why} {}
  [[nodiscard]] reason why() const noexcept { return reason_; }

 private:
  reason reason_;
};

/// Runs `f`, and all that it starts, in a simulation: one fiber at a time, with virtual time. Time
/// stands still while any of them can run. When all wait, it moves to the next timer at once.
///
/// Blocks:  the calling thread, until `f` has returned and all fibers that it started have ended.
/// Throws:  what `f` throws; failure if all wait for good, with a dump of who waits for what, if an
///          exception escapes from a fiber, if fibers, sockets or timers are left, or after ten
///          million turns without time moving on. The first failure ends the simulation at the next
///          call of the library: nobody runs after that, and nobody's frames are unwound.
/// Inside:  fibers, channels, locks, timers, contexts and groups do as always. blocking(f) calls f.
///          There are no descriptors but those of a sim::network, and no other threads. To use a
///          channel inside that was made outside is a failure; to use one outside that was made
///          inside, or to wake a fiber inside from outside by other means, or the reverse, ends the
///          process with a message.
/// Threads: any but a fiber's. Several bubbles may run at once, on several threads.
/// Cost:    two threads' start, some 100 us.
/// `where` is the place that a failure has the fiber of `f` started at.
template <typename F>
void bubble(F&& f, std::source_location where = std::source_location::current()) {
  exeunt::detail::run_bubble([&f] { std::forward<F>(f)(); }, where);
}

/// Whether the caller is a fiber of a simulation.
[[nodiscard]] EXEUNT_API bool inside() noexcept;

/// Waits until all other fibers of the simulation wait, and none for a settle(). Time does not move
/// meanwhile: what they did by now is done, and what they wait for is yet to come. As Go's
/// synctest.Wait.
/// Throws: std::logic_error outside of a simulation.
EXEUNT_API void settle();

/// sleep(d), then settle(): what is due by then has happened.
/// Throws: as settle().
EXEUNT_API void advance(clock::duration d);

/// The simulation's time; clock::now() is the same.
[[nodiscard]] inline clock::time_point now() noexcept { return clock::now(); }

/// Ends the simulation with a failure that says `what` if `holds` is false. For those who have no
/// test library; any exception that leaves a fiber does the same.
/// Throws: failure.
EXEUNT_API void check(bool holds, std::string_view what);

}  // namespace exeunt::sim
