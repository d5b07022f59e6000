// SPDX-License-Identifier: Apache-2.0
//
// Stack switching for x86-64 (System V ABI).
//
// A stack that was left, from its saved sp upwards:
//
//      sp + 56   whatever the caller of exeunt_switch has there    <- rsp once it goes on
//           48   return address                                    switch_frame_pc
//           40   rbp                                               switch_frame_fp
//           32   rbx
//           24   r12          on a fresh stack: entry
//           16   r13          on a fresh stack: arg
//            8   r14
//      sp +  0   r15
//
// At every instruction the unwind information is that of this picture, before the change of stacks
// for the old one and afterwards for the new one, so a debugger may stop anywhere.
//
// The return is pop and jmp: a ret would be predicted to go back to whoever called last, which
// after a switch is always wrong (15 ns against 4.4). The jmp carries notrack, as the
// place after a call is no endbr64; exeunt_entry, which is reached by it too, has one nonetheless.
// Shadow stacks are not supported, and the property note below says so.

#if defined(__x86_64__)

        .text
        .p2align 4
        .globl  exeunt_switch
        .hidden exeunt_switch
        .type   exeunt_switch, @function
exeunt_switch:                          // rdi: void** save, rsi: to, rdx: message
        .cfi_startproc
        endbr64
        pushq   %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbp, 0
        pushq   %rbx
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbx, 0
        pushq   %r12
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r12, 0
        pushq   %r13
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r13, 0
        pushq   %r14
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r14, 0
        pushq   %r15
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r15, 0
        movq    %rsp, (%rdi)
        movq    %rsi, %rsp              // from here on, the other stack
        movq    %rdx, %rax
        popq    %r15
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r15
        popq    %r14
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r14
        popq    %r13
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r13
        popq    %r12
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r12
        popq    %rbx
        .cfi_adjust_cfa_offset -8
        .cfi_restore %rbx
        popq    %rbp
        .cfi_adjust_cfa_offset -8
        .cfi_restore %rbp
        popq    %rcx
        .cfi_adjust_cfa_offset -8
        .cfi_register %rip, %rcx
        notrack jmp *%rcx
        .cfi_endproc
        .size   exeunt_switch, . - exeunt_switch

// The bottom frame of every fiber. An undefined return address is how unwinders learn that nothing
// is below. The nop in front belongs to the function: unwinders look a return address up one byte
// earlier, and on a stack that never ran exeunt_entry itself is the return address.
        .p2align 4
        .type   exeunt_entry_function, @function
exeunt_entry_function:
        .cfi_startproc
        .cfi_def_cfa %rsp, 16
        .cfi_undefined %rip
        .cfi_undefined %rbp
        nop
        .globl  exeunt_entry
        .hidden exeunt_entry
exeunt_entry:                           // rax: message, r12: entry, r13: arg, rbp: 0
        endbr64
        movq    %r13, %rdi
        movq    %rax, %rsi
        callq   *%r12
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
