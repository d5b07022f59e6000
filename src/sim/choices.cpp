// SPDX-License-Identifier: Apache-2.0
// Choices are an odometer: each has its options as digits, and which choices there are depends on
// those before. To count through them all is to turn the last one that can be turned and to let
// everything after it begin anew (Godefroid's stateless search, POPL 1997).
// Tests: tests/sim/choices_test.cpp.

#include "sim/choices.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <stdexcept>
#include <utility>

namespace exeunt::sim {

void choices::begin(plan how) {
  plan_ = how;
  made_.clear();
  calls_ = 0;
  next_preempted_ = 0;
  used_ = 0;
  divergent_ = false;
}

namespace {

// Neighbours are to have nothing in common (splitmix64, Steele 2014).
std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31U);
}

}  // namespace

void choices::plan_default() {
  begin(plan::zero);
  random_ = detail::random_source{1};
}

void choices::plan_random(std::uint64_t seed, std::uint64_t index, unsigned preemptions) {
  calls_most_ = std::max(calls_most_, calls_);
  begin(plan::random);
  random_ = detail::random_source{mixed(mixed(seed) + index)};
  preempted_.clear();
  for (unsigned i = 0; i < preemptions; ++i) {
    preempted_.push_back(random_.below(static_cast<std::uint32_t>(calls_most_)));
  }
  std::ranges::sort(preempted_);
}

void choices::plan_replay(std::vector<std::uint32_t> wanted) {
  begin(plan::replay);
  wanted_ = std::move(wanted);
  unfit_.reset();
}

std::string choices::misfit() const {
  if (unfit_) {
    return "choice " + std::to_string(*unfit_ + 1) + " is " + std::to_string(wanted_[*unfit_]) +
           ", of " + std::to_string(made_[*unfit_].options) + " options (from 0)";
  }
  // Zeros are what is taken anyway; "0" stands for no choices, too.
  const auto first_left =
      wanted_.begin() + static_cast<std::ptrdiff_t>(std::min(made_.size(), wanted_.size()));
  if (std::any_of(first_left, wanted_.end(), [](std::uint32_t left) { return left != 0; })) {
    return "there are " + std::to_string(wanted_.size()) + " choices, but only " +
           std::to_string(made_.size()) + " were to be made";
  }
  return {};
}

bool choices::plan_next(unsigned preemptions) {
  budget_ = preemptions;
  prefix_.clear();
  if (std::exchange(counted_before_, true)) {
    prefix_ = made_;
    while (!prefix_.empty() && prefix_.back().taken + 1 == prefix_.back().options) {
      prefix_.pop_back();
    }
    if (prefix_.empty()) return false;
    ++prefix_.back().taken;
  }
  begin(plan::count);
  return true;
}

bool choices::happens(std::uint32_t one_in) {
  return one_in == 1 || (one_in > 1 && decide(choice_of::number, 2, one_in) == 1);
}

std::uint32_t choices::draw(std::uint32_t options, std::uint32_t one_in) noexcept {
  if (one_in == 0) return random_.below(options);
  return random_.below(one_in) == 0 ? 1 : 0;
}

std::uint32_t choices::decide(choice_of what, std::uint32_t options, std::uint32_t one_in) {
  const std::uint64_t call = what == choice_of::preemption ? calls_++ : 0;
  if (options < 2) return 0;
  std::uint32_t taken = 0;
  switch (plan_) {
    case plan::zero:
      if (what == choice_of::number) taken = draw(options, one_in);
      break;
    case plan::random:
      if (what != choice_of::preemption) {
        taken = draw(options, one_in);
      } else if (next_preempted_ < preempted_.size() && call >= preempted_[next_preempted_]) {
        ++next_preempted_;
        taken = 1 + random_.below(options - 1);
      }
      break;
    case plan::replay:
      if (made_.size() < wanted_.size()) {
        taken = std::min(wanted_[made_.size()], options - 1);
        if (taken != wanted_[made_.size()] && !unfit_) unfit_ = made_.size();
      }
      break;
    case plan::count:
      if (made_.size() < prefix_.size()) {
        const choice& before = prefix_[made_.size()];
        if (before.options == 1) options = 1;  // As below.
        divergent_ = divergent_ || before.options != options || before.what != what;
        taken = std::min(before.taken, options - 1);
      } else if (what == choice_of::preemption && used_ >= budget_) {
        options = 1;  // Noted, so that replays find it, too.
      }
      break;
  }
  if (what == choice_of::preemption && taken != 0) ++used_;
  made_.push_back({options, taken, what});
  return taken;
}

std::string to_text(const std::vector<choice>& made) {
  std::string text;
  const auto append = [&text](const std::string& part) {
    if (!text.empty()) text += '.';
    text += part;
  };
  std::size_t zeros = 0;
  for (const choice& one : made) {
    if (one.taken == 0) {
      ++zeros;
      continue;
    }
    if (zeros > 2) {
      append("_" + std::to_string(zeros));
    } else {
      for (; zeros > 0; --zeros) append("0");
    }
    zeros = 0;
    append(std::to_string(one.taken));
  }
  return text.empty() ? "0" : text;
}

std::vector<std::uint32_t> parse_choices(std::string_view text) {
  constexpr std::size_t most = 10'000'000;
  std::vector<std::uint32_t> parsed;
  const char* at = text.data();
  const char* const end = at + text.size();
  for (;;) {
    const bool zeros = at != end && *at == '_';
    std::uint32_t number = 0;
    const auto [rest, error] = std::from_chars(at + (zeros ? 1 : 0), end, number);
    const bool fits = parsed.size() + (zeros ? number : 1) <= most;
    if (error != std::errc{} || !fits || (rest != end && *rest != '.')) {
      throw std::invalid_argument{"not a list of choices such as 0.2._5.1: '" + std::string{text} +
                                  "', at character " + std::to_string(at - text.data() + 1)};
    }
    parsed.insert(parsed.end(), zeros ? number : 1, zeros ? 0 : number);
    if (rest == end) return parsed;
    at = rest + 1;
  }
}

}  // namespace exeunt::sim
