// SPDX-License-Identifier: Apache-2.0
//
// Leaving one stack and going on with another. What a stack needs to go on lies outside it, in
// three words of its owner: the scheduler looks at those before the stack itself is touched.
//
// The switch is inline, so that calls and returns stay in balance: a processor predicts a return
// by the calls that it saw, and a switch that is itself a call leaves one behind that never
// returns, after which every return up the stack is predicted wrong (5 ns each).
#pragma once

#include <cstddef>

namespace exeunt::arch {

/// Where a stack that was left goes on. The place belongs to whoever owns the stack.
struct switch_context {
  void* sp = nullptr;
  void* fp = nullptr;  ///< frame pointer: rbp, x29
  void* pc = nullptr;  ///< null: nothing was ever prepared or left here
};

// What the compiler may keep in registers is saved by the function around the switch: it hears that
// all of them change.
#if defined(__x86_64__)
#if defined(__AVX512F__)
#define EXEUNT_SWITCH_CLOBBERS_MORE                                                             \
  , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",   \
      "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5", "k6", \
      "k7"
#else
#define EXEUNT_SWITCH_CLOBBERS_MORE
#endif
#endif

/// Saves where the running stack goes on in `from`, and goes on with the one that `to` describes,
/// handing `message` over. The floating-point environment (rounding mode, exception masks) is not
/// switched: it belongs to the thread.
/// Returns: once somebody switches back to `from`, the message given by that switcher; by then the
///     thread may be another one, so nothing thread-local may be cached over the call.
/// Threads: `to` must have been saved completely, with everything before it visible to this thread.
/// Unwinding: exact at every instruction but the last three before the jump, which have the other
///     stack's registers one by one.
/// Cost: 1 ns, plus the cache misses of the other stack. It leaves by an indirect jump: a return
///     would be predicted to go back to whoever called last.
[[gnu::always_inline]] inline void* switch_to(switch_context& from, const switch_context& to,
                                              void* message) noexcept {
#if defined(__x86_64__)
  // notrack: the label is no endbr64, and only this jump goes there.
  auto* save = &from;
  const auto* load = &to;
  asm volatile(
      "leaq 1f(%%rip), %%rax\n\t"
      "movq %%rsp, 0(%%rdi)\n\t"
      "movq %%rbp, 8(%%rdi)\n\t"
      "movq %%rax, 16(%%rdi)\n\t"
      "movq 16(%%rsi), %%rcx\n\t"
      "movq 8(%%rsi), %%rbp\n\t"
      "movq 0(%%rsi), %%rsp\n\t"
      "notrack jmp *%%rcx\n"
      "1:\n\t"
      : "+D"(save), "+S"(load), "+d"(message)
      :
      : "rax", "rbx", "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1",
        "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
        "xmm13", "xmm14", "xmm15", "cc", "memory" EXEUNT_SWITCH_CLOBBERS_MORE);
  return message;
#elif defined(__aarch64__)
  // hint #36 is "bti j", a landing pad where branch targets are checked.
  register switch_context* save asm("x0") = &from;
  register const switch_context* load asm("x1") = &to;
  register void* handed asm("x2") = message;
  asm volatile(
      "adr x9, 1f\n\t"
      "mov x10, sp\n\t"
      "stp x10, x29, [x0]\n\t"
      "str x9, [x0, #16]\n\t"
      "ldr x9, [x1, #16]\n\t"
      "ldp x10, x29, [x1]\n\t"
      "mov sp, x10\n\t"
      "br x9\n"
      "1:\n\t"
      "hint #36\n\t"
      : "+r"(save), "+r"(load), "+r"(handed)
      :
      : "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16",
        "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x30",
        "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13",
        "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26",
        "v27", "v28", "v29", "v30", "v31", "cc", "memory");
  return handed;
#else
#error "exeunt: no stack switch for this CPU; add it here, with src/arch/entry_<cpu>.S"
#endif
}

#if defined(__x86_64__)
#undef EXEUNT_SWITCH_CLOBBERS_MORE
#endif

/// What a fresh stack is started with; never returns.
using entry_function = void (*)(void* arg, void* message);

/// Prepares a fresh stack so that the first switch to it calls `entry(arg, message)` on it, with
/// the message of that switch. Debuggers and unwinders that walk the stack stop below `entry`.
/// Returns: what to switch to.
/// Asserts: stack_top is aligned to 16 bytes.
[[nodiscard]] switch_context make_frame(void* stack_top, entry_function entry, void* arg);

/// Walks a stack that was left, by its unwind information, without writing to it.
/// Returns: the number of return addresses stored in `pcs`, innermost first; at most `max`.
/// Threads: nobody may switch to that stack meanwhile.
[[nodiscard]] int backtrace_parked(const switch_context& parked, void** pcs, int max);

}  // namespace exeunt::arch
