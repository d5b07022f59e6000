// SPDX-License-Identifier: Apache-2.0
//
// Where a fresh stack begins, for 64-bit ARM (AAPCS64). Its picture, from the prepared sp upwards:
//
//      sp + 16   two words of zeros, up to the top
//            8   arg
//      sp +  0   entry
//
// The switch itself is inline, in switch.hpp.

#if defined(__aarch64__)

        .text
// The bottom frame of every fiber. An undefined return address is how unwinders learn that nothing
// is below. The nop in front belongs to the function: unwinders look a return address up one byte
// earlier, and on a stack that never ran exeunt_entry itself is the return address.
        .p2align 4
        .type   exeunt_entry_function, %function
exeunt_entry_function:
        .cfi_startproc
        .cfi_def_cfa sp, 32
        .cfi_undefined x30
        .cfi_undefined x29
        nop
        .globl  exeunt_entry
        .hidden exeunt_entry
exeunt_entry:                           // x2: message, x29: 0
        hint    #36                     // bti j
        ldp     x9, x0, [sp]
        mov     x1, x2
        blr     x9
        brk     #1
        .cfi_endproc
        .size   exeunt_entry_function, . - exeunt_entry_function

#if defined(__ARM_FEATURE_BTI_DEFAULT)
        .section .note.gnu.property, "a", %note
        .p2align 3
        .long   4, 16, 5                // name size, description size, NT_GNU_PROPERTY_TYPE_0
        .asciz  "GNU"
        .long   0xc0000000, 4, 1, 0     // GNU_PROPERTY_AARCH64_FEATURE_1_AND: BTI
#endif

#endif

        .section .note.GNU-stack, "", %progbits
