// SPDX-License-Identifier: Apache-2.0
#include <exeunt/base/random.hpp>

#include <gtest/gtest.h>

#include <set>

namespace exeunt::detail {
namespace {

TEST(random_source, repeats_with_its_seed_and_differs_with_another) {
  random_source first{7};
  random_source again{7};
  random_source other{8};
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const auto value = first.next();
    EXPECT_EQ(value, again.next());
    differs |= value != other.next();
  }
  EXPECT_TRUE(differs);
}

TEST(random_source, a_seed_of_zero_is_as_good_as_any) {
  random_source zero{0};
  EXPECT_NE(zero.next(), zero.next());
}

// 60 000 throws of a die: a count beyond 5 standard deviations (456) would be a bias.
TEST(random_source, below_reaches_every_value_about_as_often) {
  random_source source{42};
  int counts[6] = {};
  for (int i = 0; i < 60'000; ++i) ++counts[source.below(6)];
  for (const int count : counts) EXPECT_NEAR(count, 10'000, 456);
}

TEST(random_seed, comes_from_the_kernel_and_changes) {
  std::set<std::uint64_t> seeds;
  for (int i = 0; i < 8; ++i) seeds.insert(random_seed());
  EXPECT_GT(seeds.size(), 1U);
}

}  // namespace
}  // namespace exeunt::detail
