// SPDX-License-Identifier: Apache-2.0
// Signals that a test sends to its own process.

#pragma once

#include <gtest/gtest.h>

#include <unistd.h>
#include <csignal>

#include <exeunt/chan/chan.hpp>
#include <exeunt/os/signal.hpp>

namespace exeunt::test {

inline void raise_here(int number) { ASSERT_EQ(::kill(::getpid(), number), 0); }

/// To this very thread, so that the handler has run on return.
inline void raise_at_once(int number) { ASSERT_EQ(::raise(number), 0); }

/// Returns: when everything that has been counted until now has been delivered.
inline void settle() {
  // A subscription's stop waits for a whole round of the delivering thread.
  chan<int> none{1};
  auto subscription = signal::notify(none, {SIGURG});
  subscription.stop();
}

}  // namespace exeunt::test
