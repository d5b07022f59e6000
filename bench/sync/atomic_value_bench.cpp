// SPDX-License-Identifier: Apache-2.0
// Question:  what does it cost to read a value that is seldom replaced, alone and on two cores, and
//            what do its writers pay?
// Unit:      one item = one look at the value: taking it, reading a word, giving it up. `writes`
// are
//            those of the writer, per second.
// Compare:   std::atomic<std::shared_ptr>, std::shared_mutex, and liburcu where it is installed;
//            bench/rivals/atomic_value has Go's atomic.Value.
// Not said:  nothing about values that are held for long, nor about many writers.

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <stop_token>
#include <thread>

#include <exeunt/sync/atomic_value.hpp>

#ifdef EXEUNT_HAS_URCU
#include <urcu.h>
#endif

namespace {

struct config {
  std::int64_t number = 1;
  std::int64_t more[7] = {};
};

struct ours {
  std::int64_t read() const { return value.load()->number; }
  void write(std::int64_t n) { value.store({.number = n}); }
  exeunt::atomic_value<config> value{config{}};
};

struct shared_pointer {
  std::int64_t read() const { return value.load()->number; }
  void write(std::int64_t n) { value.store(std::make_shared<const config>(config{.number = n})); }
  std::atomic<std::shared_ptr<const config>> value{std::make_shared<const config>()};
};

struct reader_lock {
  std::int64_t read() const {
    const std::shared_lock held{lock};
    return value.number;
  }
  void write(std::int64_t n) {
    const std::lock_guard held{lock};
    value.number = n;
  }
  mutable std::shared_mutex lock;
  config value;
};

#ifdef EXEUNT_HAS_URCU
// Its readers are threads that have registered; a reader may not wait for anything.
struct urcu {
  std::int64_t read() const {
    struct registered {
      registered() { rcu_register_thread(); }
      ~registered() { rcu_unregister_thread(); }
    };
    thread_local const registered once;
    rcu_read_lock();
    const std::int64_t number = rcu_dereference(value)->number;
    rcu_read_unlock();
    return number;
  }
  void write(std::int64_t n) {
    config* const old = rcu_xchg_pointer(&value, new config{.number = n});
    synchronize_rcu();
    delete old;
  }
  ~urcu() { delete value; }
  config* value = new config;
};
#endif

template <typename Value>
Value& shared_value() {
  static Value one;
  return one;
}

// Each thread reads.
template <typename Value>
void reads(benchmark::State& state) {
  Value& value = shared_value<Value>();
  for (auto _ : state) benchmark::DoNotOptimize(value.read());
  state.SetItemsProcessed(state.iterations());
}

// Each thread reads, and stores once in a thousand times.
template <typename Value>
void mostly_reads(benchmark::State& state) {
  Value& value = shared_value<Value>();
  std::int64_t n = 0;
  for (auto _ : state) {
    if (++n % 1000 == 0) {
      value.write(n);
    } else {
      benchmark::DoNotOptimize(value.read());
    }
  }
  state.SetItemsProcessed(state.iterations());
}

// One thread reads while another stores again and again.
template <typename Value>
void reads_against_a_writer(benchmark::State& state) {
  Value& value = shared_value<Value>();
  std::atomic<std::int64_t> writes{0};
  std::jthread writer{[&](const std::stop_token& over) {
    std::int64_t n = 0;
    for (; !over.stop_requested(); ++n) value.write(n);
    writes = n;
  }};
  for (auto _ : state) benchmark::DoNotOptimize(value.read());
  writer.request_stop();
  writer.join();
  state.SetItemsProcessed(state.iterations());
  state.counters["writes"] =
      benchmark::Counter(static_cast<double>(writes.load()), benchmark::Counter::kIsRate);
}

#define EXEUNT_VALUE_BENCH(type)                                        \
  BENCHMARK(reads<type>)->Threads(1)->Threads(2)->UseRealTime();        \
  BENCHMARK(mostly_reads<type>)->Threads(1)->Threads(2)->UseRealTime(); \
  BENCHMARK(reads_against_a_writer<type>)->UseRealTime()

EXEUNT_VALUE_BENCH(ours);
EXEUNT_VALUE_BENCH(shared_pointer);
EXEUNT_VALUE_BENCH(reader_lock);
#ifdef EXEUNT_HAS_URCU
EXEUNT_VALUE_BENCH(urcu);
#endif

}  // namespace
