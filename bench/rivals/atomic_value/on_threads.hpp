// SPDX-License-Identifier: Apache-2.0
// What exeunt.cpp does, with threads, and with whatever else lets a value be replaced as a whole.
//
// A Value has number(), store(n), and a type `reader`, of which each thread has one while it looks.

#pragma once

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "beside_writer.hpp"
#include "std_thread.hpp"

namespace rivals {

struct config {
  long number = 1;
  long more[7] = {};
};

template <typename Value>
void look(long count, unsigned threads, bool stores) {
  Value value;
  std::vector<std::jthread> readers;
  for (unsigned i = 0; i < threads; ++i) {
    readers.emplace_back([&, share = count / threads] {
      [[maybe_unused]] const typename Value::reader here;
      long sum = 0;
      for (long left = share; left > 0; left -= looks_in_a_row) {
        for (long j = 0; j < looks_in_a_row; ++j) sum += value.number();
        if (stores) value.store(1);
      }
      require(sum == share, "atomic_value");
    });
  }
}

template <typename Value>
void look_beside_writer(std::chrono::milliseconds period, look_and_store& spent) {
  Value value;
  std::atomic<bool> over{false};
  std::jthread writer{[&] {
    [[maybe_unused]] const typename Value::reader here;
    spent.store_ns = ns_of_each(1, [&] { value.store(1); }, [&] { return over.load(); });
  }};
  [[maybe_unused]] const typename Value::reader here;
  const auto end = steady::now() + period;
  spent.load_ns = ns_of_each(
      looks_in_a_row, [&] { require(value.number() == 1, "atomic_value"); },
      [&] { return steady::now() >= end; });
  over = true;
}

template <typename Value>
int look_on_threads(int argc, char** argv) {
  harness bench{argc, argv};
  const unsigned threads = bench.workers();
  return std_thread::run(threads, [&] {
    const auto unit = looks_in_a_row * threads;
    bench.per_op("value_load", 50'000'000, unit, [=](long n) { look<Value>(n, threads, false); });
    bench.per_op("value_load_mostly", 20'000'000, unit,
                 [=](long n) { look<Value>(n, threads, true); });
    beside_writer(bench, look_beside_writer<Value>);
  });
}

}  // namespace rivals
