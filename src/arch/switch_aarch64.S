// SPDX-License-Identifier: Apache-2.0
//
// Stack switching for 64-bit ARM (AAPCS64).
//
// A stack that was left, from its saved sp upwards:
//
//      sp + 160  whatever the caller of exeunt_switch has there    <- sp once it goes on
//           96   d8 d9 d10 d11 d12 d13 d14 d15
//           16   x19 x20 x21 x22 x23 x24 x25 x26 x27 x28     on a fresh stack: x19 entry, x20 arg
//            8   x30, the return address                     switch_frame_pc
//      sp +  0   x29                                         switch_frame_fp
//
// x29 and x30 form a frame record, so a walk by frame pointers works as well.
//
// At every instruction the unwind information is that of this picture, before the change of stacks
// for the old one and afterwards for the new one, so a debugger may stop anywhere.
//
// The return is a plain jump: a ret would be predicted to go back to whoever called last, which
// after a switch is always wrong. Where branch targets are checked (BTI) it must be a ret all the
// same, as the place after a call is no landing pad.

#if defined(__aarch64__)

#if defined(__ARM_FEATURE_BTI_DEFAULT)
#define RETURN ret
#else
#define RETURN br x30
#endif

        .text
        .p2align 4
        .globl  exeunt_switch
        .hidden exeunt_switch
        .type   exeunt_switch, %function
exeunt_switch:                          // x0: void** save, x1: to, x2: message
        .cfi_startproc
        hint    #34                     // bti c
        sub     sp, sp, #160
        .cfi_def_cfa_offset 160
        stp     x29, x30, [sp, #0]
        .cfi_rel_offset x29, 0
        .cfi_rel_offset x30, 8
        stp     x19, x20, [sp, #16]
        .cfi_rel_offset x19, 16
        .cfi_rel_offset x20, 24
        stp     x21, x22, [sp, #32]
        .cfi_rel_offset x21, 32
        .cfi_rel_offset x22, 40
        stp     x23, x24, [sp, #48]
        .cfi_rel_offset x23, 48
        .cfi_rel_offset x24, 56
        stp     x25, x26, [sp, #64]
        .cfi_rel_offset x25, 64
        .cfi_rel_offset x26, 72
        stp     x27, x28, [sp, #80]
        .cfi_rel_offset x27, 80
        .cfi_rel_offset x28, 88
        stp     d8, d9, [sp, #96]
        .cfi_rel_offset 72, 96
        .cfi_rel_offset 73, 104
        stp     d10, d11, [sp, #112]
        .cfi_rel_offset 74, 112
        .cfi_rel_offset 75, 120
        stp     d12, d13, [sp, #128]
        .cfi_rel_offset 76, 128
        .cfi_rel_offset 77, 136
        stp     d14, d15, [sp, #144]
        .cfi_rel_offset 78, 144
        .cfi_rel_offset 79, 152
        mov     x9, sp
        str     x9, [x0]
        mov     sp, x1                  // from here on, the other stack
        mov     x0, x2
        ldp     x29, x30, [sp, #0]
        ldp     x19, x20, [sp, #16]
        ldp     x21, x22, [sp, #32]
        ldp     x23, x24, [sp, #48]
        ldp     x25, x26, [sp, #64]
        ldp     x27, x28, [sp, #80]
        ldp     d8, d9, [sp, #96]
        ldp     d10, d11, [sp, #112]
        ldp     d12, d13, [sp, #128]
        ldp     d14, d15, [sp, #144]    // what was loaded is still where the picture says
        add     sp, sp, #160
        .cfi_def_cfa_offset 0
        .cfi_restore x29
        .cfi_restore x30
        .cfi_restore x19
        .cfi_restore x20
        .cfi_restore x21
        .cfi_restore x22
        .cfi_restore x23
        .cfi_restore x24
        .cfi_restore x25
        .cfi_restore x26
        .cfi_restore x27
        .cfi_restore x28
        .cfi_restore 72
        .cfi_restore 73
        .cfi_restore 74
        .cfi_restore 75
        .cfi_restore 76
        .cfi_restore 77
        .cfi_restore 78
        .cfi_restore 79
        RETURN
        .cfi_endproc
        .size   exeunt_switch, . - exeunt_switch

// The bottom frame of every fiber. An undefined return address is how unwinders learn that nothing
// is below. The nop in front belongs to the function: unwinders look a return address up one byte
// earlier, and on a stack that never ran exeunt_entry itself is the return address.
        .p2align 4
        .type   exeunt_entry_function, %function
exeunt_entry_function:
        .cfi_startproc
        .cfi_def_cfa sp, 16
        .cfi_undefined x30
        .cfi_undefined x29
        nop
        .globl  exeunt_entry
        .hidden exeunt_entry
exeunt_entry:                           // x0: message, x19: entry, x20: arg, x29: 0
        hint    #36                     // bti j
        mov     x1, x0
        mov     x0, x20
        blr     x19
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
