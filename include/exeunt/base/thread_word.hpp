// SPDX-License-Identifier: Apache-2.0
// detail: reading a thread-local pointer so that the compiler can neither keep it nor its address.
//
// Compilers take the address of a thread-local for a constant of the function, but a fiber may go
// on with another thread behind any call. The usual answer is a function that is not inlined: 2 to
// 3 ns, a quarter of a yield. This reads the thread pointer anew in each place.

#pragma once

#if defined(__x86_64__)

/// The value that the thread-local `NAME`, a pointer with C linkage, has on this thread now.
#define EXEUNT_READ_THREAD_WORD(NAME)       \
  ([]() noexcept {                          \
    decltype(NAME) word;                    \
    asm volatile("movq " #NAME              \
                 "@gottpoff(%%rip), %0\n\t" \
                 "movq %%fs:(%0), %0"       \
                 : "=r"(word)               \
                 :                          \
                 : "memory");               \
    return word;                            \
  }())

#elif defined(__aarch64__)

#define EXEUNT_READ_THREAD_WORD(NAME)        \
  ([]() noexcept {                           \
    decltype(NAME) word;                     \
    void* base;                              \
    asm volatile(                            \
        "mrs %1, tpidr_el0\n\t"              \
        "adrp %0, :gottprel:" #NAME          \
        "\n\t"                               \
        "ldr %0, [%0, :gottprel_lo12:" #NAME \
        "]\n\t"                              \
        "ldr %0, [%1, %0]"                   \
        : "=&r"(word), "=&r"(base)           \
        :                                    \
        : "memory");                         \
    return word;                             \
  }())

#else
#error "exeunt: no way to read a thread-local for this CPU; add it here"
#endif
