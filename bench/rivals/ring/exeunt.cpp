// SPDX-License-Identifier: Apache-2.0
// A number that counts down while it goes round 1000 fibers; each has a channel to the next.
// What is measured is one hop. A negative number then ends the fibers.

#include <vector>

#include <exeunt/chan/chan.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"

namespace {

constexpr int ring_size = 1000;

void member(const exeunt::chan<long>& in, const exeunt::chan<long>& out,
            const exeunt::chan<long>& done, bool is_last) {
  while (true) {
    const long left = *in.recv();
    if (left < 0) {
      if (!is_last) out.send(left);
      return;
    }
    if (left == 0) {
      done.send(left);
    } else {
      out.send(left - 1);
    }
  }
}

void ring(long count) {
  std::vector<exeunt::chan<long>> links(ring_size);
  exeunt::chan<long> done;
  exeunt::wait_group group;
  group.add(ring_size);
  for (int i = 0; i < ring_size; ++i) {
    exeunt::go([&, i] {
      member(links[i], links[(i + 1) % ring_size], done, i == ring_size - 1);
      group.done();
    });
  }
  links[0].send(count);
  static_cast<void>(done.recv());
  links[0].send(-1);
  group.wait();
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return exeunt::run([&] { bench.per_op("ring_1000", 1'000'000, 1, ring); },
                     {.procs = bench.workers()});
}
