// SPDX-License-Identifier: Apache-2.0
// Several tasks for one answer: the first failure ends the others, which wait no longer than they
// must, and is what the group returns.
//
// Try:  build/release/examples/errgroup_first_error

#include <chrono>
#include <cstdio>
#include <stdexcept>

#include <exeunt/exeunt.hpp>

namespace ex = exeunt;
using namespace std::chrono_literals;

namespace {

/// A source that answers after `takes`, or not at all if nobody wants it any more.
ex::result<> fetch(const ex::context& ctx, const char* source, ex::clock::duration takes) {
  if (auto slept = ex::sleep(ctx, takes); !slept) {
    std::printf("%s: given up: %s\n", source, ex::cause(ctx)->message().c_str());
    return slept;
  }
  std::printf("%s: answered\n", source);
  return {};
}

int ask_three() {
  // [group]
  ex::errgroup group{ex::context::background()};
  group.go([](ex::context ctx) { return fetch(ctx, "stock", 1ms); });
  group.go([](ex::context ctx) { return fetch(ctx, "price", 24h); });
  group.go([](ex::context) -> ex::result<> {
    return ex::fail(ex::errc::deadline_exceeded, "rating: no answer");
  });

  const ex::result<> outcome = group.wait();  // Not in 24 hours.
  // [group]
  if (outcome || !outcome.error().is(ex::errc::deadline_exceeded)) {
    std::puts("the failure was lost");
    return 1;
  }
  std::printf("the group: %s\n", outcome.error().message().c_str());
  return 0;
}

}  // namespace

int main() { return ex::run(ask_three); }
