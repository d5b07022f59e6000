// SPDX-License-Identifier: Apache-2.0
#include "sim/choices.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace exeunt::sim {
namespace {

using list = std::vector<std::uint32_t>;

list taken_of(const choices& some) {
  list taken;
  for (const choice& one : some.made()) taken.push_back(one.taken);
  return taken;
}

// Goal:   each combination once, also where a choice decides which others there are.
// Method: after a 0 come two choices of 2, after a 1 one of 3.
TEST(choices, counts_through_all_combinations) {
  choices all;
  std::vector<list> seen;
  while (all.plan_next(0)) {
    if (all.decide(choice_of::next, 2) == 0) {
      all.decide(choice_of::number, 2);
      all.decide(choice_of::next, 2);
    } else {
      all.decide(choice_of::next, 3);
    }
    seen.push_back(taken_of(all));
  }
  EXPECT_EQ(seen, (std::vector<list>{
                      {0, 0, 0}, {0, 0, 1}, {0, 1, 0}, {0, 1, 1}, {1, 0}, {1, 1}, {1, 2}}));
}

TEST(choices, counts_no_more_preemptions_than_it_may) {
  choices all;
  std::set<list> seen;
  while (all.plan_next(1)) {
    for (int i = 0; i < 3; ++i) all.decide(choice_of::preemption, 2);
    EXPECT_LE(all.preemptions(), 1U);
    seen.insert(taken_of(all));
  }
  EXPECT_EQ(seen.size(), 4U);
}

TEST(choices, what_has_one_option_is_no_choice) {
  choices some;
  some.plan_default();
  EXPECT_EQ(some.decide(choice_of::next, 1), 0U);
  EXPECT_TRUE(some.made().empty());
}

TEST(choices, notices_other_options_than_before) {
  choices all;
  ASSERT_TRUE(all.plan_next(0));
  all.decide(choice_of::next, 2);
  all.decide(choice_of::next, 2);
  ASSERT_TRUE(all.plan_next(0));
  all.decide(choice_of::next, 3);
  EXPECT_TRUE(all.divergent());
}

TEST(choices, the_same_seed_makes_the_same_choices) {
  const auto made_by = [](std::uint64_t seed) {
    choices some;
    some.plan_random(seed, 0, 2);
    for (std::uint32_t i = 0; i < 50; ++i) {
      some.decide(choice_of::next, 2 + i % 3);
      some.decide(choice_of::preemption, 3);
    }
    return taken_of(some);
  };
  EXPECT_EQ(made_by(7), made_by(7));
  EXPECT_NE(made_by(7), made_by(8));
}

// Goal:   preemptions fall on any call of the schedule, and as many as are allowed.
// Method: many seeds of a program with ten calls.
TEST(choices, random_preemptions_reach_every_call) {
  choices some;
  std::set<std::size_t> reached;
  unsigned most = 0;
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    some.plan_random(seed, 0, 2);
    for (int i = 0; i < 10; ++i) {
      if (some.decide(choice_of::preemption, 2) != 0) reached.insert(static_cast<std::size_t>(i));
    }
    most = std::max(most, some.preemptions());
  }
  EXPECT_EQ(reached.size(), 10U);
  EXPECT_EQ(most, 2U);
}

TEST(choices, are_written_and_read_back) {
  choices some;
  some.plan_replay({0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 3, 0});
  for (int i = 0; i < 12; ++i) some.decide(choice_of::next, 5);
  const std::string text = to_text(some.made());
  EXPECT_EQ(text, "0.2._5.1.0.0.3");
  EXPECT_EQ(parse_choices(text), (list{0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 3}));
  EXPECT_EQ(parse_choices("0"), list{0});
}

TEST(choices, nonsense_is_refused_with_its_place) {
  for (const char* const bad :
       {"", ".", "1.", "1..2", "x", "1.-2", "_", "99999999999", "_10000001", "1 2"}) {
    try {
      static_cast<void>(parse_choices(bad));
      ADD_FAILURE() << bad;
    } catch (const std::invalid_argument& refused) {
      EXPECT_NE(std::string{refused.what()}.find("at character"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace exeunt::sim
