// SPDX-License-Identifier: Apache-2.0
// The map's clocks for the race detector; the map itself is a template.
//
// A key has no place of its own, since entries move. So clocks are found by its hash: two keys that
// share one are ordered without need, which hides a race now and then and reports none.
// Tests: tests/sync/map_test.cpp, map_stress_test.cpp, flows_race_test.cpp, values_litmus_test.cpp.

#include <exeunt/sync/map.hpp>

#ifdef EXEUNT_HAS_TSAN
namespace exeunt::detail {

namespace {
constexpr std::uint64_t clocks = 1U << 16U;
char clock_places[clocks][8];
}  // namespace

const void* map_clock(const void* map, std::uint64_t hash) noexcept {
  return clock_places[mixed_hash(hash ^ reinterpret_cast<std::uintptr_t>(map)) % clocks];
}

}  // namespace exeunt::detail
#endif
