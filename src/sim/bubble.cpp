// SPDX-License-Identifier: Apache-2.0
// A simulation that runs once, as the library's own scheduler would have it.
// Tests: tests/sim/bubble_test.cpp.

#include <exeunt/sim/bubble.hpp>

#include <stdexcept>
#include <string>

#include <exeunt/time/sleep.hpp>

#include "sched/current.hpp"
#include "sim/world.hpp"

namespace exeunt::sim {

namespace {

world& current_or_throw(const char* asks) {
  world* const here = world::current();
  if (here == nullptr) throw std::logic_error{std::string{asks} + " outside of a simulation"};
  return *here;
}

}  // namespace

bool inside() noexcept { return world::current() != nullptr; }

void settle() { current_or_throw("settle()").settle(); }

void advance(clock::duration d) {
  world& here = current_or_throw("advance()");
  sleep(d);
  here.settle();
}

void check(bool holds, std::string_view what) {
  if (!holds) throw failure{failure::reason::check, std::string{what}};
}

}  // namespace exeunt::sim

namespace exeunt::detail {

void run_bubble(function_ref<void()> f, std::source_location where) {
  if (sched::this_fiber_block() != nullptr) {
    throw std::logic_error{"a simulation cannot be begun by a fiber: its world is another thread"};
  }
  sim::choices by_default;
  by_default.plan_default();
  const sim::world::owner inside = sim::world::make(by_default, {.started_at = where});
  inside->run(f, [] { return std::string{}; }, [] { return false; });
  const std::optional<sim::outcome>& failed = inside->failed();
  if (!failed) return;
  if (failed->thrown) std::rethrow_exception(failed->thrown);
  throw sim::failure{failed->why, "simulation failed: " + failed->text};
}

}  // namespace exeunt::detail
