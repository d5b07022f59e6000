// SPDX-License-Identifier: Apache-2.0
// As exeunt.cpp, with Boost.Fiber, whose fibers wait for a condition variable.

#include <chrono>
#include <mutex>

#include "boost_fiber.hpp"

namespace {

using namespace rivals::boost_fiber;

void parked(rivals::harness& bench, long fibers) {
  const double before = rivals::resident_bytes();
  bf::mutex mutex;
  bf::condition_variable opened;
  bool is_open = false;
  wait_group started;
  wait_group ended;
  started.add(fibers);
  ended.add(fibers);
  auto start = rivals::steady::now();
  for (long i = 0; i < fibers; ++i) {
    go([&] {
      started.done();
      {
        std::unique_lock lock{mutex};
        opened.wait(lock, [&] { return is_open; });
      }
      ended.done();
    });
  }
  started.wait();
  bench.figure("parked_create", "ns", rivals::ns_since(start) / static_cast<double>(fibers));
  boost::this_fiber::sleep_for(std::chrono::milliseconds{50});
  bench.figure("parked_memory", "B",
               (rivals::resident_bytes() - before) / static_cast<double>(fibers));
  start = rivals::steady::now();
  {
    const std::lock_guard lock{mutex};
    is_open = true;
  }
  opened.notify_all();
  ended.wait();
  bench.figure("parked_wake_join", "ns", rivals::ns_since(start) / static_cast<double>(fibers));
}

}  // namespace

int main(int argc, char** argv) {
  rivals::harness bench{argc, argv};
  return run(bench.workers(), [&] { parked(bench, bench.scaled(100'000)); });
}
