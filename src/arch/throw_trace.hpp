// SPDX-License-Identifier: Apache-2.0
//
// Where an exception that escapes a boundary was thrown: its stack is gone when it is caught, so it
// is recorded while the unwinder looks for a handler; and how to print such a stack.
#pragma once

#include <memory>
#include <string>
#include <typeinfo>

namespace exeunt::arch {

/// The return addresses of a throw, innermost first. One word until there is a throw: it lies on
/// the stack of every fiber, where each line of the cache counts.
class throw_trace {
 public:
  static constexpr int max = 48;

  [[nodiscard]] int depth() const noexcept { return taken_ == nullptr ? 0 : taken_->depth; }
  [[nodiscard]] void* const* pcs() const noexcept {
    return taken_ == nullptr ? nullptr : taken_->pc;
  }

  // For the one who records.

  /// Forgets what there was. Returns: false if there is no memory for a record.
  bool begin() noexcept;
  /// Returns: false if the record is full.
  bool add(void* pc) noexcept;

 private:
  struct record {
    int depth = 0;
    void* pc[max];
  };
  std::unique_ptr<record> taken_;
};

/// Calls fn(arg). An exception that leaves fn goes on to the caller, who catches it; before
/// anything is unwound, the stack from the throw up to this call is recorded in `*trace`. A later
/// exception overwrites the record; one caught inside fn leaves it alone, and so does a forced
/// unwind (pthread_cancel), which just passes. A `throw;` records where it stands. Without memory
/// for it there is no record.
/// Throws: what fn throws.
void call_tracing(void (*fn)(void*), void* arg, throw_trace* trace);

/// Returns: one line per address, `  #0 function+0x1c (binary+0x4f2c)\n`, without the frames of the
///     C++ runtime that did the throwing.
/// Threads: any; allocates; not for signal handlers.
[[nodiscard]] std::string format_trace(void* const* pcs, int depth);

/// Returns: the type's name as it is written in C++.
[[nodiscard]] std::string demangled_type_name(const std::type_info& type);

}  // namespace exeunt::arch
