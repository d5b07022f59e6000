// SPDX-License-Identifier: Apache-2.0
// Simulations as tests of Catch2: what bubble() and explore() throw fails the test that calls them.
//
// Try:  build/release/examples/catch2_test

#include <catch2/catch.hpp>

#include <chrono>

#include <exeunt/exeunt.hpp>
#include <exeunt/sim/bubble.hpp>
#include <exeunt/sim/explore.hpp>

namespace ex = exeunt;
using namespace std::chrono_literals;

// [catch2]
TEST_CASE("a session ends after half an hour") {
  ex::sim::bubble([] {
    const auto session = ex::with_timeout(ex::context::background(), 30min);
    session.ctx.wait();
    CHECK(ex::sim::now() - ex::sim::epoch == 30min);
  });
}

TEST_CASE("a value is handed over in every schedule") {
  ex::sim::explore({.name = "hand-over"}, [] {
    const ex::chan<int> numbers;
    ex::go([=] { numbers.send(7); });
    ex::sim::check(numbers.recv() == 7, "the number arrives");
  });
}
// [catch2]
