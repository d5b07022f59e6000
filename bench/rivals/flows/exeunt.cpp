// SPDX-License-Identifier: Apache-2.0
// What bounds the flow of work: a weighted semaphore, one call for all who want the same, a rate.
// Each alone, as nearly all calls are, and by 8 fibers. Go's are those of golang.org/x, as Debian
// packages them.

#include <atomic>
#include <string>

#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/rate_limiter.hpp>
#include <exeunt/sync/semaphore.hpp>
#include <exeunt/sync/singleflight.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"

namespace {

using exeunt::context;
using exeunt::rate_limiter;
using exeunt::semaphore;

constexpr long many = 8;  // Fibers.

template <typename F>
void by_many(long count, F work) {
  exeunt::wait_group group;
  for (long f = 0; f < many; ++f) {
    group.go([&] {
      for (long i = 0; i < count / many; ++i) work();
    });
  }
  group.wait();
}

// ---- semaphore

void weighted_alone(long count) {
  semaphore units{8};
  for (long i = 0; i < count; ++i) {
    units.acquire(1);
    units.release(1);
  }
}

void weighted_until(long count) {
  auto [ctx, end] = exeunt::with_cancel(context::background());
  semaphore units{8};
  for (long i = 0; i < count; ++i) {
    rivals::require(units.acquire(ctx, 1).has_value(), "semaphore");
    units.release(1);
  }
}

template <bool WithYield>
void weighted_by_many(long count) {
  semaphore units{4};
  std::atomic<long> total{0};
  by_many(count, [&] {
    units.acquire(1);
    total.fetch_add(1);
    if (WithYield) exeunt::yield();
    units.release(1);
  });
  rivals::require(total == count && units.try_acquire(4), "semaphore");
}

// ---- singleflight

using flights = exeunt::singleflight<std::string, long>;

void flight_alone(long count) {
  flights calls;
  const std::string key = "user:4711";
  long sum = 0;
  for (long i = 0; i < count; ++i) sum += **calls.call(key, [&] { return i; });
  rivals::require(sum == count * (count - 1) / 2, "singleflight");
}

// The function lets others run, who then want the same. How well they share depends on how soon
// they come, and is a figure of its own.
void flight_by_many(rivals::harness& bench) {
  flights calls;
  const std::string key = "user:4711";
  std::atomic<long> runs{0};
  long all = 0;
  bench.per_op("flight_8_fibers", 2'000'000, many, [&](long count) {
    runs = 0;
    all = count;
    by_many(count, [&] {
      const auto got = calls.call(key, [&] {
        exeunt::yield();
        return runs.fetch_add(1) + 1;
      });
      rivals::require(**got > 0, "singleflight");
    });
  });
  if (all == 0) return;
  rivals::harness::figure("flight_8_fibers_runs", "%",
                          100.0 * static_cast<double>(runs) / static_cast<double>(all));
}

// ---- rate limiter

// So high that nobody is refused, and not `unlimited`, which would be no arithmetic.
constexpr double huge = 1e12;
constexpr std::int64_t burst = 1'000'000;

void rate_allow(long count) {
  rate_limiter limiter{huge, burst};
  for (long i = 0; i < count; ++i) rivals::require(limiter.allow(), "rate_limiter");
}

void rate_allow_by_many(long count) {
  rate_limiter limiter{huge, burst};
  by_many(count, [&] { rivals::require(limiter.allow(), "rate_limiter"); });
}

void rate_reserve(long count) {
  rate_limiter limiter{huge, burst};
  for (long i = 0; i < count; ++i) rivals::require(limiter.reserve().ok(), "rate_limiter");
}

void rate_wait(long count) {
  auto [ctx, end] = exeunt::with_cancel(context::background());
  rate_limiter limiter{huge, burst};
  for (long i = 0; i < count; ++i) {
    rivals::require(limiter.wait(ctx).has_value(), "rate_limiter");
  }
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return exeunt::run(
      [&] {
        bench.per_op("weighted_alone", 20'000'000, 1, weighted_alone);
        bench.per_op("weighted_until", 20'000'000, 1, weighted_until);
        bench.per_op("weighted_4_of_8_fibers", 8'000'000, many, weighted_by_many<false>);
        bench.per_op("weighted_4_of_8_yield", 2'000'000, many, weighted_by_many<true>);
        bench.per_op("flight_alone", 5'000'000, 1, flight_alone);
        flight_by_many(bench);
        bench.per_op("rate_allow", 10'000'000, 1, rate_allow);
        bench.per_op("rate_allow_8_fibers", 4'000'000, many, rate_allow_by_many);
        bench.per_op("rate_reserve", 10'000'000, 1, rate_reserve);
        bench.per_op("rate_wait", 10'000'000, 1, rate_wait);
      },
      {.procs = bench.workers()});
}
