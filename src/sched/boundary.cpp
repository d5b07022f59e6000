// SPDX-License-Identifier: Apache-2.0
// Catching what leaves a fiber, with the stack of its throw.
// Tests: tests/sched/runtime_test.cpp.

#include <exeunt/sched/boundary.hpp>

#include <cxxabi.h>

#include "arch/throw_trace.hpp"
#include "sched/reports.hpp"
#include "sched/runtime_core.hpp"

namespace exeunt::detail {

std::optional<error> call_caught(function_ref<void()> body) {
  arch::throw_trace trace;
  try {
    arch::call_tracing([](void* called) { (*static_cast<function_ref<void()>*>(called))(); }, &body,
                       &trace);
    return std::nullopt;
  } catch (const abi::__forced_unwind&) {
    throw;  // The thread is being cancelled; to swallow this ends the process.
  } catch (...) {
    return sched::error_of_catch(trace);
  }
}

void report_panic(const error& what) noexcept {
  sched::runtime_core::current_or_fatal().report_panic(what);
}

void report_panic_in(timer_queue* home, const error& what) noexcept {
  sched::runtime_hold hold;
  sched::runtime_core* const there = home == nullptr ? nullptr : home->find_home(hold);
  if (there != nullptr) {
    there->report_panic(what);
  } else {
    report_panic(what);
  }
}

}  // namespace exeunt::detail
