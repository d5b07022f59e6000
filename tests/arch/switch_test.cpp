// SPDX-License-Identifier: Apache-2.0
// Switching: what is preserved, what an unwinder sees.

#include "arch/switch.hpp"

#include <gtest/gtest.h>

#include <execinfo.h>
#include <unwind.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "hand_fiber.hpp"

namespace exeunt::arch {
namespace {

void* function_of(const void* pc) {
  return _Unwind_FindEnclosingFunction(const_cast<char*>(static_cast<const char*>(pc) - 1));
}

bool holds_function(const std::vector<void*>& pcs, const void* function) {
  return std::any_of(pcs.begin(), pcs.end(), [&](void* pc) { return function_of(pc) == function; });
}

std::vector<void*> unwind_here() {
  std::vector<void*> pcs;
  _Unwind_Backtrace(
      [](_Unwind_Context* context, void* arg) {
        auto& out = *static_cast<std::vector<void*>*>(arg);
        if (_Unwind_GetIP(context) != 0) {
          out.push_back(reinterpret_cast<void*>(_Unwind_GetIP(context)));
        }
        return out.size() < 1000 ? _URC_NO_REASON : _URC_END_OF_STACK;
      },
      &pcs);
  return pcs;
}

// Two stacks by hand, without a word to the sanitizers. Everything else uses hand_fiber.
struct ping_pong {
  switch_context host;
  switch_context fiber;
  std::vector<std::intptr_t> got;
};

TEST(arch_switch, hands_messages_over_in_both_directions) {
  if (EXEUNT_SAN_ADDRESS || EXEUNT_SAN_THREAD)
    GTEST_SKIP() << "switches without telling the sanitizer";
  stack_pool pool;
  const stack s = pool.get();
  ping_pong p;
  p.fiber = make_frame(
      s.top(),
      [](void* arg, void* message) {
        auto& self = *static_cast<ping_pong*>(arg);
        for (;;) {
          self.got.push_back(reinterpret_cast<std::intptr_t>(message));
          message = switch_to(self.fiber, self.host, reinterpret_cast<void*>(self.got.back() * 10));
        }
      },
      &p);
  for (std::intptr_t i = 1; i <= 3; ++i) {
    void* const answer = switch_to(p.host, p.fiber, reinterpret_cast<void*>(i));
    EXPECT_EQ(reinterpret_cast<std::intptr_t>(answer), i * 10);
  }
  EXPECT_EQ(p.got, (std::vector<std::intptr_t>{1, 2, 3}));
  pool.put(s);
}

// More values than there are registers, made from `seed`, live over a switch. Returns their mix.
[[gnu::noinline]] std::uint64_t hold_values(switch_context& from, const switch_context& to,
                                            std::uint64_t seed) {
  std::uint64_t v[24];
  double d[24];
  for (unsigned i = 0; i < 24; ++i) {
    v[i] = seed * (i + 3);
    d[i] = static_cast<double>(seed) + i / 8.0;
    asm volatile("" : "+r"(v[i]), "+m"(d[i]));  // Not to be computed again.
  }
  switch_to(from, to, nullptr);
  std::uint64_t mix = 0;
  for (unsigned i = 0; i < 24; ++i) {
    mix = mix * 31 + v[i] + static_cast<std::uint64_t>(d[i] * 8);
  }
  return mix;
}

std::uint64_t expected_mix(std::uint64_t seed) {
  std::uint64_t mix = 0;
  for (unsigned i = 0; i < 24; ++i) {
    mix = mix * 31 + seed * (i + 3) +
          static_cast<std::uint64_t>((static_cast<double>(seed) + i / 8.0) * 8);
  }
  return mix;
}

TEST(arch_switch, keeps_what_the_compiler_has_in_registers) {
  if (EXEUNT_SAN_ADDRESS || EXEUNT_SAN_THREAD)
    GTEST_SKIP() << "switches without telling the sanitizer";
  struct side {
    switch_context host;
    switch_context fiber;
    std::uint64_t mix = 0;
  };
  stack_pool pool;
  const stack s = pool.get();
  side both;
  both.fiber = make_frame(
      s.top(),
      [](void* arg, void*) {
        auto& self = *static_cast<side*>(arg);
        self.mix = hold_values(self.fiber, self.host, 7000);
        switch_to(self.fiber, self.host, nullptr);
      },
      &both);
  const std::uint64_t here = hold_values(both.host, both.fiber, 5000);
  switch_to(both.host, both.fiber, nullptr);
  EXPECT_EQ(here, expected_mix(5000));
  EXPECT_EQ(both.mix, expected_mix(7000));
  pool.put(s);
}

[[gnu::noinline]] double sum_across_parks(hand_fiber& fiber, double start) {
  double a = start, b = start * 3, c = start / 7, d = start + 0.125;
  for (int i = 0; i < 5; ++i) {
    a += b;
    b *= 1.5;
    c += d;
    d -= 0.25;
    fiber.park();
  }
  return a + b + c + d;
}

TEST(arch_switch, keeps_floating_point_values) {
  stack_pool pool;
  double first = 0;
  double second = 0;
  hand_fiber one(pool, [&](hand_fiber& self) { first = sum_across_parks(self, 2.0); });
  hand_fiber two(pool, [&](hand_fiber& self) { second = sum_across_parks(self, 64.0); });
  while (!one.done() || !two.done()) {
    if (!one.done()) one.resume();
    if (!two.done()) two.resume();
  }
  // The same sums, without switches.
  const auto expected = [](double start) {
    double a = start, b = start * 3, c = start / 7, d = start + 0.125;
    for (int i = 0; i < 5; ++i) {
      a += b;
      b *= 1.5;
      c += d;
      d -= 0.25;
    }
    return a + b + c + d;
  };
  EXPECT_DOUBLE_EQ(first, expected(2.0));
  EXPECT_DOUBLE_EQ(second, expected(64.0));
}

[[gnu::noinline]] std::uintptr_t frame_address() {
  return reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
}

TEST(arch_switch, entry_stack_is_aligned_as_the_abi_wants) {
  stack_pool pool;
  std::uintptr_t frame = 1;
  hand_fiber fiber(pool, [&](hand_fiber& self) {
    frame = frame_address();
    EXPECT_TRUE(self.its_stack().contains(reinterpret_cast<void*>(frame)));
  });
  fiber.resume();
  EXPECT_EQ(frame % 16, 0u);
}

TEST(arch_switch, thousand_fibers_take_turns) {
  stack_pool pool;
  const int count = EXEUNT_SAN_THREAD ? 200 : 1000;
  std::vector<int> turns;
  std::vector<std::unique_ptr<hand_fiber>> fibers;
  for (int i = 0; i < count; ++i) {
    fibers.push_back(std::make_unique<hand_fiber>(pool, [&turns, i](hand_fiber& self) {
      turns.push_back(i);
      self.park();
      turns.push_back(i);
    }));
  }
  for (int round = 0; round < 2; ++round) {
    for (auto& fiber : fibers) fiber->resume();
  }
  ASSERT_EQ(turns.size(), static_cast<std::size_t>(2 * count));
  for (int i = 0; i < 2 * count; ++i) EXPECT_EQ(turns[static_cast<std::size_t>(i)], i % count);
}

[[gnu::noinline]] void host_of_walk(hand_fiber& fiber) {
  fiber.resume();
  asm volatile("");  // no tail call: the frame must be there to be missed
}

[[gnu::noinline]] void walks_here(std::vector<void*>& unwound, std::vector<void*>& glibc) {
  unwound = unwind_here();
  glibc.resize(1000);
  glibc.resize(static_cast<std::size_t>(::backtrace(glibc.data(), 1000)));
}

TEST(arch_switch, unwinder_stops_at_the_entry_frame) {
  stack_pool pool;
  std::vector<void*> unwound;
  std::vector<void*> glibc;
  hand_fiber fiber(pool, [&](hand_fiber&) { walks_here(unwound, glibc); });
  host_of_walk(fiber);
  for (const auto* pcs : {&unwound, &glibc}) {
    EXPECT_GE(pcs->size(), 3u);
    EXPECT_LT(pcs->size(), 40u);
    EXPECT_TRUE(holds_function(*pcs, reinterpret_cast<void*>(&walks_here)));
    EXPECT_FALSE(holds_function(*pcs, reinterpret_cast<void*>(&host_of_walk)));
  }
}

[[gnu::noinline]] void parks_inner(hand_fiber& fiber) {
  fiber.park();
  asm volatile("");
}
[[gnu::noinline]] void parks_outer(hand_fiber& fiber) {
  parks_inner(fiber);
  asm volatile("");
}

TEST(arch_switch, a_parked_stack_can_be_walked_from_outside) {
  stack_pool pool;
  hand_fiber fiber(pool, [](hand_fiber& self) { parks_outer(self); });
  host_of_walk(fiber);
  std::vector<void*> pcs(100);
  pcs.resize(static_cast<std::size_t>(backtrace_parked(fiber.context(), pcs.data(), 100)));
  ASSERT_GE(pcs.size(), 3u);
  EXPECT_EQ(pcs[0], fiber.context().pc);
  EXPECT_TRUE(fiber.its_stack().contains(fiber.context().sp));
  EXPECT_TRUE(holds_function(pcs, reinterpret_cast<void*>(&parks_inner)));
  EXPECT_TRUE(holds_function(pcs, reinterpret_cast<void*>(&parks_outer)));
  EXPECT_FALSE(holds_function(pcs, reinterpret_cast<void*>(&host_of_walk)));
  const auto frame = fiber.context().fp;
  EXPECT_TRUE(frame == nullptr || fiber.its_stack().contains(frame));

  void* only_one[1];
  EXPECT_EQ(backtrace_parked(fiber.context(), only_one, 1), 1);
  fiber.resume();
}

TEST(arch_switch, a_stack_that_never_ran_shows_its_entry_only) {
  stack_pool pool;
  hand_fiber fiber(pool, [](hand_fiber&) {});
  void* pcs[10];
  EXPECT_EQ(backtrace_parked(fiber.context(), pcs, 10), 1);
  EXPECT_EQ(pcs[0], fiber.context().pc);
  EXPECT_EQ(fiber.context().fp, nullptr);
  fiber.resume();
}

TEST(arch_switch, asserts_an_aligned_stack) {
  alignas(16) static char memory[1024];
  EXPECT_DEATH(static_cast<void>(make_frame(memory + 1000, nullptr, nullptr)), "unaligned");
}

}  // namespace
}  // namespace exeunt::arch
