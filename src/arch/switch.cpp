// SPDX-License-Identifier: Apache-2.0
// Fresh stacks, and walking parked ones; no state.

#include "arch/switch.hpp"

#include <unwind.h>

#include <cstdint>

#include <exeunt/base/assert.hpp>

extern "C" {
// In switch_<cpu>.S and trace_<cpu>.S.
[[gnu::visibility("hidden")]] extern const char exeunt_entry[];
[[gnu::visibility("hidden")]] void exeunt_visit_parked(void* sp, void (*visit)(void*), void* arg);
}

namespace exeunt::arch {
namespace {

struct walk {
  void** pcs;
  int max;
  int depth;
  bool in_parked;
};

_Unwind_Reason_Code on_frame(_Unwind_Context* context, void* arg) {
  auto& w = *static_cast<walk*>(arg);
  const auto pc = _Unwind_GetIP(context);
  if (!w.in_parked) {  // still on the stack of the caller
    w.in_parked =
        _Unwind_GetRegionStart(context) == reinterpret_cast<_Unwind_Ptr>(&exeunt_visit_parked);
    return _URC_NO_REASON;
  }
  if (pc == 0 || w.depth == w.max) return _URC_END_OF_STACK;
  w.pcs[w.depth++] = reinterpret_cast<void*>(pc);
  return _URC_NO_REASON;
}

}  // namespace

void* make_frame(void* stack_top, entry_function entry, void* arg) {
  EXEUNT_ASSERT(reinterpret_cast<std::uintptr_t>(stack_top) % 16 == 0, "an unaligned stack");
  auto* const top = static_cast<std::byte*>(stack_top);
  // Two words of zeros above the frame: where a walk by frame pointers or by guessing ends.
  std::byte* const sp = top - 16 - switch_frame_bytes;
  for (auto* word = reinterpret_cast<void**>(sp); word != stack_top; ++word) *word = nullptr;
  auto* const frame = reinterpret_cast<void**>(sp);
#if defined(__x86_64__)
  frame[3] = reinterpret_cast<void*>(entry);  // r12
  frame[2] = arg;                             // r13
#else
  frame[2] = reinterpret_cast<void*>(entry);  // x19
  frame[3] = arg;                             // x20
#endif
  frame[switch_frame_pc / sizeof(void*)] = const_cast<char*>(exeunt_entry);
  return sp;
}

int backtrace_parked(void* sp, void** pcs, int max) {
  walk w{pcs, max, 0, false};
  exeunt_visit_parked(sp, [](void* arg) { _Unwind_Backtrace(on_frame, arg); }, &w);
  return w.depth;
}

}  // namespace exeunt::arch
