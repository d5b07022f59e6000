// SPDX-License-Identifier: Apache-2.0
// A worker pool that fails once in a while, and the test that finds out why: under every schedule
// that a test library could wait for in vain. See docs/guide/testing.md.
//
// Try:  build/release/examples/worker_pool_test

#include <cstdio>
#include <memory>
#include <mutex>

#include <exeunt/exeunt.hpp>
#include <exeunt/sim/explore.hpp>

namespace ex = exeunt;

namespace {

// [flaky]
// Squares of what comes from `numbers`, by three workers. Whoever is the last closes the results.
ex::recv_only<int> squares_of(ex::recv_only<int> numbers) {
  struct state {
    ex::mutex lock;
    int at_work = 3;
  };
  const auto shared = std::make_shared<state>();
  const ex::chan<int> results;
  for (int i = 0; i < 3; ++i) {
    ex::go([=] {
      for (const int n : numbers) results.send(n * n);
      {
        const std::lock_guard held{shared->lock};
        --shared->at_work;
      }
      const std::lock_guard held{shared->lock};
      if (shared->at_work == 0) results.close();
    });
  }
  return results;
}
// [flaky]

// [repaired]
ex::recv_only<int> squares_repaired(ex::recv_only<int> numbers) {
  struct state {
    ex::mutex lock;
    int at_work = 3;
  };
  const auto shared = std::make_shared<state>();
  const ex::chan<int> results;
  for (int i = 0; i < 3; ++i) {
    ex::go([=] {
      for (const int n : numbers) results.send(n * n);
      const std::lock_guard held{shared->lock};
      if (--shared->at_work == 0) results.close();  // Counted and judged at once.
    });
  }
  return results;
}
// [repaired]

// [test]
void sums_up(ex::recv_only<int> (*squares)(ex::recv_only<int>)) {
  const ex::chan<int> numbers;
  ex::go([=] {
    for (int n = 1; n <= 3; ++n) numbers.send(n);
    numbers.close();
  });
  int sum = 0;
  for (const int square : squares(numbers)) sum += square;
  ex::sim::check(sum == 1 + 4 + 9, "the sum of the squares");
}
// [test]

}  // namespace

int main() {
  try {
    // [explore]
    ex::sim::explore({.name = "worker pool"}, [] { sums_up(squares_of); });
    // [explore]
    std::puts("the mistake was not found");
    return 1;
  } catch (const ex::sim::failure& found) {
    std::fputs(found.what(), stdout);
  }
  const auto sum = ex::sim::explore({.name = "repaired"}, [] { sums_up(squares_repaired); });
  std::printf("repaired: %llu schedules, and none failed\n",
              static_cast<unsigned long long>(sum.schedules));
  return 0;
}
