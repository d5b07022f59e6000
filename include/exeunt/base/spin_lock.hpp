// SPDX-License-Identifier: Apache-2.0
// A lock for critical sections of some tens of instructions, which never park and never call out.

#pragma once

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/race.hpp>

namespace exeunt::detail {

/// One byte. Test-and-set with a back-off that ends in giving up the processor, since the holder
/// may be a thread that the kernel has put aside.
///
/// Threads: any. The unlocking thread may differ from the locking one (a park releases the lock
///          from the next fiber's side).
class spin_lock {
 public:
  constexpr spin_lock() noexcept = default;
  spin_lock(const spin_lock&) = delete;
  spin_lock& operator=(const spin_lock&) = delete;

  EXEUNT_NO_TSAN void lock() noexcept {
    if (__builtin_expect(!take_if_free(), 0)) lock_slowly();
  }

  EXEUNT_NO_TSAN bool try_lock() noexcept {
    // order: as take_if_free(); the relaxed look only spares the locked instruction.
    return held_.load(memory_order_relaxed) == 0 && take_if_free();
  }
  /// As try_lock(), for who expects it to be free: a look first would fetch the line twice.
  EXEUNT_NO_TSAN bool take_if_free() noexcept {
#ifdef EXEUNT_CORE_MODEL
    unsigned char nobody = 0;
    return held_.compare_exchange_strong(nobody, model::holder(), memory_order_acquire);
#else
    // order: acquire, pairs with the release in unlock(); publishes what the lock guards.
    return held_.exchange(1, memory_order_acquire) == 0;
#endif
  }

  /// For a caller who is the only one to take this lock, and does not hold it: by a plain store.
  EXEUNT_NO_TSAN void hold() noexcept {
#ifdef EXEUNT_CORE_MODEL
    held_.store(model::holder(), memory_order_release);
#else
    // order: release; who sees it held sees what the holder did before.
    held_.store(1, memory_order_release);
#endif
  }
  EXEUNT_NO_TSAN bool is_held() const noexcept {
    // order: acquire, pairs with the release in unlock().
    return held_.load(memory_order_acquire) != 0;
  }

  EXEUNT_NO_TSAN void unlock() noexcept {
#ifdef EXEUNT_CORE_MODEL
    const unsigned char by_whom = held_.exchange(0, memory_order_release);
    if (by_whom == model::held_by_fiber) model::installed.let_go(this);
#else
    // order: release, pairs with the acquire in take_if_free().
    held_.store(0, memory_order_release);
#endif
  }

 private:
  EXEUNT_API void lock_slowly() noexcept;

  // An integer: of atomic<bool> the operations are calls that ThreadSanitizer would see.
  atomic<unsigned char> held_{0};
};

/// What to do between looks at something that a thread does soon, unless the kernel has put it
/// aside: pauses, longer each time, and gives the processor up when they have been many.
class spin_wait {
 public:
  EXEUNT_API void pause() noexcept;

 private:
  unsigned looks_ = 0;
};

/// std::lock_guard would be instrumented by ThreadSanitizer in user code; this one is not.
class [[nodiscard]] spin_guard {
 public:
  EXEUNT_NO_TSAN explicit spin_guard(spin_lock& lock) noexcept : lock_{&lock} { lock.lock(); }
  EXEUNT_NO_TSAN ~spin_guard() {
    if (lock_ != nullptr) lock_->unlock();
  }
  spin_guard(const spin_guard&) = delete;
  spin_guard& operator=(const spin_guard&) = delete;

  EXEUNT_NO_TSAN void unlock() noexcept {
    lock_->unlock();
    lock_ = nullptr;
  }
  /// Gives the duty to unlock to somebody else, such as a park.
  EXEUNT_NO_TSAN spin_lock& release() noexcept {
    spin_lock& lock = *lock_;
    lock_ = nullptr;
    return lock;
  }

 private:
  spin_lock* lock_;
};

}  // namespace exeunt::detail
