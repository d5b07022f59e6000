// SPDX-License-Identifier: Apache-2.0
// Two fibers that send a number there and back over two unbuffered channels.

#include <exeunt/chan/chan.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"

namespace {

void ping_pong(long count) {
  exeunt::chan<long> there;
  exeunt::chan<long> back;
  exeunt::wait_group group;
  group.add();
  exeunt::go([&] {
    for (long i = 0; i < count; ++i) back.send(*there.recv());
    group.done();
  });
  for (long i = 0; i < count; ++i) {
    there.send(i);
    rivals::require(back.recv() == i, "ping_pong");
  }
  group.wait();
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return exeunt::run([&] { bench.per_op("ping_pong", 1'000'000, 1, ping_pong); },
                     {.procs = bench.workers()});
}
