// SPDX-License-Identifier: Apache-2.0
// Fibers that wait, each in another way, for what does not come, one that never waits, and three
// that take turns: to be looked at with a debugger.
//
// Try:  build/release/examples/stuck        and meanwhile, from another terminal,
//       gdb -p $(pidof stuck) -x tools/gdb/exeunt.py -ex 'info fibers' -ex 'exeunt bt all'

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include <exeunt/exeunt.hpp>

namespace ex = exeunt;
using namespace std::chrono_literals;

namespace {

// Not inlined, to be seen in a stack.
[[gnu::noinline]] int innermost(const ex::chan<int>& answers, int question) {
  const int doubled = question * 2;
  return answers.recv().value_or(0) + doubled;
}
[[gnu::noinline]] int middle(const ex::chan<int>& answers, int question) {
  const int increased = question + 1;
  return innermost(answers, increased) + increased;
}
[[gnu::noinline]] int outermost(const ex::chan<int>& answers) {
  const int question = std::rand() % 1 + 20;  // 20, but no compiler knows it.
  return middle(answers, question) + question;
}

[[gnu::noinline]] void spin(const std::atomic<bool>& over) {
  while (!over.load(std::memory_order_relaxed)) {
  }
}

[[gnu::noinline]] void wait_for_enter() { std::getchar(); }

std::size_t count_parked() {
  const auto fibers = ex::runtime::current().fibers();
  return static_cast<std::size_t>(
      std::ranges::count(fibers, ex::fiber_info::run_state::parked, &ex::fiber_info::state));
}

void get_stuck() {
  const ex::chan<int> answers;
  const ex::chan<int> others;
  ex::mutex held;
  held.lock();

  ex::go({.name = "receiver"}, [answers] { static_cast<void>(answers.recv()); });
  ex::go({.name = "sleeper"}, [] { ex::sleep(1h); });
  ex::go({.name = "locker"}, [&held] { held.lock(); });
  ex::go({.name = "chooser"}, [answers, others] {
    ex::select(ex::on_recv(answers, [](std::optional<int>) {}),
               ex::on_recv(others, [](std::optional<int>) {}));
  });
  std::atomic<int> sum{0};
  ex::go({.name = "nested"}, [&] { sum += outermost(answers); });
  while (count_parked() < 5) ex::yield();

  std::atomic<int> started{0};
  const std::atomic<bool> over{false};
  ex::go({.name = "spinner"}, [&] {
    ++started;
    spin(over);
  });
  while (started.load() < 1) ex::yield();
  // There are two workers besides, so one of the three is ready and not running.
  for (int i = 0; i < 3; ++i) {
    ex::go({.name = "turn"}, [&] {
      ++started;
      for (;;) ex::yield();
    });
  }
  while (started.load() < 4) ex::yield();
  std::puts("ready; press Enter to end");
  std::fflush(stdout);
  ex::blocking(wait_for_enter);
  std::_Exit(0);  // The others cannot be told to stop.
}

}  // namespace

int main() { return ex::run(get_stuck, {.procs = 2}); }
