// SPDX-License-Identifier: Apache-2.0
// Sleeping on a word of memory, and waking who sleeps there.

#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <climits>
#include <cstdint>
#include <ctime>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/clock.hpp>

namespace exeunt::sched {

/// Blocks the thread while `word` is `seen`; may return without reason.
inline void futex_wait(detail::atomic<std::uint32_t>& word, std::uint32_t seen) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
}

/// As futex_wait(), for at most `limit`.
inline void futex_wait_for(detail::atomic<std::uint32_t>& word, std::uint32_t seen,
                           clock::duration limit) noexcept {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(limit);
  timespec relative{};
  relative.tv_sec = seconds.count();
  relative.tv_nsec = (limit - seconds).count();
  ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, &relative, nullptr, 0);
}

/// Wakes up to `count` threads. `word` may be gone already: the kernel only takes its address.
inline void futex_wake(detail::atomic<std::uint32_t>& word, int count) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

}  // namespace exeunt::sched
