// SPDX-License-Identifier: Apache-2.0
// Question:  what does it cost to read a value that is seldom replaced, alone and on two cores, and
//            what do its writers pay?
// Unit:      one item = one look at the value: taking it, reading a word, giving it up. `writes`
//            are those of the writer, per second.
// Compare:   bench/rivals/atomic_value, the same in fibers, with Go's atomic.Value, with
//            std::atomic<std::shared_ptr>, std::shared_mutex and liburcu.
// Not said:  nothing about values that are held for long, nor about many writers.

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>
#include <stop_token>
#include <thread>

#include <exeunt/sync/atomic_value.hpp>

namespace {

struct config {
  std::int64_t number = 1;
  std::int64_t more[7] = {};
};

exeunt::atomic_value<config>& shared_value() {
  static exeunt::atomic_value<config> one{config{}};
  return one;
}

// Each thread reads.
void reads(benchmark::State& state) {
  exeunt::atomic_value<config>& value = shared_value();
  for (auto _ : state) benchmark::DoNotOptimize(value.load()->number);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(reads)->Threads(1)->Threads(2)->UseRealTime();

// Each thread reads, and stores once in a thousand times.
void mostly_reads(benchmark::State& state) {
  exeunt::atomic_value<config>& value = shared_value();
  std::int64_t n = 0;
  for (auto _ : state) {
    if (++n % 1000 == 0) {
      value.store({.number = n});
    } else {
      benchmark::DoNotOptimize(value.load()->number);
    }
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(mostly_reads)->Threads(1)->Threads(2)->UseRealTime();

// One thread reads while another stores again and again.
void reads_against_a_writer(benchmark::State& state) {
  exeunt::atomic_value<config>& value = shared_value();
  std::atomic<std::int64_t> writes{0};
  std::jthread writer{[&](const std::stop_token& over) {
    std::int64_t n = 0;
    for (; !over.stop_requested(); ++n) value.store({.number = n});
    writes = n;
  }};
  for (auto _ : state) benchmark::DoNotOptimize(value.load()->number);
  writer.request_stop();
  writer.join();
  state.SetItemsProcessed(state.iterations());
  state.counters["writes"] =
      benchmark::Counter(static_cast<double>(writes.load()), benchmark::Counter::kIsRate);
}
BENCHMARK(reads_against_a_writer)->UseRealTime();

}  // namespace
