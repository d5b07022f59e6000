// SPDX-License-Identifier: Apache-2.0
// A readers-writer lock: locked and unlocked alone, in a fiber and in a plain thread, and by 8
// fibers of which each writes once in 1000 times. read_mostly_mutex runs the same; Go and std have
// but one such lock, and so two ratios.

#include <string>

#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/read_mostly_mutex.hpp>
#include <exeunt/sync/shared_mutex.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"
#include "locking.hpp"

namespace {

template <typename Mutex>
void read_by_many(long count, long fibers) {
  Mutex mutex;
  exeunt::wait_group group;
  long written = 0;
  const long share = count / fibers;
  for (long f = 0; f < fibers; ++f) {
    group.go([&] {
      long seen = 0;
      for (long i = 1; i <= share; ++i) {
        if (i % 1000 == 0) {
          mutex.lock();
          ++written;
          mutex.unlock();
        } else {
          mutex.lock_shared();
          seen += written;
          mutex.unlock_shared();
        }
      }
      rivals::keep(seen);
    });
  }
  group.wait();
  rivals::require(written == share / 1000 * fibers, "shared_mutex");
}

template <typename Mutex>
void measure_on_thread(rivals::harness& bench, const std::string& name) {
  bench.per_op(name + "_thread_read", 20'000'000, 1, rivals::lock_shared_alone<Mutex>);
  bench.per_op(name + "_thread_write", 2'000'000, 1, rivals::lock_alone<Mutex>);
}

template <typename Mutex>
void measure(rivals::harness& bench, const std::string& name) {
  bench.per_op(name + "_read_alone", 20'000'000, 1, rivals::lock_shared_alone<Mutex>);
  bench.per_op(name + "_write_alone", 2'000'000, 1, rivals::lock_alone<Mutex>);
  bench.per_op(name + "_999_reads_8_fibers", 8'000'000, 8,
               [](long n) { read_by_many<Mutex>(n, 8); });
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  rivals::on_thread([&] {
    measure_on_thread<exeunt::shared_mutex>(bench, "shared");
    measure_on_thread<exeunt::read_mostly_mutex>(bench, "read_mostly");
  });
  return exeunt::run(
      [&] {
        measure<exeunt::shared_mutex>(bench, "shared");
        measure<exeunt::read_mostly_mutex>(bench, "read_mostly");
      },
      {.procs = bench.workers()});
}
