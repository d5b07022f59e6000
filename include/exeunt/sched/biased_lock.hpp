// SPDX-License-Identifier: Apache-2.0
// detail: a spin lock that costs a worker which uses it alone no locked instruction.

#pragma once

#include <cstdint>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/wait.hpp>

namespace exeunt::detail {

/// A spin lock, and an owner: a worker, which takes it by a plain store to a hold of its own turn,
/// and then looks whether it is the owner still. Everybody else takes the spin lock, and first puts
/// an end to the ownership if there is one, which costs a microsecond or more. A worker that has
/// taken it so often in a row becomes the owner. src/sched/biased_lock.cpp has the proof.
///
/// Threads: any. The thread that locked unlocks; the caller must not change threads in between.
class biased_lock {
 public:
  constexpr biased_lock() noexcept = default;
  biased_lock(const biased_lock&) = delete;
  biased_lock& operator=(const biased_lock&) = delete;

  /// `me` is the calling thread's turn; `depth`, how many such locks it has locked already.
  /// Returns: what is to be unlocked, or given to park().
  EXEUNT_NO_TSAN [[nodiscard]] spin_lock& lock(turn& me, std::uint32_t depth = 0) noexcept {
    spin_lock* const alone = lock_alone(me, depth);
    return alone != nullptr ? *alone : lock_shared(me);
  }

  /// The part of lock() that is for owners. Returns: null if `me` is not the owner: lock_shared().
  EXEUNT_NO_TSAN [[nodiscard]] spin_lock* lock_alone(turn& me, std::uint32_t depth = 0) noexcept {
#ifdef EXEUNT_CORE_MODEL
    return nullptr;  // An owner relies on it that fibers are not switched inside.
#endif
    const auto mine = reinterpret_cast<std::uintptr_t>(&me);
    // order: relaxed, both; who reads himself here has written it, and as long as it is so comes
    // after nobody but himself.
    if (owner_.load(memory_order_relaxed) != mine || depth >= turn::holds_max) [[unlikely]] {
      return nullptr;
    }
    turn::hold& hold = me.holds[depth];
    // order: release; who sees that the hold is of another lock now sees what was done under the
    // last one.
    hold.what.store(this, memory_order_release);
    hold.inside.hold();
    asm volatile("" : : : "memory");  // The light fence; where it is not enough nobody is owner.
    if (owner_.load(memory_order_relaxed) == mine) [[likely]] {
      me.unfenced = true;
      return &hold.inside;
    }
    hold.inside.unlock();
    return nullptr;
  }
  /// The part that is for everybody.
  EXEUNT_API spin_lock& lock_shared(turn& me) noexcept;

  /// For tests: whether `me` owns it now.
  EXEUNT_NO_TSAN [[nodiscard]] bool is_owned_by(const turn& me) const noexcept {
    return owner_.load(memory_order_relaxed) == reinterpret_cast<std::uintptr_t>(&me);
  }

  /// So often in a row, as a power of two; one more after each time that somebody else has ended an
  /// ownership, up to the second number.
#ifdef EXEUNT_DCHECKS
  static constexpr std::uint8_t patience_min = 1;
  static constexpr std::uint8_t patience_max = 3;
#else
  static constexpr std::uint8_t patience_min = 6;
  static constexpr std::uint8_t patience_max = 16;
#endif

 private:
  static constexpr std::uintptr_t candidate = 1;

  spin_lock shared_;
  // Under shared_.
  std::uint8_t patience_ = patience_min;
  std::uint32_t in_a_row_ = 0;  // How often the candidate has had it.
  // A turn; with the bit `candidate` of one that is not the owner yet. Written under shared_.
  atomic<std::uintptr_t> owner_{candidate};
};

}  // namespace exeunt::detail
