// SPDX-License-Identifier: Apache-2.0

#include <exeunt/base/intrusive_list.hpp>

#include <vector>

#include <gtest/gtest.h>

namespace exeunt::detail {
namespace {

struct other_tag {};

struct element : list_hook<>, list_hook<other_tag> {
  explicit element(int n) : number{n} {}
  bool in_first() const { return static_cast<const list_hook<>&>(*this).linked(); }
  bool in_other() const { return static_cast<const list_hook<other_tag>&>(*this).linked(); }
  int number;
};

using list = intrusive_list<element>;

std::vector<int> numbers(list& elements) {
  std::vector<int> found;
  for (element* e = elements.front(); e != nullptr; e = elements.next(*e)) {
    found.push_back(e->number);
  }
  return found;
}

using ints = std::vector<int>;

TEST(base_intrusive_list, starts_empty) {
  list elements;
  EXPECT_TRUE(elements.empty());
  EXPECT_EQ(elements.front(), nullptr);
  EXPECT_EQ(elements.pop_front(), nullptr);
}

TEST(base_intrusive_list, keeps_the_order_of_both_ends) {
  list elements;
  element a{1}, b{2}, c{3};
  elements.push_back(b);
  elements.push_back(c);
  elements.push_front(a);
  EXPECT_FALSE(elements.empty());
  EXPECT_EQ(numbers(elements), (ints{1, 2, 3}));
}

TEST(base_intrusive_list, pops_from_the_front_and_unlinks) {
  list elements;
  element a{1}, b{2};
  elements.push_back(a);
  elements.push_back(b);
  EXPECT_EQ(elements.pop_front(), &a);
  EXPECT_FALSE(a.in_first());
  EXPECT_TRUE(b.in_first());
  EXPECT_EQ(elements.pop_front(), &b);
  EXPECT_TRUE(elements.empty());
}

TEST(base_intrusive_list, removes_at_each_place) {
  for (int removed = 0; removed < 3; ++removed) {
    list elements;
    element all[]{element{0}, element{1}, element{2}};
    for (element& e : all) elements.push_back(e);
    list::remove(all[removed]);
    EXPECT_FALSE(all[removed].in_first());
    ints expected{0, 1, 2};
    expected.erase(expected.begin() + removed);
    EXPECT_EQ(numbers(elements), expected);
  }
}

TEST(base_intrusive_list, takes_a_removed_element_again) {
  list elements;
  element a{1}, b{2};
  elements.push_back(a);
  elements.push_back(b);
  list::remove(a);
  elements.push_back(a);
  EXPECT_EQ(numbers(elements), (ints{2, 1}));
}

TEST(base_intrusive_list, appends_another_list_and_empties_it) {
  list first, second;
  element a{1}, b{2}, c{3};
  first.append(second);
  EXPECT_TRUE(first.empty());
  second.push_back(a);
  first.append(second);
  EXPECT_EQ(numbers(first), (ints{1}));
  EXPECT_TRUE(second.empty());
  second.push_back(b);
  second.push_back(c);
  first.append(second);
  EXPECT_EQ(numbers(first), (ints{1, 2, 3}));
  EXPECT_TRUE(second.empty());
}

TEST(base_intrusive_list, one_element_is_in_two_lists_with_two_tags) {
  list elements;
  intrusive_list<element, other_tag> others;
  element a{1};
  elements.push_back(a);
  others.push_back(a);
  EXPECT_EQ(others.pop_front(), &a);
  EXPECT_FALSE(a.in_other());
  EXPECT_TRUE(a.in_first());
  EXPECT_EQ(elements.pop_front(), &a);
}

TEST(base_intrusive_list_death, a_second_link_aborts) {
  list elements;
  element a{1};
  elements.push_back(a);
  EXPECT_DEATH(elements.push_back(a), "linked");
}

TEST(base_intrusive_list_death, removing_what_is_not_linked_aborts) {
  element a{1};
  EXPECT_DEATH(list::remove(a), "linked");
}

}  // namespace
}  // namespace exeunt::detail
