// SPDX-License-Identifier: Apache-2.0
//
// Where a fresh stack begins, for x86-64 (System V ABI). Its picture, from the prepared sp upwards:
//
//      sp + 16   two words of zeros, up to the top
//            8   arg
//      sp +  0   entry
//
// The switch itself is inline, in switch.hpp. Shadow stacks are not supported, and the property
// note below says so.

#if defined(__x86_64__)

        .text
// The bottom frame of every fiber. An undefined return address is how unwinders learn that nothing
// is below. The nop in front belongs to the function: unwinders look a return address up one byte
// earlier, and on a stack that never ran exeunt_entry itself is the return address.
        .p2align 4
        .type   exeunt_entry_function, @function
exeunt_entry_function:
        .cfi_startproc
        .cfi_def_cfa %rsp, 32
        .cfi_undefined %rip
        .cfi_undefined %rbp
        nop
        .globl  exeunt_entry
        .hidden exeunt_entry
exeunt_entry:                           // rdx: message, rbp: 0
        endbr64
        movq    0(%rsp), %rax
        movq    8(%rsp), %rdi
        movq    %rdx, %rsi
        callq   *%rax
        ud2
        .cfi_endproc
        .size   exeunt_entry_function, . - exeunt_entry_function

        .section .note.gnu.property, "a", @note
        .p2align 3
        .long   4, 16, 5                // name size, description size, NT_GNU_PROPERTY_TYPE_0
        .asciz  "GNU"
        .long   0xc0000002, 4, 1, 0     // GNU_PROPERTY_X86_FEATURE_1_AND: IBT

#endif

        .section .note.GNU-stack, "", %progbits
