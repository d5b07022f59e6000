// SPDX-License-Identifier: Apache-2.0
// A group of ten tasks that succeed: with a context that a failure would end, and without.

#include <array>
#include <numeric>

#include <exeunt/group/errgroup.hpp>
#include <exeunt/sched/runtime.hpp>

#include "harness.hpp"

namespace {

void ten_tasks(exeunt::errgroup& group) {
  std::array<long, 10> parts{};
  for (long& part : parts) {
    group.go([&part](const exeunt::context&) { part = 1; });
  }
  rivals::require(group.wait().has_value(), "errgroup");
  rivals::require(std::accumulate(parts.begin(), parts.end(), 0L) == 10, "errgroup");
}

void with_context(long count) {
  for (long i = 0; i < count; ++i) {
    exeunt::errgroup group{exeunt::context::background()};
    ten_tasks(group);
  }
}

void without_context(long count) {
  for (long i = 0; i < count; ++i) {
    exeunt::errgroup group;
    ten_tasks(group);
  }
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return exeunt::run(
      [&] {
        bench.per_op("errgroup_10", 100'000, 1, with_context);
        bench.per_op("errgroup_10_plain", 100'000, 1, without_context);
      },
      {.procs = bench.workers()});
}
