// SPDX-License-Identifier: Apache-2.0
// Schedules, one after the other, until one fails; then another that fails in the same way with as
// few preemptions as will do, and after that without each choice that can be left out.
// Tests: tests/sim/explore_test.cpp, planted/planted_test.cpp, covered_test.cpp.

#include <exeunt/sim/explore.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "sched/current.hpp"
#include "sim/choices.hpp"
#include "sim/environment.hpp"
#include "sim/world.hpp"

namespace exeunt::sim {

namespace {

constexpr const char* replay_variable = "EXEUNT_SIM_REPLAY";
// A failing schedule abandons its fibers, so that each try keeps some memory for good.
constexpr int shrinking_tries_max = 200;
// Those that do not fail cost microseconds.
constexpr int shrinking_schedules_max = 50'000;

class exploration {
 public:
  exploration(const explore_options& options, function_ref<void()> f, std::source_location where)
      : options_{options}, f_{f}, where_{where} {
    if (options_.verdict) static_cast<void>(options_.verdict());
  }

  explored run() {
    if (const auto wanted = replay_of_this()) return replay(*wanted);
    std::uint64_t planned = 0;
    bool covered = false;
    const auto plan = [&] {
      if (planned == options_.schedules) return false;
      if (options_.exhaustive) {
        covered = !choices_.plan_next(options_.preemptions);
        if (covered) return false;
      } else {
        choices_.plan_random(options_.seed + planned, options_.preemptions);
      }
      ++planned;
      return true;
    };
    explored sum;
    const auto done = [&] {
      ++sum.schedules;
      sum.longest = std::max<std::uint64_t>(sum.longest, choices_.made().size());
      if (choices_.divergent()) return false;
      return plan();
    };
    for (bool more = plan(); more;) {
      world inside{choices_, {.checks_bytes = options_.check_bytes, .started_at = where_}};
      inside.run(f_, [this] { return verdict(); }, done);
      if (choices_.divergent()) throw_divergent();
      if (inside.failed()) report(*inside.failed(), planned - 1);
      more = inside.has_to_go_on();
    }
    sum.covered = covered;
    return sum;
  }

 private:
  std::string verdict() const { return options_.verdict ? options_.verdict() : std::string{}; }

  // Runs one schedule; its choices are in choices_ then.
  std::optional<outcome> run_once(std::vector<std::uint32_t> wanted, std::string* trace) {
    choices_.plan_replay(std::move(wanted));
    world inside{
        choices_,
        {.traced = trace != nullptr, .checks_bytes = options_.check_bytes, .started_at = where_}};
    inside.run(f_, [this] { return verdict(); }, [] { return false; });
    if (trace != nullptr) *trace = inside.trace();
    return inside.failed();
  }

  [[nodiscard]] std::optional<std::vector<std::uint32_t>> replay_of_this() const {
    const char* const set = std::getenv(replay_variable);
    if (set == nullptr) return std::nullopt;
    const std::string_view text = set;
    const auto split = text.rfind('=');
    if (split == text.npos) {
      throw std::invalid_argument{std::string{replay_variable} + " is '" + set +
                                  "', not <name>=<choices>"};
    }
    if (text.substr(0, split) != options_.name) return std::nullopt;
    return parse_choices(text.substr(split + 1));
  }

  explored replay(const std::vector<std::uint32_t>& wanted) {
    std::string trace;
    const auto failed = run_once(wanted, &trace);
    if (failed) {
      throw failure{failed->why, "\"" + options_.name + "\" failed in the replay: " + failed->text +
                                     "\nwhat happened:\n" + trace};
    }
    return {.schedules = 1, .covered = false, .longest = choices_.made().size()};
  }

  [[noreturn]] void throw_divergent() const {
    throw failure{failure::reason::divergent,
                  "\"" + options_.name +
                      "\" did not do the same under the same schedule: it depends on time, chance, "
                      "addresses, or on what an earlier schedule has left"};
  }

  [[noreturn]] void report(const outcome& first, std::uint64_t index) {
    const auto found = choices_.made();
    const unsigned preemptions_before = choices_.preemptions();
    shrink(first.why, found);
    std::string trace;
    std::optional<outcome> last = run_once(taken_of(smallest_), &trace);
    if (!last) {
      // It failed with these very choices before.
      throw_divergent();
    }
    throw failure{
        last->why,
        "\"" + options_.name + "\" failed in schedule " + std::to_string(index + 1) +
            (options_.exhaustive ? std::string{}
                                 : " (seed " + std::to_string(options_.seed + index) + ")") +
            ": " + last->text + (last->text.ends_with('\n') ? "" : "\n") + "with " +
            times(choices_.preemptions()) + " (found with " + std::to_string(preemptions_before) +
            "), this happened:\n" + trace + "run just this again by\n  " + replay_variable + "=" +
            detail::quoted_for_shell(options_.name + "=" + to_text(smallest_)) + " " + command() +
            "\n"};
  }

  // Leaves the fewest preemptions found in smallest_, and zeros where others do as well. First all
  // schedules with none are tried, then with one, and so on, as far as that goes.
  void shrink(failure::reason why, const std::vector<choice>& found) {
    smallest_ = found;
    for (std::size_t budget = 0; budget < cost(smallest_).first; ++budget) {
      if (find_with(static_cast<unsigned>(budget), why)) break;
    }
    int tries = 0;
    for (const bool only_preemptions : {true, false}) {
      for (std::size_t i = smallest_.size(); i-- > 0 && tries < shrinking_tries_max;) {
        if (i >= smallest_.size() || smallest_[i].taken == 0) continue;
        if (only_preemptions != (smallest_[i].what == choice_of::preemption)) continue;
        std::vector<std::uint32_t> shorter = taken_of(smallest_);
        shorter[i] = 0;
        ++tries;
        const auto failed = run_once(std::move(shorter), nullptr);
        if (failed && failed->why == why && cost(choices_.made()) < cost(smallest_)) {
          smallest_ = choices_.made();
        }
      }
    }
  }

  bool find_with(unsigned preemptions, failure::reason why) {
    choices_.recount();
    int left = shrinking_schedules_max;
    const auto plan = [&] { return left-- > 0 && choices_.plan_next(preemptions); };
    const auto again = [&] { return !choices_.divergent() && plan(); };
    for (bool more = plan(); more;) {
      world inside{choices_, {.checks_bytes = options_.check_bytes, .started_at = where_}};
      inside.run(f_, [this] { return verdict(); }, again);
      if (inside.failed()) {
        if (inside.failed()->why != why) return false;
        smallest_ = choices_.made();
        return true;
      }
      more = inside.has_to_go_on();
    }
    return false;
  }

  static std::string times(unsigned preemptions) {
    return std::to_string(preemptions) + (preemptions == 1 ? " preemption" : " preemptions");
  }

  // Preemptions first, then whatever is not the default.
  static std::pair<std::size_t, std::size_t> cost(const std::vector<choice>& made) {
    std::pair<std::size_t, std::size_t> sum{0, 0};
    for (const choice& one : made) {
      if (one.taken == 0) continue;
      ++(one.what == choice_of::preemption ? sum.first : sum.second);
    }
    return sum;
  }

  static std::vector<std::uint32_t> taken_of(const std::vector<choice>& made) {
    std::vector<std::uint32_t> taken;
    taken.reserve(made.size());
    for (const choice& one : made) taken.push_back(one.taken);
    return taken;
  }

  [[nodiscard]] std::string command() const {
    return options_.command.empty() ? detail::quoted_for_shell(program_invocation_name)
                                    : options_.command;
  }

  const explore_options options_;
  const function_ref<void()> f_;
  const std::source_location where_;
  choices choices_;
  std::vector<choice> smallest_;
};

}  // namespace

}  // namespace exeunt::sim

namespace exeunt::detail {

sim::explored run_exploration(const sim::explore_options& options, function_ref<void()> f,
                              std::source_location where) {
  if (sched::this_fiber_block() != nullptr) {
    throw std::logic_error{
        "an exploration cannot be begun by a fiber: its world is another thread"};
  }
  if (options.check_bytes && !sim::bytes_are_counted()) {
    throw std::logic_error{
        "check_bytes needs EXEUNT_SIM_COUNT_BYTES in a source file of the program"};
  }
  return sim::exploration{sim::as_environment_has_it(options), f, where}.run();
}

}  // namespace exeunt::detail
