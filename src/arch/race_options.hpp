// SPDX-License-Identifier: Apache-2.0
//
// EXEUNT_RACE: what a user tells ThreadSanitizer, as GORACE does in Go.
#pragma once

#include "arch/sanitizer.hpp"

#if EXEUNT_SAN_THREAD

namespace exeunt::arch {

/// The options to begin with: ours, and what EXEUNT_RACE says, as it stands. TSAN_OPTIONS comes
/// after and has the last word.
///
/// Threads: called once, by the tool, before anything else of the program has run, the C library's
///          own initialisation among it: so it uses system calls only.
[[nodiscard]] const char* race_options() noexcept;

}  // namespace exeunt::arch

#endif
