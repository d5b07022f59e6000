// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, with threads.

#include <cstddef>
#include <cstdlib>
#include <string>

#include "std_thread.hpp"

namespace {

using namespace rivals::std_thread;

void transfer(long count, std::size_t capacity, long producers, long consumers) {
  chan<long> numbers{capacity};
  wait_group producing;
  wait_group consuming;
  producing.add(producers);
  consuming.add(consumers);
  for (long i = 0; i < producers; ++i) {
    go([&, share = count / producers] {
      for (long j = 0; j < share; ++j) numbers.send(j);
      producing.done();
    });
  }
  for (long i = 0; i < consumers; ++i) {
    go([&] {
      while (numbers.recv() >= 0) {
      }
      consuming.done();
    });
  }
  producing.wait();
  for (long i = 0; i < consumers; ++i) numbers.send(-1);
  consuming.wait();
}

void send_recv_same(long count) {
  chan<long> numbers{128};
  long sum = 0;
  for (long i = 0; i < count; ++i) {
    numbers.send(i);
    sum += numbers.recv();
  }
  if (sum != count * (count - 1) / 2) std::abort();
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return run(bench.workers(), [&] {
    bench.per_op("transfer_unbuffered", 2'000'000, 1, [](long n) { transfer(n, 0, 1, 1); });
    bench.per_op("transfer_128", 4'000'000, 1, [](long n) { transfer(n, 128, 1, 1); });
    bench.per_op("fan_in_8_to_1", 4'000'000, 8, [](long n) { transfer(n, 128, 8, 1); });
    for (long k = 1; k <= 64; k *= 2) {
      bench.per_op("transfer_" + std::to_string(k) + "_to_" + std::to_string(k), 2'000'000, k,
                   [k](long n) { transfer(n, 100, k, k); });
    }
    bench.per_op("send_recv_same", 20'000'000, 1, send_recv_same);
  });
}
