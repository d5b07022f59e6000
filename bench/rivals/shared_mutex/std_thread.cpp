// SPDX-License-Identifier: Apache-2.0
// A std::shared_mutex by one of two threads, the other of which wants nothing: the lock alone, set
// against both of ours in a fiber and in a thread.

#include <shared_mutex>
#include <string>

#include "locking.hpp"
#include "std_thread.hpp"

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return rivals::std_thread::run(bench.workers(), [&] {
    rivals::on_thread([&] {
      for (const std::string name : {"shared", "read_mostly"}) {
        bench.per_op(name + "_read_alone", 20'000'000, 1,
                     rivals::lock_shared_alone<std::shared_mutex>);
        bench.per_op(name + "_write_alone", 2'000'000, 1, rivals::lock_alone<std::shared_mutex>);
        bench.per_op(name + "_thread_read", 20'000'000, 1,
                     rivals::lock_shared_alone<std::shared_mutex>);
        bench.per_op(name + "_thread_write", 2'000'000, 1, rivals::lock_alone<std::shared_mutex>);
      }
    });
  });
}
