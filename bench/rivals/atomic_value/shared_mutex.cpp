// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, with threads and a value under a std::shared_mutex.

#include <mutex>
#include <shared_mutex>

#include "on_threads.hpp"

namespace {

struct locked {
  struct reader {};
  long number() const {
    const std::shared_lock held{lock};
    return value.number;
  }
  void store(long n) {
    const std::lock_guard held{lock};
    value = {.number = n};
  }
  mutable std::shared_mutex lock;
  rivals::config value;
};

}  // namespace

int main(int argc, char** argv) { return rivals::look_on_threads<locked>(argc, argv); }
