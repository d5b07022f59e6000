// SPDX-License-Identifier: Apache-2.0
// A std::mutex by one of two threads, the other of which wants nothing: the lock alone, set against
// ours in a fiber and in a thread.

#include <mutex>

#include "locking.hpp"
#include "std_thread.hpp"

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return rivals::std_thread::run(bench.workers(), [&] {
    rivals::on_thread([&] {
      bench.per_op("mutex_uncontended", 20'000'000, 1, rivals::lock_alone<std::mutex>);
      bench.per_op("mutex_thread", 20'000'000, 1, rivals::lock_alone<std::mutex>);
    });
  });
}
