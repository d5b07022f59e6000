// SPDX-License-Identifier: Apache-2.0
//
// The stacks that fibers run on: address space with a guard below, of which only what is touched is
// memory. The pool hands them out and takes them back; stack_cache spares a worker its lock.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include <exeunt/base/clock.hpp>

#include "arch/sanitizer.hpp"

namespace exeunt::arch {

/// Bytes below every stack that fault when touched, rounded up to whole pages; several pages, as a
/// large frame jumps over one. An odd number, so that default stacks lie an odd number apart: their
/// tops are then spread over all sets of a TLB, which an even number leaves a part of unused.
inline constexpr std::size_t stack_guard_bytes = std::size_t{20} * 1024;

/// Bytes at the top that a stack keeps as memory when it lies in the pool for long.
inline constexpr std::size_t stack_warm_bytes = std::size_t{16} * 1024;

/// The usable bytes of a stack unless somebody says otherwise. With the guard, 14 stacks share a
/// page of the page tables: 297 bytes of them for each, where 256 KiB would take 553.
inline constexpr std::size_t default_stack_bytes = std::size_t{128} * 1024;
static_assert((stack_guard_bytes + default_stack_bytes) / 4096 % 2 == 1, "see stack_guard_bytes");

/// A stack on loan from a pool: a plain value; whoever has it gives it back exactly once.
struct stack {
  void* base = nullptr;      ///< lowest usable byte, the guard is below
  std::size_t size = 0;      ///< usable bytes from base on
  void* owner = nullptr;     ///< the pool's arena
  std::uint16_t slot = 0;    ///< the pool's index in the arena
  std::uint16_t colour = 0;  ///< bytes left free at the top, so that tops spread over cache sets
  bool guarded = false;      ///< false: touching what is below is not caught; check the saved sp

  /// Returns: where the stack begins, aligned to 64 bytes; it grows down from here.
  [[nodiscard]] void* top() const noexcept { return static_cast<std::byte*>(base) + size - colour; }
  /// Returns: whether `address` lies in the usable bytes.
  [[nodiscard]] bool contains(const void* address) const noexcept {
    return address >= base && address < static_cast<std::byte*>(base) + size;
  }
  /// Returns: whether `address` lies in the guard zone: an overflow if something faulted there.
  [[nodiscard]] bool guard_contains(const void* address) const noexcept;
  explicit operator bool() const noexcept { return base != nullptr; }
};
static_assert(sizeof(stack) == 32, "it is kept in every control block");

/// How guards are made. Marks in the page tables (Linux 6.13) cost no mapping each; page protection
/// costs two of the vm.max_map_count that a process may have; what is beyond has no guard, and one
/// line in the log of each pool says so.
struct stack_guards {
  bool light = true;        ///< use marks where the kernel has them
  long protected_max = -1;  ///< guards by page protection in the process; -1: limit / 4
};

/// A source of stacks. Stacks of the default size come from arenas and are cached, those of the
/// arena put to last first; others are mapped and unmapped one by one.
///
/// Memory:  a stack that is put keeps its memory, so that the next get() costs no page fault, and a
///          put() no system call; tend() gives back what turns out not to be needed. So the pool
///          holds at most what its stacks in use at one time have touched; a period or two later,
///          if nobody needs it, `cached_max` tops of stack_warm_bytes.
/// Threads: all members, from any thread; takes a spin lock that no other lock is taken under.
class stack_pool {
 public:
  /// Stacks kept warm in the pool however long nobody needs them: 16 MiB at most.
  static constexpr std::size_t default_cached_max = 1024;
  /// How long a stack lies in the pool at least before its memory is given back.
  static constexpr clock::duration tend_period = std::chrono::seconds{1};

  /// Keeps `cached_max` stacks of `default_bytes` usable bytes warm for good.
  explicit stack_pool(std::size_t default_bytes = default_stack_bytes,
                      std::size_t cached_max = default_cached_max, stack_guards guards = {});
  /// Unmaps everything, also stacks still out on loan: nothing may run on them any more.
  ~stack_pool();
  stack_pool(const stack_pool&) = delete;
  stack_pool& operator=(const stack_pool&) = delete;

  /// Returns: a stack of at least `bytes` usable bytes (0: the default size); an empty one if the
  ///     system gives no more address space. Its contents are arbitrary.
  /// Cost: a lock if cached; else page faults, and a system call for the guard.
  [[nodiscard]] stack get(std::size_t bytes = 0);
  /// Takes a stack back. Nothing may run on it any more.
  /// Cost: a lock; if the size is not the default one, a system call.
  void put(const stack& back);
  /// Fills `out` with cached stacks, or with fresh ones if there are none.
  /// Returns: how many; 0 if the system gives no more.
  /// Cost: a lock; for fresh ones one system call for all guards, 0.6 us each.
  [[nodiscard]] std::size_t get_some(stack* out, std::size_t count);
  /// put() for each of `count` stacks.
  void put_some(const stack* back, std::size_t count);
  /// Gives back some of the memory that nobody has needed for a period: stacks beyond `cached_max`,
  /// and what deep calls have touched. To be called now and then, also when nothing runs any more.
  /// Returns: when it wants to be called again: `now` if there is more to do, no_deadline if there
  ///     will be nothing to do unless a stack is put.
  /// Cost: a lock; at most about 0.5 ms of system calls.
  clock::time_point tend(clock::time_point now);
  /// Gives the memory of all cached stacks back to the system.
  void trim();

  /// Returns: stacks handed out, those in a stack_cache included.
  [[nodiscard]] std::size_t live() const;
  /// Returns: stacks that lie in the pool with their memory.
  [[nodiscard]] std::size_t cached() const;
  /// Returns: usable bytes of a stack of the default size.
  [[nodiscard]] std::size_t default_bytes() const noexcept;

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

/// A worker's own handful of default stacks. Unlike the pool it keeps what deep calls have touched,
/// at most `capacity` whole stacks, also while the worker sleeps: how long that will be is known
/// only afterwards, and to flush before a short sleep would cost it a system call a stack.
/// Threads: one at a time; the pool outlives it.
class stack_cache {
 public:
  static constexpr std::size_t capacity = 32;
  /// As many are got from the pool, or put, at once. A quarter, so that two workers do not hoard
  /// what a third one maps anew.
  static constexpr std::size_t batch = capacity / 4;
  /// Every so many put() calls, the stack at hand gives back what deep calls have touched.
  static constexpr unsigned puts_per_trim = 1024;

  explicit stack_cache(stack_pool& pool) noexcept
      : pool_(&pool), default_bytes_(pool.default_bytes()) {}
  ~stack_cache() { flush(); }
  stack_cache(const stack_cache&) = delete;
  stack_cache& operator=(const stack_cache&) = delete;

  /// Returns: as stack_pool::get(); sizes other than the default bypass the cache.
  [[nodiscard]] stack get(std::size_t bytes = 0) {
    if (count_ == 0 || (bytes != 0 && bytes != default_bytes_)) return get_slowly(bytes);
    const stack last = unpacked(entries_[--count_]);
    san_recycle(last.base, last.size);
    return last;
  }
  /// As stack_pool::put().
  void put(const stack& back) {
    const bool plain = back.size == default_bytes_ && count_ < capacity;
    if (!plain || ++puts_ % puts_per_trim == 0) return put_slowly(back);
    entries_[count_++] = packed(back);
  }
  /// Gives everything to the pool.
  void flush();
  /// Returns: stacks at hand.
  [[nodiscard]] std::size_t size() const noexcept { return count_; }

 private:
  // A stack in words. Were it copied as it is, its small members would be written one by one and
  // read back at once in 16 bytes, which a processor's store buffer cannot forward: 12 ns.
  struct entry {
    void* base;
    void* owner;
    std::uint64_t rest;
  };
  static entry packed(const stack& s) noexcept {
    const std::uint64_t guarded = s.guarded ? 1 : 0;
    return {s.base, s.owner, s.slot | std::uint64_t{s.colour} << 16 | guarded << 32};
  }
  [[nodiscard]] stack unpacked(const entry& e) const noexcept {
    stack s;
    s.base = e.base;
    s.size = default_bytes_;
    s.owner = e.owner;
    s.slot = static_cast<std::uint16_t>(e.rest);
    s.colour = static_cast<std::uint16_t>(e.rest >> 16);
    s.guarded = (e.rest >> 32) != 0;
    return s;
  }
  void give_oldest(std::size_t count);
  stack get_slowly(std::size_t bytes);
  void put_slowly(const stack& back);

  stack_pool* pool_;
  std::size_t default_bytes_;
  std::size_t count_ = 0;
  unsigned puts_ = 0;
  std::array<entry, capacity> entries_;
  // Between here and the pool. Not a local, which would be on a fiber's stack: a worker starts and
  // ends fibers there, and what it needs for it must not make a shallow stack touch a second page.
  std::array<stack, batch> in_transit_;
};

}  // namespace exeunt::arch
