// SPDX-License-Identifier: Apache-2.0
// The choices of one schedule: made by chance, by counting through all of them, or as they were
// made before; and written down.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <exeunt/base/random.hpp>

namespace exeunt::sim {

/// What is chosen.
enum class choice_of : std::uint8_t {
  next,        ///< who runs, when the running fiber waits or has ended
  preemption,  ///< 0: the running fiber goes on; n: the n-th of the others runs
  number,      ///< a random number, of select
};

struct choice {
  std::uint32_t options = 0;
  std::uint32_t taken = 0;
  choice_of what = choice_of::next;

  bool operator==(const choice&) const = default;
};

/// Threads: one.
class choices {
 public:
  /// All zero: what the library's own scheduler would do; numbers by a fixed seed.
  void plan_default();
  /// By chance: the `index`-th of the seed's schedules. At most `preemptions` of them, at calls
  /// that are picked beforehand: each number of calls up to that of the longest schedule so far has
  /// the same chance. So the same schedule needs the same ones before it.
  void plan_random(std::uint64_t seed, std::uint64_t index, unsigned preemptions);
  /// As `wanted`; zero when that is over. Where it does not fit, the nearest that does.
  void plan_replay(std::vector<std::uint32_t> wanted);
  /// Of a schedule that plan_replay() has planned, when it is over: what of `wanted` did not fit;
  /// empty if all did.
  [[nodiscard]] std::string misfit() const;
  /// As the last one, but for the last choice that has an option left, which takes that; zero
  /// afterwards. The first time, all zero. With at most `preemptions`.
  /// Returns: false if there is no other: all have been run.
  bool plan_next(unsigned preemptions);
  /// plan_next() begins with the first one again.
  void recount() noexcept { counted_before_ = false; }

  /// Returns: below `options`, which is at least 1. Only what has two is a choice.
  std::uint32_t decide(choice_of what, std::uint32_t options) { return decide(what, options, 0); }
  /// Whether what happens one time in `one_in` does: by chance, just so often; where all are
  /// counted, once each. Never for 0, always for 1: neither is a choice.
  bool happens(std::uint32_t one_in);

  [[nodiscard]] const std::vector<choice>& made() const noexcept { return made_; }
  [[nodiscard]] unsigned preemptions() const noexcept { return used_; }
  /// Of a schedule that plan_next() has planned, when it is over: whether there were other choices
  /// than the last time.
  [[nodiscard]] bool divergent() const noexcept {
    return divergent_ || (plan_ == plan::count && made_.size() < prefix_.size());
  }

 private:
  enum class plan : std::uint8_t { zero, random, replay, count };

  void begin(plan how);
  // By chance the second one is taken one time in `one_in`; 0: all are alike.
  std::uint32_t decide(choice_of what, std::uint32_t options, std::uint32_t one_in);
  std::uint32_t draw(std::uint32_t options, std::uint32_t one_in) noexcept;

  plan plan_ = plan::zero;
  std::vector<choice> made_;
  std::vector<choice> prefix_;            // Of plan::count: what has to come first.
  std::vector<std::uint32_t> wanted_;     // Of plan::replay.
  std::optional<std::size_t> unfit_;      // The first of them that had to be another.
  std::vector<std::uint64_t> preempted_;  // Of plan::random: the calls to preempt, sorted.
  detail::random_source random_{1};
  unsigned budget_ = 0;
  unsigned used_ = 0;
  std::uint64_t calls_ = 0;       // Choices of preemption so far.
  std::uint64_t calls_most_ = 1;  // Of all schedules.
  std::size_t next_preempted_ = 0;
  bool counted_before_ = false;
  bool divergent_ = false;
};

/// "0.2._5.1": a number each; `_n` stands for n zeros; zeros at the end are left out.
[[nodiscard]] std::string to_text(const std::vector<choice>& made);
/// Throws: std::invalid_argument.
[[nodiscard]] std::vector<std::uint32_t> parse_choices(std::string_view text);

}  // namespace exeunt::sim
