// SPDX-License-Identifier: Apache-2.0
// A bug on purpose: two fibers add to one counter, and nothing orders them. It may print 2000 for
// years. The tsan preset finds it at once, also when one worker runs both fibers in turn, and
// names for each of the two where it was and the line that started it.
//
// Try:  make build-tsan && build/tsan/examples/race_counter
// Mend: make the counter a std::atomic<int>, or hold an ex::mutex around the addition.

#include <cstdio>

#include <exeunt/exeunt.hpp>

namespace ex = exeunt;

namespace {

void race() {
  int counter = 0;
  const auto add = [&counter] {
    for (int i = 0; i < 1000; ++i) {
      ++counter;
      if (i % 100 == 0) ex::yield();
    }
  };
  ex::errgroup group;
  group.go({.name = "adder one"}, [&](ex::context) { add(); });
  group.go({.name = "adder two"}, [&](ex::context) { add(); });
  static_cast<void>(group.wait());
  std::printf("%d\n", counter);
}

}  // namespace

int main() { return ex::run(race); }
