// SPDX-License-Identifier: Apache-2.0
// Variables of fibers: their places, and each fiber's table of values.
//
// A variable has a *key*: its place, an index into every table, and a number that no other variable
// ever has. A value has its variable's key. A value is *stale* if its variable is gone.
//
// Invariants:
//   I1  No two variables that are there have one place. A place is given to another one when its
//       variable is gone, though stale values may still be in it: their keys tell them apart.
//   I2  A table is read and written by its own fiber or thread only, so it has no lock.
//   I3  A slot has null, a value whose key names this slot, or `making` while that is being made.
//   I4  Each value is in its table's `values` or `dying`, until just before its destructor. It is
//       in its slot, unless it is stale and was pushed out, which destroys it.
//   I5  A fiber's table has no value after its end but those that the log tells of.
// So a stale value costs no more than the place that it is in, until its fiber ends.
//
// Locks: places.lock is a leaf; no value is made or destroyed under it.
// Tests: tests/sched/fiber_local_test.cpp.

#include <exeunt/sched/fiber_local.hpp>

#include <cxxabi.h>
#include <algorithm>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include <exeunt/base/error.hpp>
#include <exeunt/base/log.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/go.hpp>

#include "sched/current.hpp"
#include "sched/fiber.hpp"
#include "sched/fiber_locals.hpp"
#include "sched/switch_hooks.hpp"

namespace exeunt::sched {

using detail::local_value;

namespace {

constexpr int rounds_max = 4;  // As PTHREAD_DESTRUCTOR_ITERATIONS.

struct places {
  detail::spin_lock lock;
  std::vector<std::uint32_t> free;  // Has room for all that were given out.
  std::uint32_t given = 0;
  std::uint64_t variables = 0;
};

places& all_places() {
  static auto* const made = new places;  // Outlives static variables.
  return *made;
}

std::uint64_t new_key() {
  const detail::race_ignore own;
  places& all = all_places();
  const detail::spin_guard guard{all.lock};
  std::uint32_t place = 0;
  if (!all.free.empty()) {
    place = all.free.back();
    all.free.pop_back();
  } else {
    if (all.given == places_max) throw std::length_error{"fiber_local: too many variables"};
    if (all.free.capacity() <= all.given) all.free.reserve(2 * (std::size_t{all.given} + 1));
    place = ++all.given;
  }
  return ++all.variables << place_bits | place;
}

void give_back(std::uint64_t key) noexcept {
  const detail::race_ignore own;
  places& all = all_places();
  const detail::spin_guard guard{all.lock};
  all.free.push_back(place_of(key));
}

// In the slot of a value that is being made; its key is nobody's.
constinit local_value making;

void make_room(fiber_locals& table, std::uint32_t place) {
  if (place < table.count) return;
  const std::uint32_t count = std::max(2 * table.count, place + 1);
  auto* const more = new local_value*[count]();
  std::copy_n(table.slots, table.count, more);
  if (table.slots != table.few) delete[] table.slots;
  table.slots = more;
  table.count = count;
}

bool unlink(local_value*& first, local_value& value) noexcept {
  for (local_value** at = &first; *at != nullptr; at = &(*at)->older) {
    if (*at != &value) continue;
    *at = value.older;
    return true;
  }
  return false;
}

// The value is in no list any more.
void destroy(fiber_locals& table, local_value& value) noexcept {
  local_value*& slot = table.slots[place_of(value.key)];
  if (slot == &value) slot = nullptr;
  value.destroy(&value);
}

void destroy_early(fiber_locals& table, local_value& value) noexcept {
  if (!unlink(table.values, value)) unlink(table.dying, value);
  destroy(table, value);
}

void report_left(const fiber_locals& table) noexcept {
  std::size_t count = 0;
  for (const local_value* left = table.values; left != nullptr; left = left->older) ++count;
  try {
    std::string text = "exeunt: " + std::to_string(count) +
                       " fiber_local values are never destroyed, as their destructors make new "
                       "ones again and again";
    if (const fiber* const running = this_fiber_block()) {
      text += ", in fiber " + std::to_string(this_fiber::id()) + " \"" +
              std::string{this_fiber::name()} + "\", started at " +
              running->started_at.file_name() + ":" + std::to_string(running->started_at.line());
    }
    log_line(text);
  } catch (...) {
    log_line("exeunt: fiber_local values are never destroyed");
  }
}

// Never destroyed, but within reach, so that leak checkers see what is meant.
void keep(local_value& values) noexcept {
  static detail::atomic<local_value*> kept{nullptr};
  local_value* last = &values;
  while (last->older != nullptr) last = last->older;
  // order: relaxed; nobody ever looks.
  last->older = kept.load(detail::memory_order_relaxed);
  while (!kept.compare_exchange_weak(last->older, &values, detail::memory_order_relaxed)) {
  }
}

// The values that there are make a round; what they make is the next one's.
void destroy_all(fiber_locals& table) noexcept {
  for (int round = 0; table.values != nullptr; ++round) {
    if (round == rounds_max) {
      report_left(table);
      return keep(*std::exchange(table.values, nullptr));
    }
    table.dying = std::exchange(table.values, nullptr);
    while (local_value* const value = table.dying) {
      table.dying = value->older;
      destroy(table, *value);
    }
  }
}

// Of a plain thread. Its other thread_locals may make values again after this one has run.
void end_thread(void* /*unused*/) noexcept {
  fiber_locals*& of_thread = this_thread().locals;
  destroy_all(*of_thread);
  fiber_locals::free(std::exchange(of_thread, nullptr));
}

fiber_locals& table_of_caller() {
  fiber_locals*& table = locals_of_caller();
  if (table != nullptr) return *table;
  fiber_locals_ptr made{fiber_locals::make(0)};
  // The last argument tells which library must stay; this one stays anyway.
  if (&table == &this_thread().locals &&
      abi::__cxa_thread_atexit(&end_thread, nullptr, &making) != 0) {
    throw std::bad_alloc{};
  }
  table = made.release();
  return *table;
}

}  // namespace

fiber_locals* fiber_locals::make(std::size_t hook_bytes) {
  void* const room = std::calloc(1, header_bytes() + hook_bytes);
  if (room == nullptr) throw std::bad_alloc{};
  auto* const made = ::new (room) fiber_locals;
  made->has_hook_state = hook_bytes != 0;
  return made;
}

void fiber_locals::free(fiber_locals* old) noexcept {
  if (old == nullptr) return;
  if (old->slots != old->few) delete[] old->slots;
  std::free(old);
}

void destroy_locals(fiber& self) noexcept {
  destroy_all(*self.locals);
  if (self.locals->has_hook_state) end_hooks(self);
  fiber_locals::free(std::exchange(self.locals, nullptr));
}

}  // namespace exeunt::sched

namespace exeunt::detail {

using sched::fiber_locals;

std::uint64_t local_key::assigned() const {
  // order: relaxed; nothing is reached by it but the caller's own table.
  if (const std::uint64_t key = word_.load(memory_order_relaxed); key != 0) return key;
  const std::uint64_t fresh = sched::new_key();
  std::uint64_t key = 0;
  // order: relaxed, as above.
  if (word_.compare_exchange_strong(key, fresh, memory_order_relaxed)) return fresh;
  sched::give_back(fresh);
  return key;
}

local_key::~local_key() {
  reset();
  // order: relaxed; whoever destroys it must have been told that nobody uses it.
  if (const std::uint64_t key = word_.load(memory_order_relaxed); key != 0) sched::give_back(key);
}

local_value& local_key::find_or_make(function_ref<local_value*()> create) const {
  const std::uint64_t key = assigned();
  const std::uint32_t place = sched::place_of(key);
  fiber_locals& table = sched::table_of_caller();
  sched::make_room(table, place);
  // A stale value's destructor may do anything, such as use this variable.
  while (local_value* const there = table.slots[place]) {
    if (there->key == key) return *there;
    if (there == &sched::making) {
      throw panic_error{"fiber_local: a value cannot be made by means of itself"};
    }
    sched::destroy_early(table, *there);
  }
  table.slots[place] = &sched::making;
  local_value* made = nullptr;
  try {
    made = create();
  } catch (...) {
    table.slots[place] = nullptr;
    throw;
  }
  made->key = key;
  made->older = std::exchange(table.values, made);
  table.slots[place] = made;
  return *made;
}

void local_key::reset() noexcept {
  if (local_value* const found = find()) sched::destroy_early(*sched::locals_of_caller(), *found);
}

void end_fiber_locals() noexcept {
  if (fiber_locals* const own = sched::locals_of_caller()) sched::destroy_all(*own);
}

}  // namespace exeunt::detail
