// SPDX-License-Identifier: Apache-2.0
// A lock that nobody else wants, taken and released again and again: the same for all contenders.

#pragma once

namespace rivals {

template <typename Mutex>
void lock_alone(long count) {
  Mutex mutex;
  for (long i = 0; i < count; ++i) {
    mutex.lock();
    mutex.unlock();
  }
}

template <typename Mutex>
void lock_shared_alone(long count) {
  Mutex mutex;
  for (long i = 0; i < count; ++i) {
    mutex.lock_shared();
    mutex.unlock_shared();
  }
}

}  // namespace rivals
