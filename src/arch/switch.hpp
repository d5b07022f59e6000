// SPDX-License-Identifier: Apache-2.0
//
// Leaving one stack and going on with another. A stack that is left keeps what it needs on itself;
// all that must be remembered outside is one pointer, its saved sp. The layout below sp is drawn in
// switch_x86_64.S and switch_aarch64.S, and the constants here must agree with it.
#pragma once

#include <cstddef>

extern "C" {

/// Saves the callee-saved registers on the current stack and the stack pointer in `*save`, and goes
/// on with the stack whose saved sp is `to`, handing `message` over.
/// The caller's floating-point environment (rounding mode, exception masks) is not switched: it
/// belongs to the thread.
/// Returns: once somebody switches back to `*save`, the message given by that switcher; by then the
///     thread may be another one, so nothing thread-local may be cached over the call.
/// Threads: `to` must have been saved completely, with everything before it visible to this thread.
/// Cost: 4.4 ns, plus the cache misses of the other stack.
[[gnu::nothrow, gnu::visibility("hidden")]] void* exeunt_switch(void** save, void* to,
                                                                void* message);

}  // extern "C"

namespace exeunt::arch {

#if defined(__x86_64__)
inline constexpr std::size_t switch_frame_bytes = 56;
inline constexpr std::size_t switch_frame_fp = 40;
inline constexpr std::size_t switch_frame_pc = 48;
#elif defined(__aarch64__)
inline constexpr std::size_t switch_frame_bytes = 160;
inline constexpr std::size_t switch_frame_fp = 0;
inline constexpr std::size_t switch_frame_pc = 8;
#else
#error "exeunt: no stack switch for this CPU; add src/arch/switch_<cpu>.S"
#endif

/// What a fresh stack is started with; never returns.
using entry_function = void (*)(void* arg, void* message);

/// Prepares a fresh stack so that the first switch to it calls `entry(arg, message)` on it, with
/// the message of that switch. Debuggers and unwinders that walk the stack stop below `entry`.
/// Returns: the saved sp to switch to.
/// Asserts: stack_top is aligned to 16 bytes.
[[nodiscard]] void* make_frame(void* stack_top, entry_function entry, void* arg);

/// Returns: where a stack that was left will go on: the return address of its exeunt_switch().
[[nodiscard]] inline void* saved_pc(const void* sp) noexcept {
  return *reinterpret_cast<void* const*>(static_cast<const std::byte*>(sp) + switch_frame_pc);
}

/// Returns: the frame pointer (rbp, x29) that a stack that was left will go on with.
[[nodiscard]] inline void* saved_fp(const void* sp) noexcept {
  return *reinterpret_cast<void* const*>(static_cast<const std::byte*>(sp) + switch_frame_fp);
}

/// Returns: the stack pointer that a stack that was left will go on with.
[[nodiscard]] inline void* resumed_sp(const void* sp) noexcept {
  return const_cast<std::byte*>(static_cast<const std::byte*>(sp)) + switch_frame_bytes;
}

/// Walks a stack that was left, by its unwind information, without writing to it.
/// Returns: the number of return addresses stored in `pcs`, innermost first; at most `max`.
/// Threads: nobody may switch to that stack meanwhile.
[[nodiscard]] int backtrace_parked(void* sp, void** pcs, int max);

}  // namespace exeunt::arch
