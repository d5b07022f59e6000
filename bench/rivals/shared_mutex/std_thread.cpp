// SPDX-License-Identifier: Apache-2.0
// A std::shared_mutex by one of two threads, the other of which wants nothing: the lock alone, set
// against both of ours in a fiber and in a thread.

#include <shared_mutex>
#include <string>

#include "std_thread.hpp"

namespace {

void read_alone(long count) {
  std::shared_mutex mutex;
  for (long i = 0; i < count; ++i) {
    mutex.lock_shared();
    mutex.unlock_shared();
  }
}

void write_alone(long count) {
  std::shared_mutex mutex;
  for (long i = 0; i < count; ++i) {
    mutex.lock();
    mutex.unlock();
  }
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return rivals::std_thread::run(bench.workers(), [&] {
    rivals::on_thread([&] {
      for (const std::string name : {"shared", "read_mostly"}) {
        bench.per_op(name + "_read_alone", 20'000'000, 1, read_alone);
        bench.per_op(name + "_write_alone", 2'000'000, 1, write_alone);
        bench.per_op(name + "_thread_read", 20'000'000, 1, read_alone);
        bench.per_op(name + "_thread_write", 2'000'000, 1, write_alone);
      }
    });
  });
}
