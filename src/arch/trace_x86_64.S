// SPDX-License-Identifier: Apache-2.0
//
// Frames that exist for their unwind information, for x86-64: one with a personality routine
// (throw_trace.cpp), and one that poses as a parked stack's innermost frame (switch.cpp).

#if defined(__x86_64__)

        .text
        .p2align 4
        .globl  exeunt_call_tracing
        .hidden exeunt_call_tracing
        .type   exeunt_call_tracing, @function
exeunt_call_tracing:                    // rdi: fn, rsi: arg, rdx: throw_trace*
        .cfi_startproc
        // 0x1b: relative to the place, four bytes, direct. The routine is in this very binary.
        .cfi_personality 0x1b, exeunt_throw_personality
        endbr64
        pushq   %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbp, 0
        movq    %rsp, %rbp
        .cfi_def_cfa_register %rbp
        pushq   %rbx
        .cfi_offset %rbx, -24
        pushq   %rdx                    // for the alignment
        movq    %rdx, %rbx              // where the personality routine finds it
        movq    %rdi, %rax
        movq    %rsi, %rdi
        callq   *%rax
        popq    %rdx
        popq    %rbx
        .cfi_restore %rbx
        popq    %rbp
        .cfi_def_cfa %rsp, 8
        .cfi_restore %rbp
        retq
        .cfi_endproc
        .size   exeunt_call_tracing, . - exeunt_call_tracing

// While visit() runs, this frame claims to be exeunt_switch() on the parked stack: its CFA and the
// saved registers are those of the picture in switch_x86_64.S. The stack that runs is the caller's.
        .p2align 4
        .globl  exeunt_visit_parked
        .hidden exeunt_visit_parked
        .type   exeunt_visit_parked, @function
exeunt_visit_parked:                    // rdi: saved sp, rsi: visit, rdx: arg
        .cfi_startproc
        endbr64
        pushq   %rbx
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbx, 0
        movq    %rdi, %rbx
        movq    %rdx, %rdi
        .cfi_remember_state
        .cfi_def_cfa %rbx, 56
        .cfi_offset %rip, -8
        .cfi_offset %rbp, -16
        .cfi_offset %rbx, -24
        .cfi_offset %r12, -32
        .cfi_offset %r13, -40
        .cfi_offset %r14, -48
        .cfi_offset %r15, -56
        callq   *%rsi
        nop                             // the return address must lie inside the claim
        .cfi_restore_state
        popq    %rbx
        .cfi_adjust_cfa_offset -8
        .cfi_restore %rbx
        retq
        .cfi_endproc
        .size   exeunt_visit_parked, . - exeunt_visit_parked

        .section .note.gnu.property, "a", @note
        .p2align 3
        .long   4, 16, 5                // name size, description size, NT_GNU_PROPERTY_TYPE_0
        .asciz  "GNU"
        .long   0xc0000002, 4, 1, 0     // GNU_PROPERTY_X86_FEATURE_1_AND: IBT

#endif

        .section .note.GNU-stack, "", %progbits
