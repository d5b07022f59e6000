// SPDX-License-Identifier: Apache-2.0
// Producers that send numbers through one channel to consumers. A negative number ends a consumer.
// transfer_k_to_k: how the same channel fares when ever more use it.
// send_recv_same: one fiber that sends to itself.

#include <cstddef>
#include <cstdlib>
#include <string>

#include <exeunt/chan/chan.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"

namespace {

void transfer(long count, std::size_t capacity, long producers, long consumers) {
  exeunt::chan<long> numbers{capacity};
  exeunt::wait_group producing;
  exeunt::wait_group consuming;
  producing.add(producers);
  consuming.add(consumers);
  for (long i = 0; i < producers; ++i) {
    exeunt::go([&, share = count / producers] {
      for (long j = 0; j < share; ++j) numbers.send(j);
      producing.done();
    });
  }
  for (long i = 0; i < consumers; ++i) {
    exeunt::go([&] {
      while (*numbers.recv() >= 0) {
      }
      consuming.done();
    });
  }
  producing.wait();
  for (long i = 0; i < consumers; ++i) numbers.send(-1);
  consuming.wait();
}

void send_recv_same(long count) {
  exeunt::chan<long> numbers{128};
  long sum = 0;
  for (long i = 0; i < count; ++i) {
    numbers.send(i);
    sum += *numbers.recv();
  }
  if (sum != count * (count - 1) / 2) std::abort();
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return exeunt::run(
      [&] {
        bench.per_op("transfer_unbuffered", 2'000'000, 1, [](long n) { transfer(n, 0, 1, 1); });
        bench.per_op("transfer_128", 4'000'000, 1, [](long n) { transfer(n, 128, 1, 1); });
        bench.per_op("fan_in_8_to_1", 4'000'000, 8, [](long n) { transfer(n, 128, 8, 1); });
        for (long k = 1; k <= 64; k *= 2) {
          bench.per_op("transfer_" + std::to_string(k) + "_to_" + std::to_string(k), 2'000'000, k,
                       [k](long n) { transfer(n, 100, k, k); });
        }
        bench.per_op("send_recv_same", 20'000'000, 1, send_recv_same);
      },
      {.procs = bench.workers()});
}
