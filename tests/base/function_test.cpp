// SPDX-License-Identifier: Apache-2.0

#include <exeunt/base/function.hpp>

#include <array>
#include <memory>
#include <numeric>
#include <utility>

#include <gtest/gtest.h>

namespace exeunt {
namespace {

static_assert(!std::is_copy_constructible_v<unique_function<void()>>);
static_assert(std::is_nothrow_move_constructible_v<unique_function<void()>>);

// Counts its living copies, and is as large as asked.
template <std::size_t Bytes>
class counted {
 public:
  explicit counted(int& alive) : alive_{&alive} { ++*alive_; }
  counted(counted&& other) noexcept : alive_{other.alive_} { ++*alive_; }
  counted(const counted&) = delete;
  ~counted() { --*alive_; }
  int operator()() const { return *alive_; }

 private:
  int* alive_;
  std::array<char, Bytes> filler_{};
};

TEST(base_function, empty_is_false) {
  const unique_function<void()> none{};
  const unique_function<void()> null{nullptr};
  EXPECT_FALSE(none);
  EXPECT_FALSE(null);
}

TEST(base_function_death, a_call_of_an_empty_one_aborts) {
  unique_function<void()> none;
  EXPECT_DEATH(none(), "call of an empty unique_function");
}

TEST(base_function, passes_arguments_and_result) {
  unique_function<int(int, int)> subtract = [](int a, int b) { return a - b; };
  EXPECT_EQ(subtract(7, 5), 2);
}

TEST(base_function, passes_what_can_only_be_moved) {
  unique_function<std::unique_ptr<int>(std::unique_ptr<int>)> same = [](std::unique_ptr<int> p) {
    return p;
  };
  EXPECT_EQ(*same(std::make_unique<int>(4)), 4);
}

TEST(base_function, passes_references_as_references) {
  unique_function<void(int&)> increment = [](int& n) { ++n; };
  int n = 1;
  increment(n);
  EXPECT_EQ(n, 2);
}

TEST(base_function, keeps_a_callable_that_can_only_be_moved) {
  unique_function<int()> f = [p = std::make_unique<int>(9)] { return *p; };
  unique_function<int()> g = std::move(f);
  EXPECT_FALSE(f);
  EXPECT_EQ(g(), 9);
}

TEST(base_function, keeps_the_state_of_a_mutable_callable) {
  unique_function<int()> next = [n = 0]() mutable { return ++n; };
  EXPECT_EQ(next(), 1);
  EXPECT_EQ(next(), 2);
}

template <std::size_t Bytes>
void lives_exactly_once() {
  int alive = 0;
  {
    unique_function<int()> f = counted<Bytes>{alive};
    EXPECT_EQ(alive, 1);
    unique_function<int()> g = std::move(f);
    EXPECT_EQ(alive, 1);
    EXPECT_EQ(g(), 1);
    f = std::move(g);
    EXPECT_EQ(alive, 1);
    f = nullptr;
    EXPECT_EQ(alive, 0);
    EXPECT_FALSE(f);
    f = counted<Bytes>{alive};
    f = counted<Bytes>{alive};
    EXPECT_EQ(alive, 1);
  }
  EXPECT_EQ(alive, 0);
}

TEST(base_function, destroys_a_small_callable_once) { lives_exactly_once<8>(); }
TEST(base_function, destroys_a_large_callable_once) { lives_exactly_once<200>(); }

TEST(base_function, carries_plain_data_along) {
  const std::array<int, 10> numbers{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  static_assert(sizeof numbers == detail::function_buffer_bytes);
  unique_function<int()> f = [numbers] {
    return std::accumulate(numbers.begin(), numbers.end(), 0);
  };
  unique_function<int()> g = std::move(f);
  EXPECT_FALSE(f);
  f = std::move(g);
  EXPECT_FALSE(g);
  EXPECT_EQ(f(), 55);
  f = nullptr;
  EXPECT_FALSE(f);
}

TEST(base_function, survives_assignment_to_itself) {
  unique_function<int()> f = [] { return 3; };
  unique_function<int()>& same = f;
  f = std::move(same);
  EXPECT_EQ(f(), 3);
}

TEST(base_function, discards_a_result_that_nobody_wants) {
  int calls = 0;
  unique_function<void()> f = [&calls] { return ++calls; };
  f();
  EXPECT_EQ(calls, 1);
}

int call_with_two(function_ref<int(int)> f) { return f(2); }

TEST(base_function_ref, calls_what_it_refers_to) {
  int added = 40;
  EXPECT_EQ(call_with_two([&added](int n) { return n + added; }), 42);
}

TEST(base_function_ref, copies_nothing) {
  int alive = 0;
  const counted<8> callable{alive};
  const function_ref<int()> ref = callable;
  EXPECT_EQ(ref(), 1);
}

TEST(base_function_ref, a_copy_refers_to_the_same) {
  int calls = 0;
  const auto count = [&calls] { ++calls; };
  const function_ref<void()> first = count;
  const function_ref<void()> second = first;
  first();
  second();
  EXPECT_EQ(calls, 2);
}

}  // namespace
}  // namespace exeunt
