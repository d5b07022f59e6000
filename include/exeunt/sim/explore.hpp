// SPDX-License-Identifier: Apache-2.0
// Runs a small concurrent program under many schedules, until one fails.
//
//   sim::explore({.name = "transfer"}, [] {
//     chan<int> c;
//     go([=] { c.send(1); });
//     sim::check(c.recv() == 1, "the value arrives");
//   });
//
// A schedule is a list of choices: who runs next when a fiber waits or ends, whether another one
// runs before a call of this library, and what select() picks. The same choices give the same run,
// on any machine.

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>

#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>
#include <exeunt/sim/bubble.hpp>

namespace exeunt::sim {

struct explore_options {
  /// For the report, and for replays: EXEUNT_SIM_REPLAY='<name>=<choices>' runs those alone.
  std::string name = "simulation";
  /// At most so many. An exhaustive exploration that needs more says that it has not covered all.
  std::uint64_t schedules = 1'000;
  /// Of random schedules. The same seed gives the same ones.
  std::uint64_t seed = 1;
  /// So often at most, in one schedule, a fiber that could go on gives way to another. Most bugs
  /// need one or two (Musuvathi and Qadeer, PLDI 2007). Empty: 3; exhaustive: without a bound.
  std::optional<unsigned> preemptions{};
  /// All schedules, one after the other, instead of random ones. How many there are grows with the
  /// number of calls, to the power of the preemptions.
  bool exhaustive = false;
  /// A schedule that leaves memory of operator new behind has failed, too (failure::reason::left).
  /// What it leaves only once may be a cache; so it is run again some times, and must leave memory
  /// each time. Not for a function that keeps something from one schedule to the next. Needs
  /// EXEUNT_SIM_COUNT_BYTES; see sim/bytes.hpp.
  bool check_bytes = false;
  /// A schedule that takes more turns and calls of this library than that has failed
  /// (failure::reason::endless).
  std::uint64_t turns = 1'000'000;
  /// Called after each schedule, and before the first. What it returns, if not empty, is why the
  /// schedule has failed: for test libraries that note failures down.
  std::function<std::string()> verdict = {};
  /// How the report says that this program is to be called for a replay; empty: by its path.
  std::string command = {};
};

/// What an exploration has seen.
struct explored {
  std::uint64_t schedules = 0;  ///< that were run
  bool covered = false;         ///< exhaustive, and with at most so many preemptions no more exist
  std::uint64_t longest = 0;    ///< choices of the longest one
  bool replayed = false;        ///< only what EXEUNT_SIM_REPLAY says
};

}  // namespace exeunt::sim

namespace exeunt::detail {
EXEUNT_API sim::explored run_exploration(const sim::explore_options& options,
                                         function_ref<void()> f, std::source_location where);
/// As one word of a command line.
[[nodiscard]] EXEUNT_API std::string quoted_for_shell(std::string_view word);
}  // namespace exeunt::detail

namespace exeunt::sim {

/// Runs `f` again and again, each time as bubble() does, under another schedule. It must do the
/// same each time but for the schedule: no state kept from one time to the next, no time or chance
/// but the library's. An exhaustive exploration meets each prefix again and notices if it does not;
/// of random schedules the first is run twice, and then every fiftieth.
///
/// Returns: how much was explored, if no schedule failed.
/// Throws:  failure, once one has. The report has what happened, the schedule with as few
///          preemptions as were found to suffice for the same, event by event, and the command that
///          runs just that one again. What is numbered there (`mutex 2`) are addresses, in the
///          order of their first use: what is made where another thing has been has its number.
///          std::invalid_argument for a variable of the environment that cannot be read;
///          std::logic_error for `check_bytes` if nobody counts them.
/// Replay:  if the environment's EXEUNT_SIM_REPLAY names this exploration, only those choices run.
///          A program in which it has named none says so at its end; one that no longer has these
///          choices to make is a failure (failure::reason::divergent). A replay that does not fail
///          writes what happened to standard error.
/// Further: EXEUNT_SIM_SCHEDULES=<number> has so many random schedules tried, whatever the options
///          say, and raises the limit of an exhaustive exploration that has a lower one;
///          EXEUNT_SIM_SEED=<number> has other ones tried.
/// Threads: any but a fiber's.
/// Cost:    some microseconds a schedule, beside what `f` does.
/// `where` is the place that a report has the fiber of `f` started at.
template <typename F>
explored explore(const explore_options& options, F&& f,
                 std::source_location where = std::source_location::current()) {
  return exeunt::detail::run_exploration(options, [&f] { f(); }, where);
}

}  // namespace exeunt::sim
