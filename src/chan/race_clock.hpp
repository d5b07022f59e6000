// SPDX-License-Identifier: Apache-2.0
// What a channel tells ThreadSanitizer: exactly the edges of the memory model, also where one
// party acts for another that is parked. Without the tool all of this is nothing.
//
// Edges: a send happens before its receive completes; the k-th receive before the (k+C)-th send
// completes, where C is the capacity; a close before a receive that finds the end.
//
// Who uses a ring slot enters and leaves it, which orders the users of one slot. Somebody parked
// has left his clock, a heap word released before parking. The active party
//   - of an unbuffered channel meets him: acquires and releases his clock;
//   - else only releases it, and leaves a reference to it in the slot, for the slot's next user.
// So a receiver that refills a slot from a parked sender does not itself come after that sender:
// the program has no such order. For the same reason the move it makes is hidden from the tool.

#pragma once

#include <algorithm>
#include <cstddef>

#include <exeunt/base/race.hpp>
#include <exeunt/chan/core.hpp>

#ifdef EXEUNT_HAS_TSAN
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
void __tsan_read1(void* address);
void __tsan_write1(void* address);
}
#endif

namespace exeunt::detail {

#ifdef EXEUNT_HAS_TSAN

/// The clock of a parked caller. Owned by the caller and by up to one slot.
class race_clock {
 public:
  /// The caller's clock as it is now.
  static race_clock* leave() {
    auto* const made = new race_clock;
    race_release(made);
    return made;
  }
  void share() noexcept { owners_.fetch_add(1, memory_order_relaxed); }  // order: owns one.
  void drop() noexcept {
    // order: acq_rel; the last owner frees what the other may have used.
    if (owners_.fetch_sub(1, memory_order_acq_rel) == 1) delete this;
  }
  /// For the caller, awake again: comes after what his waker released.
  void resume() noexcept {
    race_acquire(this);
    drop();
  }

 private:
  atomic<int> owners_{1};
};

struct race_slot {
  race_clock* left = nullptr;  // Of somebody who used the slot while parked.

  void enter() noexcept {
    race_acquire(this);
    if (left == nullptr) return;
    race_acquire(left);
    left->drop();
    left = nullptr;
  }
  void leave() noexcept { race_release(this); }
  void leave_for(race_clock& parked) noexcept {
    race_release(this);
    race_release(&parked);
    parked.share();
    if (left != nullptr) left->drop();
    left = &parked;
  }
  ~race_slot() {
    if (left != nullptr) left->drop();
  }
};

/// Hides what its scope reads and writes.
class race_hidden {
 public:
  race_hidden() noexcept {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~race_hidden() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
};

/// Slots further apart than this share a clock: channels of events may have room for any number.
inline constexpr std::size_t race_slots_max = std::size_t{1} << 16U;

inline race_slot* make_race_slots(std::size_t count) {
  return count == 0 ? nullptr : new race_slot[std::min(count, race_slots_max)];
}
inline void free_race_slots(race_slot* slots) noexcept { delete[] slots; }
inline race_clock* leave_clock() noexcept { return race_clock::leave(); }
inline void resume_from(race_clock* mine) noexcept { mine->resume(); }
inline void meet(race_clock* parked) noexcept { race_acquire(parked); }
inline void part(race_clock* parked) noexcept { race_release(parked); }
inline void enter_slot(race_slot* slots, std::size_t index) noexcept {
  slots[index % race_slots_max].enter();
}
inline void leave_slot(race_slot* slots, std::size_t index) noexcept {
  slots[index % race_slots_max].leave();
}
inline void leave_slot_for(race_slot* slots, std::size_t index, race_clock* parked) noexcept {
  slots[index % race_slots_max].leave_for(*parked);
}
inline void race_read(void* address) noexcept { __tsan_read1(address); }
inline void race_write(void* address) noexcept { __tsan_write1(address); }
inline constexpr bool race_shown = true;

#else

struct race_hidden {
  race_hidden() noexcept {}
};

inline race_slot* make_race_slots(std::size_t) { return nullptr; }
inline void free_race_slots(race_slot*) noexcept {}
inline race_clock* leave_clock() noexcept { return nullptr; }
inline void resume_from(race_clock*) noexcept {}
inline void meet(race_clock*) noexcept {}
inline void part(race_clock*) noexcept {}
inline void enter_slot(race_slot*, std::size_t) noexcept {}
inline void leave_slot(race_slot*, std::size_t) noexcept {}
inline void leave_slot_for(race_slot*, std::size_t, race_clock*) noexcept {}
inline void race_read(void*) noexcept {}
inline void race_write(void*) noexcept {}
inline constexpr bool race_shown = false;

#endif

}  // namespace exeunt::detail
