// SPDX-License-Identifier: Apache-2.0
// The lists of held locks: one for each fiber or thread that holds any.
//
// A list is taken when its owner has its first lock, from its worker's spare one or from the pool,
// and given back with the last. Somebody else who unlocks a lock finds it by a look at all lists,
// those in the pool included; the owner then finds its list shorter, or empty. The list of a thread
// that ends while it holds something stays as it is.
//
// Invariants:
//   I1  What is in a list is changed under the list's lock only, by whoever. Which list is whose
//       (held_of_caller()) is known to the owner alone, and changed by it alone.
//   I2  A list in the pool, and a spare one, is empty.
//   I3  A list of an older generation counts as empty: what was locked while nobody watched, or
//       unlocked, is not known. Its owner empties it before it adds to it.
// Locks: pool.lock is a leaf. Under a list's lock the detector takes that of its graph, and nothing
//   else is taken.
// Races: none of this orders anything between fibers, as ThreadSanitizer sees it: the locks are not
//   instrumented, and neither is this room. race_ignore is for the copies, which may be memcpy().
// Tests: tests/sync/lock_order_test.cpp, tests/sync/lock_order_stress_test.cpp.

#include "sched/held_locks.hpp"

#include <pthread.h>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>

#include <exeunt/base/race.hpp>

#include "arch/sanitizer.hpp"
#include "sched/current.hpp"
#include "sched/fiber.hpp"
#include "sched/worker.hpp"

namespace exeunt::sched {

using detail::memory_order_acquire;
using detail::memory_order_relaxed;
using detail::memory_order_release;

namespace {

constexpr std::size_t batch_lists = 8;

struct batch {
  held_locks lists[batch_lists];
  batch* older = nullptr;
};

struct list_pool {
  detail::spin_lock lock;
  held_locks* free = nullptr;            // under `lock`
  detail::atomic<batch*> made{nullptr};  // the newest; read without the lock
};

constinit list_pool pool;
constinit detail::atomic<std::uint32_t> generation_now{0};

template <typename Visit>
void for_each_list(const Visit& visit) noexcept {
  // order: acquire, pairs with the release in grow().
  for (batch* one = pool.made.load(memory_order_acquire); one != nullptr; one = one->older) {
    for (held_locks& list : one->lists) visit(list);
  }
}

// A forked child begins with nothing held: threads that are not there may have been in a list.
void watch_forks_of_lists() noexcept {
  [[maybe_unused]] static const int once = ::pthread_atfork(
      [] { pool.lock.lock(); }, [] { pool.lock.unlock(); },
      [] {
        pool.lock.unlock();
        for_each_list([](held_locks& list) { ::new (&list.lock) detail::spin_lock; });
        forget_all_held();
      });
}

// Under pool.lock.
void grow() noexcept {
  void* const room = std::malloc(sizeof(batch));
  if (room == nullptr) return;
  auto* const made = ::new (room) batch;
  made->older = pool.made.load(memory_order_relaxed);  // order: under the lock.
  pool.made.store(made, memory_order_release);         // order: publishes the lists.
  for (held_locks& list : made->lists) list.next_free = std::exchange(pool.free, &list);
}

held_locks* take_list() noexcept {
  if (worker* const here = this_worker(); here != nullptr && here->spare_held != nullptr) {
    return std::exchange(here->spare_held, nullptr);
  }
  watch_forks_of_lists();
  const detail::spin_guard guard{pool.lock};
  if (pool.free == nullptr) grow();
  held_locks* const taken = pool.free;
  if (taken != nullptr) pool.free = taken->next_free;
  return taken;
}

void give_back(held_locks& list) noexcept {
  if (worker* const here = this_worker(); here != nullptr && here->spare_held == nullptr) {
    here->spare_held = &list;
    return;
  }
  const detail::spin_guard guard{pool.lock};
  list.next_free = std::exchange(pool.free, &list);
}

// Under the list's lock.
std::uint32_t count_of(const held_locks& list) noexcept {
  // order: relaxed, both; the count is the list's lock's, the generation an advice.
  return list.generation == generation_now.load(memory_order_relaxed)
             ? list.count.load(memory_order_relaxed)
             : 0;
}

// Takes out those that `is_it` knows, the newest first, at most `most`. Returns: how many are left.
template <typename IsIt>
std::uint32_t take_out(held_locks& list, std::uint32_t most, bool& found, IsIt is_it) noexcept {
  const detail::spin_guard guard{list.lock};
  std::uint32_t count = count_of(list);
  for (std::uint32_t at = count; at-- > 0 && most > 0;) {
    if (!is_it(list.entries[at])) continue;
    for (std::uint32_t next = at + 1; next < count; ++next) {
      list.entries[next - 1] = list.entries[next];
    }
    --count;
    --most;
    found = true;
  }
  list.count.store(count, memory_order_relaxed);  // order: under the lock.
  return count;
}

// How far the caller's stack goes up from `frame`. Null: that is on another one.
const std::byte* end_of_stack(const void* frame) noexcept {
  if (const fiber* const running = this_fiber_block()) {
    if (!running->stack.contains(frame)) return nullptr;
    return static_cast<const std::byte*>(running->stack.base) + running->stack.size;
  }
  thread_state& here = this_thread();
  if (here.stack_end == nullptr) {
    pthread_attr_t attributes;
    if (::pthread_getattr_np(::pthread_self(), &attributes) != 0) return nullptr;
    void* base = nullptr;
    std::size_t size = 0;
    if (::pthread_attr_getstack(&attributes, &base, &size) == 0) {
      here.stack_base = static_cast<const std::byte*>(base);
      here.stack_end = here.stack_base + size;
    }
    ::pthread_attr_destroy(&attributes);
  }
  const bool is_there = frame >= here.stack_base && frame < here.stack_end;
  return is_there ? here.stack_end : nullptr;
}

}  // namespace

EXEUNT_NO_ASAN void walk_stack(const void* frame, call_trace& to) noexcept {
  // A frame begins with the caller's frame, and the address to return to.
  struct record {
    const record* caller;
    void* pc;
  };
  to.depth = 0;
  const auto* at = static_cast<const record*>(frame);
  const auto* const end = reinterpret_cast<const record*>(end_of_stack(frame));
  while (to.depth < call_trace::max) {
    if (at->pc == nullptr) return;
    to.pcs[to.depth++] = at->pc;
    // Whatever a function keeps in the register, what is read is on this stack, and further up.
    const record* const next = at->caller;
    if (end == nullptr || next <= at || next + 1 > end) return;
    if (reinterpret_cast<std::uintptr_t>(next) % alignof(record) != 0) return;
    at = next;
  }
}

void add_held(const held_lock& one) noexcept {
  const detail::race_ignore own;
  held_locks*& mine = held_of_caller();
  if (mine == nullptr) mine = take_list();
  if (mine == nullptr) return;
  held_locks& list = *mine;
  const detail::spin_guard guard{list.lock};
  const std::uint32_t count = count_of(list);
  list.generation = generation_now.load(memory_order_relaxed);  // order: see count_of().
  if (count == held_locks::max) return;
  list.entries[count] = one;
  list.count.store(count + 1, memory_order_relaxed);  // order: under the lock.
}

void remove_held(const detail::order_mark* mark, bool shared) noexcept {
  const detail::race_ignore own;
  const auto is_it = [&](const held_lock& one) { return one.mark == mark && one.shared == shared; };
  bool found = false;
  if (held_locks*& mine = held_of_caller(); mine != nullptr) {
    if (take_out(*mine, 1, found, is_it) == 0) give_back(*std::exchange(mine, nullptr));
    if (found) return;
  }
  for_each_list([&](held_locks& list) {
    // order: relaxed; what the caller knows of was noted before he could know.
    if (found || list.count.load(memory_order_relaxed) == 0) return;
    take_out(list, 1, found, is_it);
  });
}

void remove_all_held(const detail::order_mark* mark) noexcept {
  const detail::race_ignore own;
  bool found = false;
  for_each_list([&](held_locks& list) {
    if (list.count.load(memory_order_relaxed) == 0) return;  // order: as in remove_held().
    take_out(list, held_locks::max, found, [&](const held_lock& one) { return one.mark == mark; });
  });
}

bool look_at_held(std::uint32_t index, function_ref<void(const held_lock&)> look) noexcept {
  held_locks* const mine = held_of_caller();
  if (mine == nullptr) return false;
  const detail::race_ignore own;
  const detail::spin_guard guard{mine->lock};
  if (index >= count_of(*mine)) return false;
  look(mine->entries[index]);
  return true;
}

void forget_all_held() noexcept {
  generation_now.fetch_add(1, memory_order_relaxed);  // order: see count_of().
}

void drop_held(held_locks*& list) noexcept {
  if (list == nullptr) return;
  const detail::race_ignore own;
  held_locks& dropped = *std::exchange(list, nullptr);
  bool found = false;
  take_out(dropped, held_locks::max, found, [](const held_lock&) { return true; });
  const detail::spin_guard guard{pool.lock};
  dropped.next_free = std::exchange(pool.free, &dropped);
}

}  // namespace exeunt::sched
