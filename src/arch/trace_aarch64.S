// SPDX-License-Identifier: Apache-2.0
//
// Frames that exist for their unwind information, for 64-bit ARM: one with a personality routine
// (throw_trace.cpp), and one that poses as a parked stack's innermost frame (switch.cpp).

#if defined(__aarch64__)

        .text
        .p2align 4
        .globl  exeunt_call_tracing
        .hidden exeunt_call_tracing
        .type   exeunt_call_tracing, %function
exeunt_call_tracing:                    // x0: fn, x1: arg, x2: throw_trace*
        .cfi_startproc
        // 0x1b: relative to the place, four bytes, direct. The routine is in this very binary.
        .cfi_personality 0x1b, exeunt_throw_personality
        hint    #34                     // bti c
        stp     x29, x30, [sp, #-32]!
        .cfi_def_cfa_offset 32
        .cfi_rel_offset x29, 0
        .cfi_rel_offset x30, 8
        mov     x29, sp
        str     x19, [sp, #16]
        .cfi_rel_offset x19, 16
        mov     x19, x2                 // where the personality routine finds it
        mov     x16, x0
        mov     x0, x1
        blr     x16
        ldr     x19, [sp, #16]
        .cfi_restore x19
        ldp     x29, x30, [sp], #32
        .cfi_def_cfa_offset 0
        .cfi_restore x29
        .cfi_restore x30
        ret
        .cfi_endproc
        .size   exeunt_call_tracing, . - exeunt_call_tracing

// While visit() runs, this frame claims to have been called by the parked stack; trace_x86_64.S
// explains how. DW_OP_breg19 is 0x83.
        .p2align 4
        .globl  exeunt_visit_parked
        .hidden exeunt_visit_parked
        .type   exeunt_visit_parked, %function
exeunt_visit_parked:                    // x0: switch_context*, x1: visit, x2: arg
        .cfi_startproc
        hint    #34                     // bti c
        stp     x29, x30, [sp, #-32]!
        .cfi_def_cfa_offset 32
        .cfi_rel_offset x29, 0
        .cfi_rel_offset x30, 8
        str     x19, [sp, #16]
        .cfi_rel_offset x19, 16
        mov     x19, x0
        mov     x0, x2
        .cfi_remember_state
        .cfi_escape 0x0f, 3, 0x83, 0, 0x06      // the CFA is what lies at x19: sp
        .cfi_escape 0x10, 29, 2, 0x83, 8        // x29 is at x19 + 8: fp
        .cfi_escape 0x10, 30, 2, 0x83, 16       // the return address is at x19 + 16: pc
        .cfi_undefined x19
        blr     x1
        nop                             // the return address must lie inside the claim
        .cfi_restore_state
        ldr     x19, [sp, #16]
        .cfi_restore x19
        ldp     x29, x30, [sp], #32
        .cfi_def_cfa_offset 0
        .cfi_restore x29
        .cfi_restore x30
        ret
        .cfi_endproc
        .size   exeunt_visit_parked, . - exeunt_visit_parked

#if defined(__ARM_FEATURE_BTI_DEFAULT)
        .section .note.gnu.property, "a", %note
        .p2align 3
        .long   4, 16, 5                // name size, description size, NT_GNU_PROPERTY_TYPE_0
        .asciz  "GNU"
        .long   0xc0000000, 4, 1, 0     // GNU_PROPERTY_AARCH64_FEATURE_1_AND: BTI
#endif

#endif

        .section .note.GNU-stack, "", %progbits
