// SPDX-License-Identifier: Apache-2.0
// What small things cost a caller who never has to wait: a group's add() and done(), a once that is
// done, a semaphore's unit. Go's standard library has no semaphore; a channel with room is one.

#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/once.hpp>
#include <exeunt/sync/semaphore.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"

namespace {

void count_up_and_down(long count) {
  exeunt::wait_group group;
  group.add();
  for (long i = 0; i < count; ++i) {
    group.add();
    group.done();
  }
  group.done();
  group.wait();
}

void call_once(long count) {
  exeunt::once first;
  long calls = 0;
  for (long i = 0; i < count; ++i) first.call([&] { ++calls; });
  rivals::require(calls == 1, "once");
}

void take_a_unit(long count) {
  exeunt::semaphore units{8};
  for (long i = 0; i < count; ++i) {
    units.acquire();
    units.release();
  }
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return exeunt::run(
      [&] {
        bench.per_op("wait_group_add_done", 50'000'000, 1, count_up_and_down);
        bench.per_op("once_done", 200'000'000, 1, call_once);
        bench.per_op("semaphore_alone", 20'000'000, 1, take_a_unit);
      },
      {.procs = bench.workers()});
}
