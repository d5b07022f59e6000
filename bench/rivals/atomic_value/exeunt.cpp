// SPDX-License-Identifier: Apache-2.0
// Looking at a value that is replaced as a whole: by a fiber for each worker, without stores, and
// with one in a thousand. An operation is one look; with two workers two are made at a time.

#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/atomic_value.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"

namespace {

struct config {
  long number = 1;
  long more[7] = {};
};

void look(long count, unsigned fibers, long store_every) {
  exeunt::atomic_value<config> value{config{}};
  exeunt::wait_group group;
  for (unsigned i = 0; i < fibers; ++i) {
    group.go([&, share = count / fibers] {
      long sum = 0;
      for (long j = 1; j <= share; ++j) {
        if (store_every != 0 && j % store_every == 0) value.store({});
        sum += value.load()->number;
      }
      rivals::require(sum == share, "atomic_value");
    });
  }
  group.wait();
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  const unsigned fibers = bench.workers();
  return exeunt::run(
      [&] {
        bench.per_op("value_load", 50'000'000, fibers, [=](long n) { look(n, fibers, 0); });
        bench.per_op("value_load_mostly", 20'000'000, fibers,
                     [=](long n) { look(n, fibers, 1000); });
      },
      {.procs = bench.workers()});
}
