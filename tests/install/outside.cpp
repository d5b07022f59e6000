// SPDX-License-Identifier: Apache-2.0
// Built against the installed package: its headers are complete and its libraries link.

#include <cstdio>

#include <exeunt/base/result.hpp>
#include <exeunt/chan/chan.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>

namespace {

exeunt::result<> sum_of_two_fibers() {
  exeunt::chan<int> numbers;
  for (int n = 20; n <= 22; n += 2) {
    exeunt::go([numbers, n]() mutable { numbers.send(int{n}); });
  }
  const int sum = numbers.recv().value_or(0) + numbers.recv().value_or(0);
  if (sum != 42) return exeunt::fail(exeunt::errc::malformed, "20 + 22 is not 42 here");
  std::puts("1 passed, 0 failed");
  return {};
}

}  // namespace

int main() { return exeunt::run(sum_of_two_fibers); }
