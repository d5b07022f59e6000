// SPDX-License-Identifier: Apache-2.0
// The turns that no worker has now. Never freed: as many as there were workers at once.
// Tests: tests/sched/biased_lock_test.cpp.

#include "sched/turn_lease.hpp"

#include <exeunt/base/spin_lock.hpp>

namespace exeunt::sched {

namespace {

struct lasting_turn {
  alignas(64) detail::turn turn;  // First: the one is found by the other.
  lasting_turn* next = nullptr;
};

detail::spin_lock lock;
lasting_turn* unused = nullptr;  // Under lock, as the next.
std::uint32_t made = 0;

}  // namespace

turn_lease::turn_lease() {
  lasting_turn* mine = nullptr;
  {
    const detail::spin_guard guard{lock};
    mine = unused;
    if (mine != nullptr) unused = mine->next;
  }
  if (mine == nullptr) {
    mine = new lasting_turn;
    mine->turn.is_lasting = true;
    const detail::spin_guard guard{lock};
    mine->turn.number = made++;
  }
  turn_ = &mine->turn;
}

turn_lease::~turn_lease() {
  auto* const mine = reinterpret_cast<lasting_turn*>(turn_);
  const detail::spin_guard guard{lock};
  // In the order of their numbers, so that those in use are the lowest.
  lasting_turn** place = &unused;
  while (*place != nullptr && (*place)->turn.number < mine->turn.number) place = &(*place)->next;
  mine->next = *place;
  *place = mine;
}

}  // namespace exeunt::sched
