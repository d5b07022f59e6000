// SPDX-License-Identifier: Apache-2.0
// 100 000 fibers that wait for the same thing: making them, their memory, waking and joining them.
// Nothing warms up: the memory of a fresh process is the question.

#include <chrono>

#include <exeunt/chan/chan.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"

namespace {

void parked(rivals::harness& bench, long fibers) {
  const double before = rivals::resident_bytes();
  const exeunt::chan<void> gate;
  exeunt::wait_group started;
  exeunt::wait_group ended;
  started.add(fibers);
  ended.add(fibers);
  auto start = rivals::steady::now();
  for (long i = 0; i < fibers; ++i) {
    exeunt::go([&] {
      started.done();
      static_cast<void>(gate.recv());
      ended.done();
    });
  }
  started.wait();
  bench.figure("parked_create", "ns", rivals::ns_since(start) / static_cast<double>(fibers));
  exeunt::sleep(std::chrono::milliseconds{50});  // Until the last ones wait, too.
  bench.figure("parked_memory", "B",
               (rivals::resident_bytes() - before) / static_cast<double>(fibers));
  start = rivals::steady::now();
  gate.close();
  ended.wait();
  bench.figure("parked_wake_join", "ns", rivals::ns_since(start) / static_cast<double>(fibers));
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return exeunt::run([&] { parked(bench, bench.scaled(100'000)); }, {.procs = bench.workers()});
}
