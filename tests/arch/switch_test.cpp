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
  void* host_sp = nullptr;
  void* fiber_sp = nullptr;
  std::vector<std::intptr_t> got;
};

TEST(arch_switch, hands_messages_over_in_both_directions) {
  if (EXEUNT_SAN_ADDRESS || EXEUNT_SAN_THREAD)
    GTEST_SKIP() << "switches without telling the sanitizer";
  stack_pool pool;
  const stack s = pool.get();
  ping_pong p;
  p.fiber_sp = make_frame(
      s.top(),
      [](void* arg, void* message) {
        auto& self = *static_cast<ping_pong*>(arg);
        for (;;) {
          self.got.push_back(reinterpret_cast<std::intptr_t>(message));
          message = exeunt_switch(&self.fiber_sp, self.host_sp,
                                  reinterpret_cast<void*>(self.got.back() * 10));
        }
      },
      &p);
  for (std::intptr_t i = 1; i <= 3; ++i) {
    void* const answer = exeunt_switch(&p.host_sp, p.fiber_sp, reinterpret_cast<void*>(i));
    EXPECT_EQ(reinterpret_cast<std::intptr_t>(answer), i * 10);
  }
  EXPECT_EQ(p.got, (std::vector<std::intptr_t>{1, 2, 3}));
  pool.put(s);
}

// Fills every callee-saved register that a compiler may use with values made from `seed`, switches,
// and stores in `out` what is in them afterwards. Returns the number of registers.
int hold_registers(void** save, void* to, std::uint64_t seed, std::uint64_t* out) {
#if defined(__x86_64__)
  void* message = nullptr;
  asm volatile(
      "subq $128, %%rsp\n\t"  // past the red zone
      "pushq %[out]\n\t"
      "movq %[seed], %%rbx\n\t"
      "leaq 1(%%rbx), %%r12\n\t"
      "leaq 2(%%rbx), %%r13\n\t"
      "leaq 3(%%rbx), %%r14\n\t"
      "leaq 4(%%rbx), %%r15\n\t"
      "call exeunt_switch\n\t"
      "popq %%rcx\n\t"
      "movq %%rbx, (%%rcx)\n\t"
      "movq %%r12, 8(%%rcx)\n\t"
      "movq %%r13, 16(%%rcx)\n\t"
      "movq %%r14, 24(%%rcx)\n\t"
      "movq %%r15, 32(%%rcx)\n\t"
      "addq $128, %%rsp\n\t"
      : "+D"(save), "+S"(to), "+d"(message)
      : [out] "a"(out), [seed] "c"(seed)
      : "rbx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1", "xmm2", "xmm3",
        "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
        "xmm15", "cc", "memory");
  return 5;
#else
  register void** x0 asm("x0") = save;
  register void* x1 asm("x1") = to;
  register std::uint64_t x2 asm("x2") = seed;
  register std::uint64_t* x3 asm("x3") = out;
  asm volatile(
      "str x3, [sp, #-16]!\n\t"
      "mov x20, x2\n\t"
      "add x21, x20, #1\n\t"
      "add x22, x20, #2\n\t"
      "add x23, x20, #3\n\t"
      "add x24, x20, #4\n\t"
      "add x25, x20, #5\n\t"
      "add x26, x20, #6\n\t"
      "add x27, x20, #7\n\t"
      "add x28, x20, #8\n\t"
      "add x9, x20, #9\n\t"
      "fmov d8, x9\n\t"
      "add x9, x20, #10\n\t"
      "fmov d9, x9\n\t"
      "add x9, x20, #11\n\t"
      "fmov d10, x9\n\t"
      "add x9, x20, #12\n\t"
      "fmov d11, x9\n\t"
      "add x9, x20, #13\n\t"
      "fmov d12, x9\n\t"
      "add x9, x20, #14\n\t"
      "fmov d13, x9\n\t"
      "add x9, x20, #15\n\t"
      "fmov d14, x9\n\t"
      "add x9, x20, #16\n\t"
      "fmov d15, x9\n\t"
      "bl exeunt_switch\n\t"
      "ldr x3, [sp], #16\n\t"
      "stp x20, x21, [x3]\n\t"
      "stp x22, x23, [x3, #16]\n\t"
      "stp x24, x25, [x3, #32]\n\t"
      "stp x26, x27, [x3, #48]\n\t"
      "str x28, [x3, #64]\n\t"
      "str d8, [x3, #72]\n\t"
      "stp d9, d10, [x3, #80]\n\t"
      "stp d11, d12, [x3, #96]\n\t"
      "stp d13, d14, [x3, #112]\n\t"
      "str d15, [x3, #128]\n\t"
      : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)
      :
      : "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
        "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x30", "v0", "v1", "v2",
        "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "cc",
        "memory");
  return 17;
#endif
}

TEST(arch_switch, keeps_callee_saved_registers_of_both_sides) {
  if (EXEUNT_SAN_ADDRESS || EXEUNT_SAN_THREAD)
    GTEST_SKIP() << "switches without telling the sanitizer";
  struct side {
    void* host_sp = nullptr;
    void* fiber_sp = nullptr;
    std::uint64_t registers[17] = {};
    int count = 0;
  };
  stack_pool pool;
  const stack s = pool.get();
  side fiber;
  fiber.fiber_sp = make_frame(
      s.top(),
      [](void* arg, void*) {
        auto& self = *static_cast<side*>(arg);
        self.count = hold_registers(&self.fiber_sp, self.host_sp, 7000, self.registers);
        exeunt_switch(&self.fiber_sp, self.host_sp, nullptr);
      },
      &fiber);
  std::uint64_t here[17] = {};
  const int count = hold_registers(&fiber.host_sp, fiber.fiber_sp, 5000, here);
  exeunt_switch(&fiber.host_sp, fiber.fiber_sp, nullptr);
  ASSERT_EQ(fiber.count, count);
  for (int i = 0; i < count; ++i) {
    EXPECT_EQ(here[i], 5000u + static_cast<unsigned>(i)) << "register " << i;
    EXPECT_EQ(fiber.registers[i], 7000u + static_cast<unsigned>(i)) << "register " << i;
  }
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
  pcs.resize(static_cast<std::size_t>(backtrace_parked(fiber.sp(), pcs.data(), 100)));
  ASSERT_GE(pcs.size(), 3u);
  EXPECT_EQ(pcs[0], saved_pc(fiber.sp()));
  EXPECT_TRUE(fiber.its_stack().contains(resumed_sp(fiber.sp())));
  EXPECT_TRUE(holds_function(pcs, reinterpret_cast<void*>(&parks_inner)));
  EXPECT_TRUE(holds_function(pcs, reinterpret_cast<void*>(&parks_outer)));
  EXPECT_FALSE(holds_function(pcs, reinterpret_cast<void*>(&host_of_walk)));
  const auto frame = saved_fp(fiber.sp());
  EXPECT_TRUE(frame == nullptr || fiber.its_stack().contains(frame));

  void* only_one[1];
  EXPECT_EQ(backtrace_parked(fiber.sp(), only_one, 1), 1);
  fiber.resume();
}

TEST(arch_switch, a_stack_that_never_ran_shows_its_entry_only) {
  stack_pool pool;
  hand_fiber fiber(pool, [](hand_fiber&) {});
  void* pcs[10];
  EXPECT_EQ(backtrace_parked(fiber.sp(), pcs, 10), 1);
  EXPECT_EQ(pcs[0], saved_pc(fiber.sp()));
  EXPECT_EQ(saved_fp(fiber.sp()), nullptr);
  fiber.resume();
}

TEST(arch_switch, asserts_an_aligned_stack) {
  alignas(16) static char memory[1024];
  EXPECT_DEATH(static_cast<void>(make_frame(memory + 1000, nullptr, nullptr)), "unaligned");
}

}  // namespace
}  // namespace exeunt::arch
