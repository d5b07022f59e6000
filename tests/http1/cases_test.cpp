// SPDX-License-Identifier: Apache-2.0
// Each case of cases/*.md: whole, cut at every byte, cut at random, and against a forbidden page.

#include <gtest/gtest.h>

#include "http1/chars.hpp"
#include "support/http1_cases.hpp"
#include "support/http1_record.hpp"

namespace exeunt::http1 {
namespace {

class http1_cases : public testing::TestWithParam<wire_case> {
 protected:
  guarded_memory memory_{GetParam().request.size() + 1};
};

TEST_P(http1_cases, gives_the_expected_events) {
  const wire_case& one = GetParam();
  ASSERT_FALSE(one.request.empty());
  EXPECT_EQ(record(one.request, {}, one.bounds, &memory_), one.events);
}

// Goal:   where the input is cut changes nothing (I1), and nothing past it is read (I5).
// Method: every cut in two, and every byte alone; each input ends at a page that cannot be read.
//         Long requests are cut in two at every place near their ends, and at random within.
TEST_P(http1_cases, gives_the_same_events_cut_anywhere) {
  const wire_case& one = GetParam();
  const std::size_t size = one.request.size();
  constexpr std::size_t edge = 600;
  const bool is_long = size > 4 * edge;

  for (std::size_t cut = 0; cut <= size; ++cut) {
    if (is_long && cut == edge) cut = size - edge;
    ASSERT_EQ(record(one.request, {cut}, one.bounds, &memory_), one.events) << "cut at " << cut;
  }
  cuts every(size);
  for (std::size_t i = 0; i < size; ++i) every[i] = i;
  EXPECT_EQ(record(one.request, every, one.bounds, is_long ? nullptr : &memory_), one.events);
}

TEST_P(http1_cases, gives_the_same_events_cut_at_random) {
  const wire_case& one = GetParam();
  seeded random{20};
  for (int round = 0; round < 50; ++round) {
    const cuts at = random.some_cuts(one.request.size());
    ASSERT_EQ(record(one.request, at, one.bounds, &memory_), one.events)
        << "cuts " << testing::PrintToString(at);
  }
}

std::string name_of(const testing::TestParamInfo<wire_case>& info) {
  std::string name = info.param.file.substr(0, info.param.file.find('.')) + '_' + info.param.name;
  for (char& c : name) {
    if (!is(c, digit_char) && !(to_lower(c) >= 'a' && to_lower(c) <= 'z')) c = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(cases, http1_cases,
                         testing::ValuesIn(load_cases(EXEUNT_HTTP1_TESTS "/cases")), name_of);

TEST(http1_case_files, are_found) {
  EXPECT_GE(load_cases(EXEUNT_HTTP1_TESTS "/cases").size(), 60u);
}

}  // namespace
}  // namespace exeunt::http1
