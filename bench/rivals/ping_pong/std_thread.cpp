// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, with threads.

#include "std_thread.hpp"

namespace {

using namespace rivals::std_thread;

void ping_pong(long count) {
  chan<long> there;
  chan<long> back;
  wait_group group;
  group.add(1);
  go([&] {
    for (long i = 0; i < count; ++i) back.send(there.recv());
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
  return run(bench.workers(), [&] { bench.per_op("ping_pong", 1'000'000, 1, ping_pong); });
}
