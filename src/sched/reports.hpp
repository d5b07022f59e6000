// SPDX-License-Identifier: Apache-2.0
// How fibers are told of, in lines for people.

#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <exeunt/base/error.hpp>
#include <exeunt/sched/runtime.hpp>

namespace exeunt::arch {
class throw_trace;
}  // namespace exeunt::arch

namespace exeunt::sched {

/// One line, without its end.
[[nodiscard]] std::string describe(const fiber_info& info);
/// The running fiber, if the caller is one; else nothing is written. Allocates nothing.
void describe_running(char* buffer, unsigned long size) noexcept;
/// The same, if the fault at `address` is an overflow of its stack. Returns: whether it is.
bool describe_overflow(void* address, char* buffer, std::size_t size);
/// Reports each as leaked. Returns: how many were reported.
std::size_t report_left(const std::vector<fiber_info>& left) noexcept;
/// In a handler: what it has caught, thrown where `trace` says, in the running fiber.
[[nodiscard, gnu::cold]] error error_of_catch(const arch::throw_trace& trace);

}  // namespace exeunt::sched
