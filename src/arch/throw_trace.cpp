// SPDX-License-Identifier: Apache-2.0
// Recording the stack of a throw while it is still there, and printing it; no state.

#include "arch/throw_trace.hpp"

#include <cxxabi.h>
#include <unwind.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string_view>

#include <exeunt/base/assert.hpp>

#include "arch/symbols.hpp"

extern "C" {
// In trace_<cpu>.S.
[[gnu::visibility("hidden")]] void exeunt_call_tracing(void (*fn)(void*), void* arg,
                                                       exeunt::arch::throw_trace* trace);
// Called by the unwinder for that frame.
[[gnu::visibility("hidden"), gnu::used]] _Unwind_Reason_Code exeunt_throw_personality(
    int version, _Unwind_Action actions, _Unwind_Exception_Class exception_class,
    _Unwind_Exception* exception, _Unwind_Context* context);
}

namespace exeunt::arch {
namespace {

// The register in which exeunt_call_tracing() keeps its third argument, as DWARF numbers it.
#if defined(__x86_64__)
constexpr int trace_register = 3;  // rbx
#else
constexpr int trace_register = 19;  // x19
#endif

throw_trace* trace_of(_Unwind_Context* call_tracing_frame) {
  return reinterpret_cast<throw_trace*>(_Unwind_GetGR(call_tracing_frame, trace_register));
}

struct recording {
  throw_trace* trace;
  bool past_personality;
};

// On the stack of a throw there are, innermost first: this recorder and the personality routine,
// the unwinder, __cxa_throw(), then what is wanted, up to the frame of exeunt_call_tracing().
_Unwind_Reason_Code record_frame(_Unwind_Context* context, void* arg) {
  auto& r = *static_cast<recording*>(arg);
  const auto function = _Unwind_GetRegionStart(context);
  if (!r.past_personality) {
    r.past_personality = function == reinterpret_cast<_Unwind_Ptr>(&exeunt_throw_personality);
    return _URC_NO_REASON;
  }
  const auto pc = _Unwind_GetIP(context);
  const bool at_boundary =  // this one, not one further in
      function == reinterpret_cast<_Unwind_Ptr>(&exeunt_call_tracing) &&
      trace_of(context) == r.trace;
  if (pc == 0 || at_boundary) return _URC_END_OF_STACK;
  return r.trace->add(reinterpret_cast<void*>(pc)) ? _URC_NO_REASON : _URC_END_OF_STACK;
}

bool is_throwing_machinery(std::string_view symbol) {
  for (const std::string_view wrapper : {"___interceptor_", "__interceptor_"}) {
    if (symbol.starts_with(wrapper)) symbol.remove_prefix(wrapper.size());
  }
  return symbol.starts_with("_Unwind_") || symbol.starts_with("__cxa_throw") ||
         symbol.starts_with("__cxa_rethrow") || symbol.starts_with("_ZSt17rethrow_exception") ||
         symbol.starts_with("_ZSt9terminatev") || symbol.starts_with("_ZSt17__throw_");
}

std::string demangle(const char* name) {
  int status = -1;
  char* const plain = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string result = status == 0 && plain != nullptr ? plain : name;
  std::free(plain);
  return result;
}

std::string_view file_name(std::string_view path) {
  return path.substr(path.rfind('/') + 1);  // npos + 1 is 0
}

std::string hex(std::uintptr_t value) {
  char buf[2 + 2 * sizeof value + 1];
  std::snprintf(buf, sizeof buf, "0x%lx", static_cast<unsigned long>(value));
  return buf;
}

}  // namespace

bool throw_trace::begin() noexcept {
  if (taken_ == nullptr) taken_.reset(new (std::nothrow) record);
  if (taken_ == nullptr) return false;
  taken_->depth = 0;
  return true;
}

bool throw_trace::add(void* pc) noexcept {
  if (taken_->depth == max) return false;
  taken_->pc[taken_->depth++] = pc;
  return true;
}

void call_tracing(void (*fn)(void*), void* arg, throw_trace* trace) {
  EXEUNT_ASSERT(trace != nullptr);
  exeunt_call_tracing(fn, arg, trace);
}

std::string format_trace(void* const* pcs, int depth) {
  std::string text;
  symbol_files files;
  int shown = 0;
  for (int i = 0; i < depth; ++i) {
    const auto pc = reinterpret_cast<std::uintptr_t>(pcs[i]);
    const auto at = files.find(pc - 1);  // inside the call, also if that was the last instruction
    if (shown == 0 && is_throwing_machinery(at.name)) continue;
    text += "  #" + std::to_string(shown++) + ' ';
    if (at.name.empty()) {
      text += hex(pc);
    } else {
      text += demangle(at.name.c_str()) + '+' + hex(pc - at.start);
    }
    text += " (";
    text += at.binary.empty() ? std::string_view("?") : file_name(at.binary);
    text += '+' + hex(pc - at.load_base) + ")\n";
  }
  return text;
}

std::string demangled_type_name(const std::type_info& type) {
  const char* name = type.name();
  if (*name == '*') ++name;  // GCC's mark for types that are compared by address
  return demangle(name);
}

}  // namespace exeunt::arch

_Unwind_Reason_Code exeunt_throw_personality(int version, _Unwind_Action actions,
                                             _Unwind_Exception_Class /*exception_class*/,
                                             _Unwind_Exception* /*exception*/,
                                             _Unwind_Context* context) {
  using namespace exeunt::arch;
  // The search phase is one of ordinary exceptions: forced unwinding has none.
  if (version == 1 && (actions & _UA_SEARCH_PHASE) != 0) {
    throw_trace* const trace = trace_of(context);
    recording r{trace, false};
    if (trace->begin()) _Unwind_Backtrace(record_frame, &r);
  }
  return _URC_CONTINUE_UNWIND;
}
