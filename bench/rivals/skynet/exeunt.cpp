// SPDX-License-Identifier: Apache-2.0
// A tree of fibers, ten children each, whose million leaves send up their numbers to be summed.
// That many whatever --scale says: the size of the tree is the problem. A tenth warms up.

#include <exeunt/chan/chan.hpp>
#include <exeunt/sched/runtime.hpp>

#include "harness.hpp"

namespace {

void node(const exeunt::chan<long>& up, long first, long size) {
  if (size == 1) {
    up.send(first);
    return;
  }
  exeunt::chan<long> sums;
  for (long i = 0; i < 10; ++i) {
    exeunt::go([sums, child = first + i * (size / 10), size] { node(sums, child, size / 10); });
  }
  long sum = 0;
  for (long i = 0; i < 10; ++i) sum += *sums.recv();
  up.send(sum);
}

void skynet(long leaves) {
  exeunt::chan<long> root;
  exeunt::go([root, leaves] { node(root, 0, leaves); });
  rivals::require(*root.recv() == leaves * (leaves - 1) / 2, "skynet");
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  constexpr long leaves = 1'000'000;
  return exeunt::run(
      [&] {
        if (!bench.wants("skynet")) return;
        skynet(leaves / 10);
        const auto start = rivals::steady::now();
        skynet(leaves);
        rivals::harness::figure("skynet", "ns",
                                rivals::ns_since(start) / static_cast<double>(leaves));
      },
      {.procs = bench.workers()});
}
