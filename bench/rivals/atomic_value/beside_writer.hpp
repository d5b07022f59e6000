// SPDX-License-Identifier: Apache-2.0
// The figures of one reader beside one writer that stores again and again, which all C++ contenders
// take alike. They are of a period, since the two are not to be done at the same time.

#pragma once

#include <chrono>

#include "harness.hpp"

namespace rivals {

/// Between two other things that a reader does, so that the loop is of looks alone.
constexpr long looks_in_a_row = 1000;

struct look_and_store {
  double load_ns = 0;
  double store_ns = 0;
};

/// The nanoseconds of one call of `operation`, which is called `batch` times between two looks
/// whether it is over.
template <typename F, typename Over>
double ns_of_each(long batch, F operation, Over over) {
  const auto start = steady::now();
  long count = 0;
  do {
    for (long i = 0; i < batch; ++i) operation();
    count += batch;
  } while (!over());
  return ns_since(start) / static_cast<double>(count);
}

/// By `look(period, spent)`. Nothing if there is but one worker for the two.
template <typename F>
void beside_writer(const harness& bench, F look) {
  if (!bench.wants("value_beside_writer") || bench.workers() < 2) return;
  const std::chrono::milliseconds period{bench.scaled(1000)};
  look_and_store spent;
  look(period / 10, spent);
  look(period, spent);
  harness::figure("value_load_beside_writer", "ns", spent.load_ns);
  harness::figure("value_store_beside_reader", "ns", spent.store_ns);
}

}  // namespace rivals
