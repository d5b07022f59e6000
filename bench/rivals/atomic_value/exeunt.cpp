// SPDX-License-Identifier: Apache-2.0
// Looking at a value that is replaced as a whole: by a fiber for each worker, without stores, and
// with one in a thousand; and by one while another one stores again and again. An operation is one
// look; with two workers two are made at a time.

#include <atomic>
#include <chrono>

#include <exeunt/sched/runtime.hpp>
#include <exeunt/sync/atomic_value.hpp>
#include <exeunt/sync/wait_group.hpp>

#include "beside_writer.hpp"
#include "harness.hpp"

namespace {

struct config {
  long number = 1;
  long more[7] = {};
};

void look(long count, unsigned fibers, bool stores) {
  exeunt::atomic_value<config> value{config{}};
  exeunt::wait_group group;
  for (unsigned i = 0; i < fibers; ++i) {
    group.go([&, share = count / fibers] {
      long sum = 0;
      for (long left = share; left > 0; left -= rivals::looks_in_a_row) {
        for (long j = 0; j < rivals::looks_in_a_row; ++j) sum += value.load()->number;
        if (stores) value.store({});
      }
      rivals::require(sum == share, "atomic_value");
    });
  }
  group.wait();
}

void look_beside_writer(std::chrono::milliseconds period, rivals::look_and_store& spent) {
  exeunt::atomic_value<config> value{config{}};
  std::atomic<bool> over{false};
  exeunt::wait_group group;
  group.go([&] {
    spent.store_ns = rivals::ns_of_each(1, [&] { value.store({}); }, [&] { return over.load(); });
  });
  group.go([&] {
    const auto end = rivals::steady::now() + period;
    spent.load_ns = rivals::ns_of_each(
        rivals::looks_in_a_row, [&] { rivals::require(value.load()->number == 1, "atomic_value"); },
        [&] { return rivals::steady::now() >= end; });
    over = true;
  });
  group.wait();
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  const unsigned fibers = bench.workers();
  return exeunt::run(
      [&] {
        constexpr auto unit = rivals::looks_in_a_row;
        bench.per_op("value_load", 50'000'000, unit * fibers,
                     [=](long n) { look(n, fibers, false); });
        bench.per_op("value_load_mostly", 20'000'000, unit * fibers,
                     [=](long n) { look(n, fibers, true); });
        rivals::beside_writer(bench, look_beside_writer);
      },
      {.procs = bench.workers()});
}
