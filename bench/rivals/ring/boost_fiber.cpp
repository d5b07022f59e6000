// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, with Boost.Fiber.

#include <deque>

#include "boost_fiber.hpp"

namespace {

using namespace rivals::boost_fiber;

constexpr int ring_size = 1000;

void member(chan<long>& in, chan<long>& out, chan<long>& done, bool is_last) {
  while (true) {
    const long left = in.recv();
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
  std::deque<chan<long>> links(ring_size);
  chan<long> done;
  wait_group group;
  group.add(ring_size);
  for (int i = 0; i < ring_size; ++i) {
    go([&, i] {
      member(links[i], links[(i + 1) % ring_size], done, i == ring_size - 1);
      group.done();
    });
  }
  links[0].send(count);
  done.recv();
  links[0].send(-1);
  group.wait();
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return run(bench.workers(), [&] { bench.per_op("ring_1000", 1'000'000, 1, ring); });
}
