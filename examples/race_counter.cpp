// SPDX-License-Identifier: Apache-2.0
// A bug on purpose: two fibers add to one counter, and nothing orders them. With luck it prints
// 2000. Each addition is a read and a write, so there are two races: one fiber's write against the
// other's read, and against its write. ThreadSanitizer finds them at once, also when one worker
// runs both fibers in turn, and names for each where it was and the line that started it.
//
// Try:  make race
// Mend: make the counter a std::atomic<int>, or hold an ex::mutex around the addition.

#include <cstdio>

#include <exeunt/exeunt.hpp>

namespace ex = exeunt;

namespace {

// [counter]
void race() {
  int counter = 0;
  const auto add = [&counter] {
    for (int i = 0; i < 1000; ++i) {
      const int seen = counter;
      if (i % 100 == 0) ex::yield();
      counter = seen + 1;
    }
  };
  ex::errgroup group;
  group.go({.name = "adder one"}, [&](ex::context) { add(); });
  group.go({.name = "adder two"}, [&](ex::context) { add(); });
  static_cast<void>(group.wait());
  std::printf("%d\n", counter);
}
// [counter]

}  // namespace

int main() { return ex::run(race); }
