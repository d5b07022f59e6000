// SPDX-License-Identifier: Apache-2.0
// The pool of stacks: reuse, guards, colours, when memory is given back. Numbers of invariants are
// those of arch/stack.cpp.

#include "arch/stack.hpp"

#include <gtest/gtest.h>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "arch/sanitizer.hpp"

namespace exeunt::arch {
namespace {

constexpr std::size_t kib = 1024;

std::size_t page_bytes() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

// Pages of [from, from + bytes) that are memory.
std::size_t resident_pages(void* from, std::size_t bytes) {
  std::vector<unsigned char> pages((bytes + page_bytes() - 1) / page_bytes());
  if (::mincore(from, bytes, pages.data()) != 0) return 0;
  return static_cast<std::size_t>(
      std::count_if(pages.begin(), pages.end(), [](unsigned char p) { return (p & 1) != 0; }));
}

std::size_t mappings() {
  std::ifstream maps("/proc/self/maps");
  std::size_t lines = 0;
  for (std::string line; std::getline(maps, line);) ++lines;
  return lines;
}

// mincore() under an emulator answers for the emulator.
bool mincore_works() {
  const auto bytes = 4 * page_bytes();
  void* const memory =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  static_cast<volatile char*>(memory)[0] = 1;
  const bool works = resident_pages(memory, bytes) == 1;
  ::munmap(memory, bytes);
  return works;
}

void touch(const stack& s, std::size_t from, std::size_t to) {
  std::memset(static_cast<char*>(s.base) + from, 1, to - from);
}

TEST(arch_stack, a_stack_is_usable_from_base_to_top) {
  stack_pool pool;
  const stack s = pool.get();
  ASSERT_TRUE(s);
  EXPECT_EQ(s.size, default_stack_bytes);
  EXPECT_EQ(pool.default_bytes(), default_stack_bytes);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(s.base) % page_bytes(), 0u);
  EXPECT_TRUE(s.contains(s.base));
  EXPECT_TRUE(s.contains(static_cast<char*>(s.top()) - 1));
  EXPECT_FALSE(s.contains(static_cast<char*>(s.base) + s.size));
  EXPECT_FALSE(s.contains(static_cast<char*>(s.base) - 1));
  EXPECT_TRUE(s.guard_contains(static_cast<char*>(s.base) - 1));
  // All of the guard's pages, also where one page is larger than what is asked for.
  const std::size_t guard = (stack_guard_bytes + page_bytes() - 1) / page_bytes() * page_bytes();
  EXPECT_TRUE(s.guard_contains(static_cast<char*>(s.base) - guard));
  EXPECT_FALSE(s.guard_contains(static_cast<char*>(s.base) - guard - 1));
  EXPECT_FALSE(s.guard_contains(s.base));
  touch(s, 0, s.size);
  pool.put(s);
  EXPECT_FALSE(stack{});
}

TEST(arch_stack, one_that_was_put_is_got_before_a_fresh_one) {
  stack_pool pool;
  const stack one = pool.get();
  const stack two = pool.get();
  EXPECT_NE(one.base, two.base);
  EXPECT_EQ(pool.live(), 2u);
  pool.put(two);
  EXPECT_EQ(pool.live(), 1u);
  EXPECT_EQ(pool.cached(), 1u);
  const stack again = pool.get();
  EXPECT_EQ(again.base, two.base);
  EXPECT_EQ(pool.cached(), 0u);
  pool.put(again);
  pool.put(one);
  EXPECT_EQ(pool.live(), 0u);
  EXPECT_EQ(pool.cached(), 2u);
}

// Goal:   what is in the processor's cache is used first.
// Method: stacks of two arenas; the one that was put to last is served first.
TEST(arch_stack, the_arena_put_to_last_is_the_first_one_got_from) {
  stack_pool pool(4096 * kib);  // seven in an arena
  std::vector<stack> stacks;
  for (int i = 0; i < 10; ++i) stacks.push_back(pool.get());
  ASSERT_NE(stacks.front().owner, stacks.back().owner);
  pool.put(stacks.back());
  pool.put(stacks.front());
  EXPECT_EQ(pool.get().owner, stacks.front().owner);
  EXPECT_EQ(pool.get().owner, stacks.back().owner);
}

TEST(arch_stack, tops_are_aligned_and_spread_over_cache_sets) {
  stack_pool pool;
  std::vector<stack> stacks;
  std::set<std::uintptr_t> sets;
  for (int i = 0; i < 32; ++i) {
    stacks.push_back(pool.get());
    const auto top = reinterpret_cast<std::uintptr_t>(stacks.back().top());
    EXPECT_EQ(top % 64, 0u);
    sets.insert(top % 4096 / 64);
  }
  EXPECT_EQ(sets.size(), 32u);
  pool.put_some(stacks.data(), stacks.size());
}

TEST(arch_stack, other_sizes_are_mapped_and_unmapped_one_by_one) {
  stack_pool pool;
  for (const std::size_t bytes : {std::size_t{1}, 20 * kib, 64 * kib, 8192 * kib}) {
    const stack s = pool.get(bytes);
    ASSERT_TRUE(s);
    EXPECT_GE(s.size, bytes);
    EXPECT_LT(s.size, bytes + page_bytes());
    touch(s, 0, s.size);
    pool.put(s);
    EXPECT_EQ(pool.cached(), 0u);
  }
  EXPECT_EQ(pool.live(), 0u);
}

TEST(arch_stack, an_impossible_size_is_refused) {
  stack_pool pool;
  EXPECT_FALSE(pool.get(~std::size_t{0}));
  EXPECT_FALSE(pool.get(~std::size_t{0} - 64 * kib));
  EXPECT_FALSE(pool.get(std::size_t{1} << 60));
  EXPECT_EQ(pool.live(), 0u);
}

constexpr clock::time_point start{std::chrono::hours{1}};

// Calls tend() as it wants to be called, until a period has passed in which it had nothing to do,
// or `periods` have. Returns: the time then.
clock::time_point tend_for(stack_pool& pool, clock::time_point now, int periods) {
  const clock::time_point end = now + periods * stack_pool::tend_period;
  while (now <= end) {
    const clock::time_point next = pool.tend(now);
    if (next == no_deadline) break;
    now = next;
  }
  return now;
}

bool is_unmapped(const stack& s) {
  unsigned char page = 0;
  return ::mincore(s.base, page_bytes(), &page) != 0 && errno == ENOMEM;
}

std::vector<stack> many(stack_pool& pool, std::size_t count) {
  std::vector<stack> stacks;
  for (std::size_t i = 0; i < count; ++i) stacks.push_back(pool.get());
  return stacks;
}

// Goal:   I1, I4: an idle pool keeps no more than its bound, and nobody needs to call it again.
// Method: time is a parameter; mincore() tells which arenas went.
TEST(arch_stack, what_nobody_needs_for_a_period_is_given_back) {
  stack_pool pool(64 * kib, 3);
  std::vector<stack> stacks = many(pool, 5000);
  std::set<void*> bases;
  for (const stack& s : stacks) bases.insert(s.base);
  EXPECT_EQ(bases.size(), stacks.size());
  EXPECT_EQ(pool.live(), stacks.size());
  for (const stack& s : stacks) touch(s, s.size - page_bytes(), s.size);
  pool.put_some(stacks.data(), stacks.size());
  EXPECT_EQ(pool.live(), 0u);
  EXPECT_EQ(pool.cached(), stacks.size());

  EXPECT_EQ(pool.tend(start), start + stack_pool::tend_period);
  EXPECT_EQ(pool.cached(), stacks.size()) << "a period begins with the first call";
  const auto end = tend_for(pool, start, 3);
  EXPECT_EQ(pool.cached(), 3u);
  EXPECT_LT(end, start + 3 * stack_pool::tend_period);
  EXPECT_EQ(pool.tend(end), no_deadline);
  // All but the arena that stays and the one of the three.
  const auto gone = std::count_if(stacks.begin(), stacks.end(), is_unmapped);
  EXPECT_GE(gone, mincore_works() ? 5000 - 2 * 256 : 0);
  pool.trim();
  EXPECT_EQ(pool.cached(), 0u);
  // All of it can be had again.
  stacks = many(pool, stacks.size());
  for (const stack& s : stacks) touch(s, s.size - page_bytes(), s.size);
  pool.put_some(stacks.data(), stacks.size());
}

// Goal:   what is needed now and then stays.
// Method: a burst in every period takes all but twenty stacks.
TEST(arch_stack, what_was_needed_within_the_period_is_kept) {
  stack_pool pool(64 * kib, 3);
  std::vector<stack> stacks = many(pool, 120);
  pool.put_some(stacks.data(), stacks.size());
  clock::time_point now = start;
  for (int i = 0; i < 5; ++i) {
    stacks = many(pool, 100);
    pool.put_some(stacks.data(), stacks.size());
    for (clock::time_point next = now; next < now + stack_pool::tend_period;) {
      next = pool.tend(next);
    }
    now += stack_pool::tend_period;
  }
  EXPECT_EQ(pool.cached(), 103u);
}

// Goal:   I1, I5: arenas that are partly lent give back the rest, and lent stacks keep their
// memory. Method: every second stack stays lent; mincore() tells.
TEST(arch_stack, lent_neighbours_keep_their_memory) {
  if (!mincore_works()) GTEST_SKIP() << "mincore() does not tell here";
  stack_pool pool(64 * kib, 0);
  const std::vector<stack> stacks = many(pool, 1000);
  for (const stack& s : stacks) touch(s, s.size - 2 * page_bytes(), s.size);
  for (std::size_t i = 0; i < stacks.size(); i += 2) pool.put(stacks[i]);
  tend_for(pool, start, 3);
  EXPECT_EQ(pool.cached(), 0u);
  for (std::size_t i = 0; i < stacks.size(); ++i) {
    EXPECT_EQ(resident_pages(stacks[i].base, stacks[i].size), i % 2 == 0 ? 0u : 2u) << i;
  }
  for (std::size_t i = 1; i < stacks.size(); i += 2) pool.put(stacks[i]);
}

TEST(arch_stack, a_deep_stack_gives_memory_back_when_it_is_not_needed) {
  if (!mincore_works()) GTEST_SKIP() << "mincore() does not tell here";
  stack_pool pool;
  const stack s = pool.get();
  const std::size_t deep = s.size - stack_warm_bytes;
  touch(s, s.size - 100 * kib, s.size);
  pool.put(s);
  EXPECT_GE(resident_pages(s.base, deep), 84 * kib / page_bytes());
  tend_for(pool, start, 3);
  EXPECT_EQ(resident_pages(s.base, deep), 0u);
  EXPECT_EQ(resident_pages(static_cast<char*>(s.base) + deep, stack_warm_bytes),
            stack_warm_bytes / page_bytes());
  EXPECT_EQ(pool.cached(), 1u);
  EXPECT_EQ(pool.tend(start + std::chrono::hours{1}), no_deadline);
  pool.trim();
  EXPECT_EQ(resident_pages(s.base, s.size), 0u);
}

// Goal:   a call of tend() takes a bounded time, whatever there is to do.
// Method: count what one call gives back.
TEST(arch_stack, tending_is_done_a_little_at_a_time) {
  stack_pool pool(64 * kib, 0);
  const std::vector<stack> stacks = many(pool, 20'000);
  pool.put_some(stacks.data(), stacks.size());
  clock::time_point now = pool.tend(start);
  pool.tend(now);  // The period in which they were put.
  now += stack_pool::tend_period;
  std::size_t left = pool.cached();
  int calls = 0;
  for (; left > 0 && calls < 1000; ++calls) {
    now = pool.tend(now);
    EXPECT_LE(left - pool.cached(), 1000u);
    left = pool.cached();
  }
  EXPECT_GE(calls, 20);
  EXPECT_EQ(left, 0u);
}

TEST(arch_stack, the_cache_recycles_without_the_pool_and_flushes_to_it) {
  stack_pool pool;
  stack_cache cache(pool);
  const stack one = cache.get();
  EXPECT_EQ(pool.live(), stack_cache::batch);
  cache.put(one);
  EXPECT_EQ(cache.size(), stack_cache::batch);
  EXPECT_EQ(pool.live(), stack_cache::batch);
  const stack again = cache.get();
  EXPECT_EQ(again.base, one.base);
  cache.put(again);
  const stack odd = cache.get(20 * kib);
  EXPECT_EQ(cache.size(), stack_cache::batch);
  cache.put(odd);
  EXPECT_EQ(cache.size(), stack_cache::batch);
  cache.flush();
  EXPECT_EQ(cache.size(), 0u);
  EXPECT_EQ(pool.live(), 0u);
  EXPECT_EQ(pool.cached(), stack_cache::batch);
}

TEST(arch_stack, a_full_cache_gives_its_older_half_away) {
  stack_pool pool;
  stack_cache cache(pool);
  std::vector<stack> stacks;
  for (std::size_t i = 0; i <= stack_cache::capacity; ++i) stacks.push_back(cache.get());
  for (const stack& s : stacks) cache.put(s);
  EXPECT_EQ(pool.cached(), stack_cache::capacity / 2);
  EXPECT_GE(cache.size(), stack_cache::capacity / 2 + 1);
  EXPECT_EQ(cache.get().base, stacks.back().base);
  cache.put(stacks.back());
}

TEST(arch_stack, the_cache_finds_deep_stacks_now_and_then) {
  if (!mincore_works()) GTEST_SKIP() << "mincore() does not tell here";
  stack_pool pool;
  stack_cache cache(pool);
  for (unsigned i = 0; i < stack_cache::puts_per_trim; ++i) {
    const stack s = cache.get();
    touch(s, s.size - 100 * kib, s.size);
    cache.put(s);
  }
  const stack s = cache.get();
  EXPECT_EQ(resident_pages(s.base, s.size - stack_warm_bytes), 0u);
  cache.put(s);
}

TEST(arch_stack, pool_serves_threads_at_once) {
  stack_pool pool(64 * kib, 8);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&pool, t] {
      for (int round = 0; round < 50; ++round) {
        if (t == 0) pool.tend(start + round * stack_pool::tend_period);
        if (t == 1 && round % 10 == 0) pool.trim();
        std::vector<stack> mine;
        for (int i = 0; i < 10 + t; ++i) mine.push_back(pool.get(i % 5 == 0 ? 20 * kib : 0));
        for (const stack& s : mine) *static_cast<int*>(s.base) = t;
        for (const stack& s : mine) EXPECT_EQ(*static_cast<int*>(s.base), t);
        for (const stack& s : mine) pool.put(s);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(pool.live(), 0u);
}

// Whether the kernel has guards that cost no mapping: the pool makes them if no other are allowed.
bool light_guards() {
  stack_pool pool(default_stack_bytes, 0, {.light = true, .protected_max = 0});
  const stack s = pool.get();
  pool.put(s);
  return s.guarded;
}

// CH-03: "no stack or memory exhaustion (run also with 100 000)".
TEST(arch_stack, hundred_thousand_stacks_need_few_mappings) {
  if (!light_guards()) GTEST_SKIP() << "this kernel has no guards without mappings";
  const int count = EXEUNT_SAN_ADDRESS || EXEUNT_SAN_THREAD ? 2000 : 100'000;
  const auto before = mappings();
  {
    stack_pool pool;
    for (int i = 0; i < count; ++i) {
      const stack s = pool.get();
      ASSERT_TRUE(s) << i;
      ASSERT_TRUE(s.guarded) << i;
    }
    EXPECT_EQ(pool.live(), static_cast<std::size_t>(count));
    // A million may take a tenth of what a process has by default: 65530.
    EXPECT_LT(mappings(), before + 20 + 650);
  }
  const std::size_t tsan_shadow = EXEUNT_SAN_THREAD ? 2000 : 0;  // which stays mapped
  EXPECT_LT(mappings(), before + 100 + tsan_shadow);
}

// Goal:   a guard made once lasts through all that happens to its arena.
// Method: a fresh stack between others is the only unguarded one if the pool thinks so; the kernel
// is
//         asked to read a path from each guard (as the death test does, but for many).
TEST(arch_stack, guards_of_a_batch_are_all_there_and_stay) {
  if (!light_guards()) GTEST_SKIP() << "this kernel has no guards without mappings";
  const auto faults = [](const stack& s) {
    const auto* const last = static_cast<const char*>(s.base) - 1;
    return ::access(last, F_OK) != 0 && errno == EFAULT;
  };
  stack_pool pool(64 * kib, 0);
  std::vector<stack> stacks(300);
  std::size_t got = 0;
  while (got < stacks.size()) {
    got += pool.get_some(stacks.data() + got, std::min<std::size_t>(stacks.size() - got, 37));
  }
  for (const stack& s : stacks) {
    ASSERT_TRUE(s.guarded);
    ASSERT_TRUE(faults(s));
  }
  for (std::size_t i = 1; i < stacks.size(); ++i) pool.put(stacks[i]);
  tend_for(pool, start, 3);
  EXPECT_EQ(pool.cached(), 0u);
  for (std::size_t i = 1; i < stacks.size(); ++i) stacks[i] = pool.get();
  for (const stack& s : stacks) ASSERT_TRUE(s.guarded && faults(s));
  pool.put_some(stacks.data(), stacks.size());
}

// Guards by page protection are counted over all pools, and given back with their arenas.
TEST(arch_stack, without_light_guards_a_budget_of_protected_ones_is_used) {
  const stack_guards three{.light = false, .protected_max = 3};
  for (int round = 0; round < 2; ++round) {
    stack_pool pool(64 * kib, 16, three);
    std::vector<stack> stacks;
    for (int i = 0; i < 5; ++i) stacks.push_back(pool.get());
    for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(stacks[i].guarded, i < 3) << i;
    stack_pool second(64 * kib, 16, three);
    const stack other = second.get();
    EXPECT_FALSE(other.guarded);
    second.put(other);
    // I3: the state of the guard stays with the stack.
    for (const stack& s : stacks) pool.put(s);
    for (int i = 0; i < 5; ++i) {
      const stack again = pool.get();
      const auto same = [&](const stack& s) { return s.base == again.base; };
      EXPECT_EQ(again.guarded, std::find_if(stacks.begin(), stacks.end(), same)->guarded);
    }
  }
}

class arch_stack_death_test : public testing::TestWithParam<bool> {};

// The whole guard faults, not only its first page, however it is made.
TEST_P(arch_stack_death_test, touching_the_guard_is_death) {
  stack_pool pool(default_stack_bytes, 4, {.light = GetParam(), .protected_max = 100});
  const stack s = pool.get();
  const stack above = pool.get();
  const stack small = pool.get(20 * kib);
  for (const stack& each : {s, above, small}) {
    ASSERT_TRUE(each.guarded);
    auto* const base = static_cast<volatile char*>(each.base);
    base[0] = 1;
    EXPECT_DEATH(base[-1] = 1, "");
    EXPECT_DEATH(base[-static_cast<std::ptrdiff_t>(stack_guard_bytes)] = 1, "");
  }
  // The guard outlives a stay in the pool and the loss of all memory.
  for (const stack& each : {s, above, small}) pool.put(each);
  pool.trim();
  const stack again = pool.get();
  EXPECT_DEATH(static_cast<volatile char*>(again.base)[-1] = 1, "");
  pool.put(again);
}

INSTANTIATE_TEST_SUITE_P(guards, arch_stack_death_test, testing::Bool(),
                         [](const auto& light) { return light.param ? "light" : "by_page"; });

TEST(arch_stack_misuse_death_test, asserts_against_putting_twice) {
  stack_pool pool(default_stack_bytes);
  const stack s = pool.get();
  EXPECT_DEATH(
      {
        pool.put(s);
        pool.put(s);
      },
      "given back twice");
  EXPECT_DEATH(pool.put(stack{}), "empty stack");
  pool.put(s);
}

TEST(arch_stack_misuse_death_test, going_without_guards_is_told_once_with_the_sysctl) {
  EXPECT_EXIT(
      {
        stack_pool pool(64 * kib, 16, {.light = false, .protected_max = 0});
        for (int i = 0; i < 3; ++i) static_cast<void>(pool.get());
        std::_Exit(0);
      },
      testing::ExitedWithCode(0), "vm\\.max_map_count \\(now [0-9]+\\)[^\n]*\n$");
}

}  // namespace
}  // namespace exeunt::arch
