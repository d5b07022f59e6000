// SPDX-License-Identifier: Apache-2.0
// Fresh stacks, and walking parked ones; no state.

#include "arch/switch.hpp"

#include <unwind.h>

#include <cstdint>

#include <exeunt/base/assert.hpp>

extern "C" {
// In entry_<cpu>.S and trace_<cpu>.S.
[[gnu::visibility("hidden")]] extern const char exeunt_entry[];
[[gnu::visibility("hidden")]] void exeunt_visit_parked(const exeunt::arch::switch_context* parked,
                                                       void (*visit)(void*), void* arg);
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

switch_context make_frame(void* stack_top, entry_function entry, void* arg) {
  EXEUNT_ASSERT(reinterpret_cast<std::uintptr_t>(stack_top) % 16 == 0, "an unaligned stack");
  // What exeunt_entry looks for, and above it two words of zeros: where a walk by frame pointers or
  // by guessing ends.
  auto* const sp = static_cast<void**>(stack_top) - 4;
  sp[0] = reinterpret_cast<void*>(entry);
  sp[1] = arg;
  sp[2] = nullptr;
  sp[3] = nullptr;
  return {.sp = sp, .fp = nullptr, .pc = const_cast<char*>(exeunt_entry)};
}

int backtrace_parked(const switch_context& parked, void** pcs, int max) {
  walk w{pcs, max, 0, false};
  exeunt_visit_parked(&parked, [](void* arg) { _Unwind_Backtrace(on_frame, arg); }, &w);
  return w.depth;
}

}  // namespace exeunt::arch
