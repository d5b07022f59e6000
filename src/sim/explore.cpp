// SPDX-License-Identifier: Apache-2.0
// Schedules, one after the other, until one fails; then another that fails in the same way with as
// few preemptions as will do, and after that without each choice that can be left out.
// Tests: tests/sim/explore_test.cpp, planted/planted_test.cpp, covered_test.cpp.

#include <exeunt/sim/explore.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <limits>
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

// Random schedules that are run twice: one of so many.
constexpr std::uint64_t compared_every = 50;

// Says at the program's end that the replay it was asked for was of nothing that it explored.
struct unmatched_replay {
  static inline bool matched = false;
  ~unmatched_replay() {
    if (matched) return;
    std::fprintf(stderr, "exeunt: %s named no exploration that was run\n", replay_variable);
  }
};

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
        covered = !choices_.plan_next(preemptions());
        if (covered) return false;
      } else {
        choices_.plan_random(options_.seed, planned, preemptions());
      }
      ++planned;
      return true;
    };
    explored sum;
    std::optional<std::vector<choice>> twice;  // Of the schedule that is run again.
    bool differs = false;
    const auto done = [&] {
      if (choices_.divergent()) return false;
      if (twice) {
        differs = choices_.made() != *twice;
        twice.reset();
        return !differs && plan();
      }
      ++sum.schedules;
      sum.longest = std::max<std::uint64_t>(sum.longest, choices_.made().size());
      if (!options_.exhaustive && planned % compared_every == 1) {
        twice = choices_.made();
        choices_.plan_replay(taken_of(*twice));
        return true;
      }
      return plan();
    };
    for (bool more = plan(); more;) {
      const world::owner inside = new_world(false);
      inside->run(f_, [this] { return verdict(); }, done);
      if (differs || choices_.divergent()) throw_divergent();
      if (inside->failed()) {
        if (twice) throw_divergent("when run again: " + inside->failed()->text);
        report(*inside->failed(), planned);
      }
      more = inside->has_to_go_on();
    }
    sum.covered = covered;
    return sum;
  }

 private:
  [[nodiscard]] unsigned preemptions() const {
    constexpr unsigned usual = 3;
    constexpr unsigned unbounded = std::numeric_limits<unsigned>::max();
    return options_.preemptions.value_or(options_.exhaustive ? unbounded : usual);
  }

  [[nodiscard]] world::owner new_world(bool traced) {
    return world::make(choices_, {.traced = traced,
                                  .checks_bytes = options_.check_bytes,
                                  .turns = options_.turns,
                                  .started_at = where_});
  }

  std::string verdict() const { return options_.verdict ? options_.verdict() : std::string{}; }

  // Runs one schedule; its choices are in choices_ then.
  std::optional<outcome> run_once(std::vector<std::uint32_t> wanted, std::string* trace) {
    choices_.plan_replay(std::move(wanted));
    const world::owner inside = new_world(trace != nullptr);
    inside->run(f_, [this] { return verdict(); }, [] { return false; });
    if (trace != nullptr) *trace = inside->trace();
    return inside->failed();
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
    static const unmatched_replay reminder;
    if (text.substr(0, split) != options_.name) return std::nullopt;
    unmatched_replay::matched = true;
    return parse_choices(text.substr(split + 1));
  }

  explored replay(const std::vector<std::uint32_t>& wanted) {
    std::string trace;
    const auto failed = run_once(wanted, &trace);
    const std::string misfit = choices_.misfit();
    if (failed) {
      throw failure{failed->why,
                    "\"" + options_.name + "\" failed in the replay: " + failed->text +
                        (misfit.empty() ? "" : "\nthough the replay does not fit: " + misfit) +
                        "\nwhat happened:\n" + trace};
    }
    if (!misfit.empty()) {
      throw failure{failure::reason::divergent,
                    "\"" + options_.name +
                        "\" does not fail in the replay, which does not fit it: " + misfit +
                        "\nwhat happened:\n" + trace};
    }
    std::fprintf(stderr, "\"%s\" does not fail in the replay; what happened:\n%s",
                 options_.name.c_str(), trace.c_str());
    return {.schedules = 1, .longest = choices_.made().size(), .replayed = true};
  }

  [[noreturn]] void throw_divergent(const std::string& besides = {}) const {
    throw failure{failure::reason::divergent,
                  "\"" + options_.name +
                      "\" did not do the same under the same schedule: it depends on time, chance, "
                      "addresses, or on what an earlier schedule has left" +
                      (besides.empty() ? "" : "; it failed, " + besides)};
  }

  // `number`: of the schedule, from 1.
  [[noreturn]] void report(const outcome& first, std::uint64_t number) {
    const auto found = choices_.made();
    const unsigned preemptions_before = choices_.preemptions();
    const std::string where =
        "in schedule " + std::to_string(number) +
        (options_.exhaustive ? std::string{} : " of seed " + std::to_string(options_.seed));
    shrink(first, found);
    std::string trace;
    std::optional<outcome> last = run_once(taken_of(smallest_), &trace);
    // It failed with these very choices before.
    if (!last || !is_the_same(*last, first)) throw_divergent(where + ": " + first.text);
    throw failure{last->why,
                  "\"" + options_.name + "\" failed " + where + ": " + last->text +
                      (last->text.ends_with('\n') ? "" : "\n") + "with " +
                      times(choices_.preemptions()) + " (found with " +
                      std::to_string(preemptions_before) + "), this happened:\n" + trace +
                      "run just this again by\n  " + replay_variable + "=" +
                      detail::quoted_for_shell(options_.name + "=" + to_text(smallest_)) + " " +
                      command() + "\n"};
  }

  // Leaves the fewest preemptions found in smallest_, and zeros where others do as well. First all
  // schedules with none are tried, then with one, and so on, as far as that goes.
  void shrink(const outcome& first, const std::vector<choice>& found) {
    smallest_ = found;
    for (std::size_t budget = 0; budget < cost(smallest_).first; ++budget) {
      if (find_with(static_cast<unsigned>(budget), first)) break;
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
        if (failed && is_the_same(*failed, first) && cost(choices_.made()) < cost(smallest_)) {
          smallest_ = choices_.made();
        }
      }
    }
  }

  // Whether two failures are of one bug. Who waits for good may differ; what a check says may not,
  // but for the values that follow its first line.
  static bool is_the_same(const outcome& one, const outcome& other) {
    if (one.why != other.why) return false;
    if (one.why != failure::reason::check && one.why != failure::reason::exception) return true;
    return one.text.substr(0, one.text.find('\n')) == other.text.substr(0, other.text.find('\n'));
  }

  bool find_with(unsigned preemptions, const outcome& first) {
    choices_.recount();
    int left = shrinking_schedules_max;
    const auto plan = [&] { return left-- > 0 && choices_.plan_next(preemptions); };
    const auto again = [&] { return !choices_.divergent() && plan(); };
    int others = 0;  // Failures of another kind.
    for (bool more = plan(); more;) {
      const world::owner inside = new_world(false);
      inside->run(f_, [this] { return verdict(); }, again);
      if (inside->failed()) {
        if (is_the_same(*inside->failed(), first)) {
          smallest_ = choices_.made();
          return true;
        }
        if (++others == shrinking_tries_max) return false;
        more = again();
        continue;
      }
      more = inside->has_to_go_on();
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
