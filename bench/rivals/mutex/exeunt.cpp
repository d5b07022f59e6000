// SPDX-License-Identifier: Apache-2.0
// Locking and unlocking a mutex: alone, in a fiber and in a plain thread, and with 2, 8 and 64
// fibers that do nothing else.

#include <mutex>

#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"
#include "locking.hpp"

namespace {

void lock_by_many(long count, long fibers) {
  exeunt::mutex mutex;
  exeunt::wait_group group;
  long total = 0;
  group.add(fibers);
  for (long i = 0; i < fibers; ++i) {
    exeunt::go([&, share = count / fibers] {
      for (long j = 0; j < share; ++j) {
        const std::lock_guard lock{mutex};
        ++total;
      }
      group.done();
    });
  }
  group.wait();
  rivals::require(total == count, "mutex");
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  rivals::on_thread(
      [&] { bench.per_op("mutex_thread", 20'000'000, 1, rivals::lock_alone<exeunt::mutex>); });
  return exeunt::run(
      [&] {
        bench.per_op("mutex_uncontended", 20'000'000, 1, rivals::lock_alone<exeunt::mutex>);
        bench.per_op("mutex_2_fibers", 4'000'000, 2, [](long n) { lock_by_many(n, 2); });
        bench.per_op("mutex_8_fibers", 4'000'000, 8, [](long n) { lock_by_many(n, 8); });
        bench.per_op("mutex_64_fibers", 4'000'000, 64, [](long n) { lock_by_many(n, 64); });
      },
      {.procs = bench.workers()});
}
