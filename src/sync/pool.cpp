// SPDX-License-Identifier: Apache-2.0
// What a pool keeps: a cache for each worker, and a store for all.
//
// After Bonwick and Adams, "Magazines and Vmem" (2001), with the caches in their owners' hands by a
// biased lock, so that thieves and ticks can get at them; the ageing is that of Go's sync.Pool,
// whose victims are here the lower part of the same stack: what was in a cache at the last tick,
// and has stayed there since.
//
// Invariants, whenever the named lock is free:
//   I1  A shelf's items [0, old) have been there since the last tick, [old, size) came later. Its
//       lock: `lock` of a cache, or of the store.
//   I2  size <= capacity, which never changes.
//   I3  An object is on one shelf, or with whoever took it.
// A worker's cache has the number of its turn. A turn is had by one worker at a time, so a cache is
// one worker's, too; but for correctness that does not matter, as it has a lock.
// Locks: all of them are leaves, and nobody holds two: what moves between shelves is in the mover's
//   hands meanwhile, where nobody else finds it. Objects are destroyed under none.
// Turns: no scheduling point, as nothing waits.
// Wake-ups: none.
// Tests: tests/sync/pool_test.cpp, pool_stress_test.cpp; tests/sim/covered_pool_test.cpp.

#include <exeunt/sync/pool.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <new>
#include <span>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/error.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/biased_lock.hpp>
#include <exeunt/sched/wait.hpp>

#include "sched/current.hpp"
#include "sched/fence.hpp"
#include "sched/upkeep.hpp"

namespace exeunt::detail {

namespace {

constexpr std::uint32_t per_worker_max = 256;
// Workers above have no cache; there are seldom more at once than CPUs.
constexpr std::uint32_t caches_max = 64;
// What a thief leaves alone: to end an ownership for less costs more than most objects do.
constexpr std::uint32_t stolen_from = 4;  // A fourth of a full cache.

/// Objects on their way from a shelf to somewhere else.
class batch {
 public:
  [[nodiscard]] std::span<void* const> rest() const noexcept {
    return {items_.data(), items_.data() + size_};
  }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] void* pop() noexcept { return size_ == 0 ? nullptr : items_[--size_]; }
  void push(void* object) noexcept { items_[size_++] = object; }
  void drop_front(std::size_t count) noexcept {
    size_ -= count;
    std::memmove(items_.data(), items_.data() + count, size_ * sizeof(void*));
  }
  [[nodiscard]] std::size_t room() const noexcept { return items_.size() - size_; }
  /// Takes the lowest of `from`, as many as there is room for and at most `count`.
  std::size_t take(void** from, std::size_t count) noexcept {
    const std::size_t moved = std::min(count, room());
    std::memcpy(items_.data() + size_, from, moved * sizeof(void*));
    size_ += moved;
    return moved;
  }

 private:
  std::array<void*, per_worker_max> items_;
  std::size_t size_ = 0;
};

/// A stack of idle objects whose lower part is older. Not thread-safe; but size(), which is a hint
/// to others. ThreadSanitizer does not know of its lock, and would see memcpy().
class shelf {
 public:
  shelf(void** items, std::size_t capacity) noexcept : items_{items}, capacity_{capacity} {}

  [[nodiscard]] std::size_t size() const noexcept {
    return size_.load(memory_order_relaxed);  // order: a hint, or under the lock.
  }

  [[nodiscard]] void* pop() noexcept {
    const std::size_t was = size();
    if (was == 0) return nullptr;
    set_size(was - 1);
    if (old_ == was) old_ = was - 1;
    return items_[was - 1];
  }
  [[nodiscard]] bool push(void* object) noexcept {
    const std::size_t was = size();
    if (was == capacity_) return false;
    items_[was] = object;
    set_size(was + 1);
    return true;
  }
  /// Takes what there is room for, from the front.
  void put(batch& from) noexcept {
    const std::size_t was = size();
    const auto all = from.rest();
    const std::size_t count = std::min(all.size(), capacity_ - was);
    std::copy_n(all.begin(), count, items_ + was);
    set_size(was + count);
    from.drop_front(count);
  }
  /// Moves the oldest, at most `count`.
  void take_oldest(batch& into, std::size_t count) noexcept {
    const std::size_t was = size();
    const std::size_t moved = into.take(items_, std::min(count, was));
    std::memmove(items_, items_ + moved, (was - moved) * sizeof(void*));
    set_size(was - moved);
    old_ -= std::min(old_, moved);
  }
  /// Moves the newest, at most `count`.
  void take_newest(batch& into, std::size_t count) noexcept {
    const std::size_t left = size() - std::min({count, size(), into.room()});
    into.take(items_ + left, size() - left);
    set_size(left);
    old_ = std::min(old_, left);
  }
  /// Moves victims while there is room. Returns: true if some are left.
  [[nodiscard]] bool take_old(batch& into) noexcept {
    std::size_t left = size();
    while (old_ > 0 && into.room() > 0) {
      into.push(items_[--old_]);
      items_[old_] = items_[--left];  // The newest, if there is one: it stays new.
    }
    set_size(left);
    return old_ > 0;
  }
  /// A tick: all that is here is old now.
  void age() noexcept { old_ = size(); }

 private:
  void set_size(std::size_t to) noexcept { size_.store(to, memory_order_relaxed); }

  void** const items_;
  const std::size_t capacity_;
  atomic<std::size_t> size_{0};
  std::size_t old_ = 0;
};

struct alignas(64) cache {
  cache(std::unique_ptr<void*[]> room, std::size_t capacity) noexcept
      : items{std::move(room)}, kept{items.get(), capacity} {}

  biased_lock lock;
  const std::unique_ptr<void*[]> items;
  shelf kept;
};

// The caller must not change threads while it holds one, nor between it and asking for its turn.
class [[nodiscard]] cache_guard {
 public:
  cache_guard(cache& of, turn& me) noexcept : held_{of.lock.lock(me)} {}
  explicit cache_guard(cache& of) noexcept : cache_guard{of, sched::this_turn()} {}
  ~cache_guard() { held_.unlock(); }
  cache_guard(const cache_guard&) = delete;
  cache_guard& operator=(const cache_guard&) = delete;

 private:
  spin_lock& held_;
};

}  // namespace

struct pool_core::impl final : sched::upkeep {
  impl(const pool_limits& limits, void (*d)(void* object) noexcept)
      : sched::upkeep{limits.tick},
        destroy{d},
        per_worker{limits.per_worker},
        store_items{std::make_unique_for_overwrite<void*[]>(limits.common)},
        store{store_items.get(), limits.common} {}

  [[nodiscard]] bool has_some() const noexcept override { return idle() > 0; }
  void call() noexcept override { age(); }

  // The worker's cache, or null if it has none yet, or never will.
  [[nodiscard]] cache* cache_of(const turn& me) const noexcept {
    if (!me.is_lasting || me.number >= caches_max) return nullptr;
    // order: acquire, pairs with the release in make_cache().
    return caches[me.number].load(memory_order_acquire);
  }
  [[nodiscard]] cache* make_cache(const turn& me) noexcept;
  [[nodiscard]] void* take_slowly(turn& me, cache* mine) noexcept;
  void give_slowly(turn& me, cache* mine, void* object) noexcept;
  void steal(turn& me, const cache* mine, batch& into) noexcept;
  void put_in_store(batch& from) noexcept;
  template <typename Locked, typename Take>
  std::size_t end_all(Locked&& locked, Take&& take) noexcept;
  void age() noexcept;
  std::size_t trim() noexcept;
  [[nodiscard]] std::size_t idle() const noexcept;

  void end(void* object) const noexcept {
    race_acquire(object);
    destroy(object);
  }
  void end(batch& all) const noexcept {
    while (void* const object = all.pop()) end(object);
  }
  template <typename F>
  void for_each_cache(F&& f) const noexcept {
    for (const atomic<cache*>& place : caches) {
      // order: as in cache_of().
      if (cache* const one = place.load(memory_order_acquire)) f(*one);
    }
  }

  void (*const destroy)(void* object) noexcept;
  const std::uint32_t per_worker;
  std::array<atomic<cache*>, caches_max> caches{};
  atomic<std::ptrdiff_t> out{0};  // order: relaxed, always; a count.

  spin_lock lock;
  const std::unique_ptr<void*[]> store_items;
  shelf store;  // Under lock, but its size.
};

// Without memory there is none, and the worker does as a plain thread.
cache* pool_core::impl::make_cache(const turn& me) noexcept {
  if (per_worker == 0 || !me.is_lasting || me.number >= caches_max) return nullptr;
  try {
    auto made =
        std::make_unique<cache>(std::make_unique_for_overwrite<void*[]>(per_worker), per_worker);
    cache* there = nullptr;
    // order: release, pairs with the acquire in cache_of(); acquire if it is there by now.
    if (!caches[me.number].compare_exchange_strong(there, made.get(), memory_order_acq_rel,
                                                   memory_order_acquire)) {
      return there;
    }
    return made.release();
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

[[gnu::noinline]] void* pool_core::impl::take_slowly(turn& me, cache* mine) noexcept {
  if (sched::forked_without_exec()) return nullptr;
  batch some;
  void* found = nullptr;
  {
    const race_ignore moves;
    if (mine == nullptr) mine = make_cache(me);
    if (store.size() != 0) {
      const spin_guard guard{lock};
      store.take_newest(some, mine != nullptr ? std::max(per_worker / 2, 1U) : 1);
    }
    if (some.empty()) steal(me, mine, some);
    found = some.pop();
    if (!some.empty()) {
      const cache_guard guard{*mine, me};  // Who has none took one.
      mine->kept.put(some);
    }
  }
  put_in_store(some);  // Somebody has given the worker's cache something meanwhile.
  return found;
}

// From one that has enough.
void pool_core::impl::steal(turn& me, const cache* mine, batch& into) noexcept {
  const std::size_t enough = std::max(per_worker / stolen_from, 1U);
  const std::uint32_t first = mine != nullptr ? me.number + 1 : 0;
  for (std::uint32_t i = 0; i < caches_max; ++i) {
    // order: as in cache_of().
    cache* const one = caches[(first + i) % caches_max].load(memory_order_acquire);
    if (one == nullptr || one == mine || one->kept.size() < enough) continue;
    const cache_guard guard{*one, me};
    one->kept.take_oldest(into, mine != nullptr ? (one->kept.size() + 1) / 2 : 1);
    if (!into.empty()) return;
  }
}

[[gnu::noinline]] void pool_core::impl::give_slowly(turn& me, cache* mine, void* object) noexcept {
  if (sched::forked_without_exec()) return;
  batch some;
  {
    const race_ignore moves;
    if (mine == nullptr) mine = make_cache(me);
    if (mine != nullptr) {
      const cache_guard guard{*mine, me};
      if (mine->kept.size() == per_worker) mine->kept.take_oldest(some, (per_worker + 1) / 2);
      if (mine->kept.push(object)) object = nullptr;
    }
    if (object != nullptr) some.push(object);
  }
  put_in_store(some);
}

// What there is no room for is destroyed.
void pool_core::impl::put_in_store(batch& from) noexcept {
  if (from.empty()) return;
  {
    const race_ignore moves;
    const spin_guard guard{lock};
    store.put(from);
  }
  end(from);
}

// Takes batches off one shelf, each under its lock, and ends them; `take` returns whether there is
// more. Destructors may give back what others hold, also to this shelf. Returns: how many.
template <typename Locked, typename Take>
std::size_t pool_core::impl::end_all(Locked&& locked, Take&& take) noexcept {
  std::size_t count = 0;
  for (bool more = true; more;) {
    batch over;
    {
      const race_ignore moves;
      const auto guard = locked();
      more = take(over);
    }
    count += over.rest().size();
    end(over);
  }
  return count;
}

void pool_core::impl::age() noexcept {
  const auto age_shelf = [](shelf& one) {
    return [&one](batch& over) {
      const bool more = one.take_old(over);
      if (!more) one.age();
      return more;
    };
  };
  for_each_cache(
      [&](cache& one) { end_all([&] { return cache_guard{one}; }, age_shelf(one.kept)); });
  end_all([&] { return spin_guard{lock}; }, age_shelf(store));
}

std::size_t pool_core::impl::trim() noexcept {
  if (sched::forked_without_exec()) return 0;
  const auto take_all = [](shelf& one) {
    return [&one](batch& over) {
      one.take_newest(over, one.size());
      return one.size() != 0;
    };
  };
  std::size_t count = 0;
  for_each_cache(
      [&](cache& one) { count += end_all([&] { return cache_guard{one}; }, take_all(one.kept)); });
  return count + end_all([&] { return spin_guard{lock}; }, take_all(store));
}

std::size_t pool_core::impl::idle() const noexcept {
  std::size_t sum = store.size();
  for_each_cache([&](const cache& one) { sum += one.kept.size(); });
  return sum;
}

pool_core::pool_core(const pool_limits& limits, void (*destroy)(void* object) noexcept) {
  if (limits.per_worker > per_worker_max) throw panic_error{"a pool's per_worker is at most 256"};
  if (limits.tick <= clock::duration::zero()) throw panic_error{"a pool's tick must be above zero"};
  sched::settle_fences();
  impl_ = std::make_unique<impl>(limits, destroy);
  impl_->begin();
}

pool_core::~pool_core() {
  // What a forked child has inherited may be in the hands of threads that are not there.
  if (sched::forked_without_exec()) {
    static_cast<void>(impl_.release());
    return;
  }
  impl_->sched::upkeep::end();
  while (impl_->trim() != 0) {  // Some may have given back others.
  }
#ifdef EXEUNT_DCHECKS
  EXEUNT_ASSERT(impl_->out.load(memory_order_relaxed) == 0,
                "a pool ends while some of its objects are still out");
#endif
  const race_ignore own;
  impl_->for_each_cache([](cache& one) { delete &one; });
}

EXEUNT_NO_TSAN void* pool_core::take() noexcept {
  step("pool get", this);
  turn& me = sched::this_turn();
  cache* const mine = impl_->cache_of(me);
  void* found = nullptr;
  if (mine != nullptr) [[likely]] {
    const cache_guard guard{*mine, me};
    found = mine->kept.pop();
  }
  if (found == nullptr) found = impl_->take_slowly(me, mine);
  if (found == nullptr) return nullptr;
  race_acquire(found);
  count_out(1);
  return found;
}

EXEUNT_NO_TSAN void pool_core::give(void* object) noexcept {
  step("pool put", this);
  count_out(-1);
  race_release(object);
  turn& me = sched::this_turn();
  cache* const mine = impl_->cache_of(me);
  bool kept = false;
  if (mine != nullptr) [[likely]] {
    const cache_guard guard{*mine, me};
    kept = mine->kept.push(object);
  }
  if (!kept) impl_->give_slowly(me, mine, object);
}

std::size_t pool_core::trim() noexcept { return impl_->trim(); }
void pool_core::age() noexcept { impl_->age(); }
std::size_t pool_core::idle() const noexcept { return impl_->idle(); }

void pool_core::count_out([[maybe_unused]] std::ptrdiff_t more) noexcept {
#ifdef EXEUNT_DCHECKS
  impl_->out.fetch_add(more, memory_order_relaxed);
#endif
}

}  // namespace exeunt::detail
