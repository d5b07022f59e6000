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

// While visit() runs, this frame claims to have been called by the parked stack: the caller's rsp,
// rbp and rip are the words of its switch_context. They lie nowhere near each other, hence DWARF
// expressions: DW_CFA_def_cfa_expression (0x0f) and DW_CFA_expression (0x10), of a register, a
// length, and DW_OP_breg3 (0x73, rbx plus so much), here and there with DW_OP_deref (0x06).
        .p2align 4
        .globl  exeunt_visit_parked
        .hidden exeunt_visit_parked
        .type   exeunt_visit_parked, @function
exeunt_visit_parked:                    // rdi: switch_context*, rsi: visit, rdx: arg
        .cfi_startproc
        endbr64
        pushq   %rbx
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbx, 0
        movq    %rdi, %rbx
        movq    %rdx, %rdi
        .cfi_remember_state
        .cfi_escape 0x0f, 3, 0x73, 0, 0x06      // the CFA is what lies at rbx: sp
        .cfi_escape 0x10, 6, 2, 0x73, 8         // rbp is at rbx + 8: fp
        .cfi_escape 0x10, 16, 2, 0x73, 16       // rip is at rbx + 16: pc
        .cfi_undefined %rbx
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
