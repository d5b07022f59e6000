// SPDX-License-Identifier: Apache-2.0
// A fiber that throws takes nobody with it: the exception is reported, with what it said, its type,
// and the line that started the fiber, and the program goes on.
//
// Try:  build/release/examples/safe_go

#include <cstdio>
#include <stdexcept>

#include <exeunt/exeunt.hpp>

namespace ex = exeunt;

namespace {

ex::result<> sum_in_spite_of_a_bug() {
  constexpr int jobs = 4;
  ex::chan<int> results;
  for (int job = 0; job < jobs; ++job) {
    // [job]
    ex::go({.name = "job"}, [results, job] {
      // However this fiber ends, one value comes: a receiver that counts on it does not hang.
      int value = 0;
      struct always_send {
        const ex::chan<int>& to;
        int& value;
        ~always_send() { to.send(value); }
      } const sending{results, value};
      if (job == 2) throw std::runtime_error{"job 2 has a bug"};
      value = job;
    });
    // [job]
  }
  int sum = 0;
  for (int job = 0; job < jobs; ++job) sum += results.recv().value_or(0);

  std::printf("the sum of what succeeded is %d\n", sum);
  if (sum != 0 + 1 + 3) return ex::fail(ex::errc::malformed, "not as expected");
  return {};
}

}  // namespace

int main() { return ex::run(sum_in_spite_of_a_bug); }
