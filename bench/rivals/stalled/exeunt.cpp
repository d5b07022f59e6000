// SPDX-License-Identifier: Apache-2.0
// How late others are while a fiber for each worker holds its thread: in read(2), in and behind a
// std::mutex, and by computing. The others are 64, which sleep for 1 ms again and again.

#include <unistd.h>

#include <array>
#include <chrono>
#include <mutex>
#include <string>
#include <vector>

#include <exeunt/sched/go.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "harness.hpp"

namespace {

using namespace std::chrono_literals;
using rivals::steady;

void compute_until(steady::time_point end) {
  while (steady::now() < end) {
  }
}

/// Each holder calls hold(end), which returns at `end`, or when `let_go` has been called after it.
template <typename F, typename G>
void others_meanwhile(const rivals::harness& bench, const std::string& name, F hold, G let_go) {
  if (!bench.wants(name)) return;
  const std::chrono::milliseconds period{bench.scaled(2000)};
  const auto start = steady::now() + 50ms;  // When the others are at it.
  const auto end = start + period;
  std::array<std::vector<double>, 64> late;
  exeunt::wait_group others;
  for (auto& mine : late) {
    mine.reserve(static_cast<std::size_t>(period / 1ms));
    others.go([&] {
      for (auto asleep = steady::now(); asleep < end;) {
        exeunt::sleep(1ms);
        const auto awake = steady::now();
        if (awake > start) mine.push_back(rivals::nanoseconds{awake - asleep - 1ms}.count());
        asleep = awake;
      }
    });
  }
  exeunt::sleep(start - steady::now());
  exeunt::wait_group holders;
  for (unsigned i = 0; i < bench.workers(); ++i) holders.go([&] { hold(end); });
  others.wait();
  let_go();
  holders.wait();
  std::vector<double> all;
  for (const auto& mine : late) all.insert(all.end(), mine.begin(), mine.end());
  rivals::require(all.size() > late.size(), "somebody slept for less than all the time");
  rivals::harness::figure(name + "_late_p50", "ns", rivals::percentile(all, 50));
  rivals::harness::figure(name + "_late_p99", "ns", rivals::percentile(all, 99));
  rivals::harness::figure(name + "_late_max", "ns", rivals::percentile(all, 100));
}

void in_read(const rivals::harness& bench) {
  int ends[2];
  rivals::require(::pipe(ends) == 0, "pipe");
  others_meanwhile(
      bench, "stalled_read",
      [&](steady::time_point) {
        char byte = 0;
        rivals::require(::read(ends[0], &byte, 1) == 1, "read");
      },
      [&] {
        for (unsigned i = 0; i < bench.workers(); ++i) {
          rivals::require(::write(ends[1], "x", 1) == 1, "write");
        }
      });
  ::close(ends[0]);
  ::close(ends[1]);
}

void in_mutex(const rivals::harness& bench) {
  std::mutex mutex;
  others_meanwhile(
      bench, "stalled_mutex",
      [&](steady::time_point end) {
        while (steady::now() < end) {
          const std::lock_guard held{mutex};
          compute_until(steady::now() + 10ms);
        }
      },
      [] {});
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return exeunt::run(
      [&] {
        in_read(bench);
        in_mutex(bench);
        others_meanwhile(bench, "stalled_computing", compute_until, [] {});
      },
      {.procs = bench.workers()});
}
