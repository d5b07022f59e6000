// SPDX-License-Identifier: Apache-2.0
//
// The pool of stacks: address space in arenas of about 32 MiB, cut into slots of equal size.
//
// In front of the slots lies a page with the arena's head.
//
//   slot:   | guard 20 KiB | usable bytes ...................... colour |
//                          ^ base                              ^ top(), grows down
//
// Words. A slot is *lent* while somebody has it, *warm* while it lies in the pool with what memory
// it has, *cold* otherwise: then it holds no memory, and may never have been used. A warm slot is
// *deep* if it may hold more than stack_warm_bytes: since it was put nobody has looked. A stack of
// another size than the pool's is an arena of one.
//
// Memory. To give a page back costs a system call and a page fault when it is needed again, many
// times the price of a fiber. So put() gives nothing back, and tend() does it later for many slots
// at once: of the slots beyond cached_max, as many as there were warm ones all through a period;
// then deep parts, at most deep_slots_per_period. The kernel keeps guards through MADV_DONTNEED, so
// neighbouring slots go in one range, guards and all; an arena without a lent slot is unmapped. It
// is not asked first (mincore) whether a deep part has memory: that takes longer than to drop what
// is not there. The workers' own caches are beyond tend(): a worker drops the deep part of one
// stack at every 1024th put.
//
// Guards of several fresh stacks are made by one call where the kernel can (stack_memory.cpp); they
// last until the arena goes.
//
// Invariants.
//   I1  Every slot is exactly one of lent, warm, cold; a slot is lent if it is in neither set.
//   I2  An arena is in with_cold (with_warm) if and only if it has a cold (warm) slot, and in
//       with_deep if it has a warm slot that is deep.
//   I3  A warm or cold slot's guard state is that of arena::guarded; a lent one's may be newer.
//   I4  At most one arena of the default size is wholly cold.
//   I5  A slot is lent while its memory is given back, so that nobody gets it meanwhile.
//
// Locks. impl::lock, a leaf: nothing is called under it but mmap() for a new arena. Guards,
// madvise() and munmap() are outside.
//
// Wake-ups. None: somebody else calls tend().
//
// Tests. stack_test.cpp: I1 to I5 through their effects; the destructor walks I1.

#include "arch/stack.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <new>
#include <span>
#include <string>
#include <utility>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/atomic.hpp>
#include <exeunt/base/intrusive_list.hpp>
#include <exeunt/base/log.hpp>
#include <exeunt/base/spin_lock.hpp>

#include "arch/stack_memory.hpp"

namespace exeunt::arch {
namespace {

using detail::atomic;
using detail::memory_order_relaxed;
using detail::spin_guard;
using detail::spin_lock;

constexpr std::size_t arena_bytes_wanted = std::size_t{32} * 1024 * 1024;
constexpr unsigned slots_max = 256;  // the bits of a slot_set

// What one tend() does: so many arenas, or deep parts, in a fraction of a millisecond.
constexpr int arenas_per_tend = 3;
constexpr std::size_t deep_slots_per_tend = 512;
// About 3 ms of each period. Enough for all that an idle pool keeps; a busy one's deep parts grow
// no faster than they would if each stack had been used twice as often.
constexpr std::size_t deep_slots_per_period = 4096;

// 32 steps of a cache line: half the sets of a first-level cache. The other half would put one
// stack in four across a second page that it would not have touched.
constexpr std::size_t colour_steps = 32;
constexpr std::size_t colour_bytes = 64;

// On pages of 64 KiB it is one of those.
std::size_t guard_bytes() { return round_up(stack_guard_bytes, page_bytes()); }

void tell_unguarded() {
  log_line(
      "exeunt: too many stacks for this kernel to guard each one; further ones are only checked "
      "when fibers are switched. Raise the sysctl vm.max_map_count (now " +
      std::to_string(max_map_count()) + ") or use Linux 6.13 or later.");
}

// What of a stack lies deeper than the warm top: bytes from its base on.
std::size_t deep_bytes(std::size_t usable) {
  return usable <= stack_warm_bytes ? 0 : round_up(usable - stack_warm_bytes, page_bytes());
}

// A set of an arena's slots.
class slot_set {
 public:
  [[nodiscard]] bool contains(unsigned slot) const { return (words_[slot / 64] & bit(slot)) != 0; }
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] unsigned count() const { return count_; }
  void add(unsigned slot) {
    count_ += contains(slot) ? 0 : 1;
    words_[slot / 64] |= bit(slot);
  }
  void remove(unsigned slot) {
    count_ -= contains(slot) ? 1 : 0;
    words_[slot / 64] &= ~bit(slot);
  }
  // The lowest one; there must be one.
  [[nodiscard]] unsigned first() const {
    unsigned word = 0;
    while (words_[word] == 0) ++word;
    return word * 64 + static_cast<unsigned>(std::countr_zero(words_[word]));
  }

 private:
  static std::uint64_t bit(unsigned slot) { return std::uint64_t{1} << (slot % 64); }

  std::array<std::uint64_t, slots_max / 64> words_{};
  unsigned count_ = 0;
};

struct in_pool {};
struct in_with_cold {};
struct in_with_warm {};
struct in_with_deep {};
template <typename Tag>
using hook = detail::list_hook<Tag>;

// The head of an arena, in a page of its own below the first guard. Not on the heap: the lock that
// guards it is hidden from ThreadSanitizer, which would take one thread's new and another one's
// delete for a race.
struct arena : hook<in_pool>, hook<in_with_cold>, hook<in_with_warm>, hook<in_with_deep> {
  std::size_t bytes = 0;  // of the mapping, this page included
  std::size_t stride = 0;
  std::size_t usable = 0;
  std::byte* first_base = nullptr;  // of slot 0's stack
  unsigned slots = 0;
  unsigned number = 0;  // for the colours, so that arenas do not start alike
  slot_set warm;
  slot_set cold;
  slot_set deep;  // lent ones, too: it is of no account while they are
  slot_set guarded;
  long protected_here = 0;  // guards by page protection among them

  [[nodiscard]] unsigned lent() const { return slots - warm.count() - cold.count(); }
  [[nodiscard]] std::byte* base_of(unsigned slot) const { return first_base + slot * stride; }
};

static_assert(sizeof(arena) <= 4096, "it has one page");

template <typename Tag>
using arena_list = detail::intrusive_list<arena, Tag>;

template <typename Tag>
void unlink(arena& a) {
  if (static_cast<hook<Tag>&>(a).linked()) arena_list<Tag>::remove(a);
}

// Gives the memory of `which` back; all of it, or what is deeper than the warm top.
void drop(const arena& a, const slot_set& which, bool deep_only) {
  batch_of_advice batch(MADV_DONTNEED);
  for (unsigned slot = 0; slot < a.slots; ++slot) {
    if (!which.contains(slot)) continue;
    if (deep_only) {
      batch.add(a.base_of(slot), deep_bytes(a.usable));
      continue;
    }
    unsigned last = slot;
    while (last + 1 < a.slots && which.contains(last + 1)) ++last;
    batch.add(a.base_of(slot), (last - slot) * a.stride + a.usable);
    slot = last;
  }
}

}  // namespace

struct stack_pool::impl {
  std::size_t default_bytes;
  std::size_t cached_max;
  stack_guards guards;
  std::size_t guard_bytes;
  mutable spin_lock lock{};
  arena_list<in_pool> arenas{};
  arena_list<in_with_cold> with_cold{};
  arena_list<in_with_warm> with_warm{};  // the one put to last is the first
  arena_list<in_with_deep> with_deep{};
  std::size_t warm_count = 0;
  std::size_t live = 0;
  unsigned arenas_made = 0;
  atomic<bool> unguarded_told{false};

  // tend()'s.
  clock::time_point period_end = no_deadline;  // or nothing had to be tended
  std::size_t warm_least = 0;                  // of warm_count, in this period
  std::size_t surplus = 0;                     // warm slots of the last period to give up
  std::size_t deep_left = 0;                   // deep slots to look at in this period

  arena* make_arena(std::size_t usable, unsigned slots_wanted);
  void forget(arena& a);
  void unmap(arena* a) const;
  stack lend(arena& a, unsigned slot);
  std::size_t lend_warm(stack* out, std::size_t count);
  std::size_t lend_cold(stack* out, std::size_t count);
  void guard(std::span<stack> fresh);
  void guard_lightly(std::span<stack> fresh) const;
  void put_warm(arena& a, unsigned slot);
  void give_back(const stack* back, std::size_t count);
  std::size_t give_up(std::size_t wanted);
  std::size_t drop_deep(std::size_t wanted);
  [[nodiscard]] bool settled();
};

// Maps an arena, all cold, and puts it in the lists. With the lock held.
arena* stack_pool::impl::make_arena(std::size_t usable, unsigned slots_wanted) {
  const std::size_t head = page_bytes();
  const std::size_t stride = guard_bytes + usable;
  const std::size_t bytes = head + stride * slots_wanted;
  void* const base = map_fresh(bytes);
  if (base == nullptr) return nullptr;
  auto* const a = new (base) arena;
  a->bytes = bytes;
  a->stride = stride;
  a->usable = usable;
  a->first_base = static_cast<std::byte*>(base) + head + guard_bytes;
  a->slots = slots_wanted;
  a->number = arenas_made++;
  for (unsigned slot = 0; slot < slots_wanted; ++slot) a->cold.add(slot);
  arenas.push_front(*a);
  if (usable == default_bytes) with_cold.push_front(*a);
  return a;
}

// Takes an arena without lent slots out of the lists, for unmap(). With the lock held.
void stack_pool::impl::forget(arena& a) {
  warm_count -= a.warm.count();
  unlink<in_pool>(a);
  unlink<in_with_cold>(a);
  unlink<in_with_warm>(a);
  unlink<in_with_deep>(a);
}

void stack_pool::impl::unmap(arena* a) const {
  forget_protected_guards(a->protected_here);
  const std::size_t bytes = a->bytes;
#if EXEUNT_SAN_ADDRESS
  san_recycle(a, bytes);  // the next owner of these addresses must find them clean
#endif
  ::munmap(a, bytes);
}

// The stack of a slot that has just become lent. With the lock held.
stack stack_pool::impl::lend(arena& a, unsigned slot) {
  ++live;
  stack s;
  s.base = a.base_of(slot);
  s.size = a.usable;
  s.owner = &a;
  s.slot = static_cast<std::uint16_t>(slot);
  const std::size_t step = (std::size_t{a.number} * a.slots + slot) % colour_steps;
  s.colour = static_cast<std::uint16_t>(step * colour_bytes);
  s.guarded = a.guarded.contains(slot);
  return s;
}

// Lends up to `count` warm slots. With the lock held.
std::size_t stack_pool::impl::lend_warm(stack* out, std::size_t count) {
  std::size_t got = 0;
  while (got < count && !with_warm.empty()) {
    arena& a = *with_warm.front();
    for (; got < count && !a.warm.empty(); ++got) {
      const unsigned slot = a.warm.first();
      a.warm.remove(slot);
      --warm_count;
      out[got] = lend(a, slot);
    }
    if (a.warm.empty()) unlink<in_with_warm>(a);
  }
  warm_least = std::min(warm_least, warm_count);
  return got;
}

// Lends up to `count` cold slots; none if the system gives no more. With the lock held.
std::size_t stack_pool::impl::lend_cold(stack* out, std::size_t count) {
  std::size_t got = 0;
  if (with_cold.empty()) {
    const std::size_t stride = guard_bytes + default_bytes;
    const std::size_t slots = std::clamp<std::size_t>(arena_bytes_wanted / stride, 1, slots_max);
    if (make_arena(default_bytes, static_cast<unsigned>(slots)) == nullptr) return 0;
  }
  arena& a = *with_cold.front();
  for (; got < count && !a.cold.empty(); ++got) {
    const unsigned slot = a.cold.first();
    a.cold.remove(slot);
    out[got] = lend(a, slot);
  }
  if (a.cold.empty()) unlink<in_with_cold>(a);
  return got;
}

// Gives lent stacks their guards, outside the lock.
void stack_pool::impl::guard(std::span<stack> fresh) {
  if (guards.light && have_light_guards()) guard_lightly(fresh);
  for (stack& s : fresh) {
    if (s.guarded) continue;
    if (protect_guard(static_cast<std::byte*>(s.base) - guard_bytes, guard_bytes,
                      guards.protected_max)) {
      s.guarded = true;
      const spin_guard held(lock);
      ++static_cast<arena*>(s.owner)->protected_here;
      continue;
    }
    // order: relaxed, only one of them may win.
    if (!unguarded_told.exchange(true, memory_order_relaxed)) tell_unguarded();
  }
}

void stack_pool::impl::guard_lightly(std::span<stack> fresh) const {
  std::array<iovec, stack_cache::batch> ranges;  // no more: this is on a fiber's stack
  while (!fresh.empty()) {
    const auto some = fresh.first(std::min(fresh.size(), ranges.size()));
    fresh = fresh.subspan(some.size());
    std::size_t count = 0;
    for (const stack& s : some) {
      if (s.guarded) continue;
      ranges[count++] = {static_cast<std::byte*>(s.base) - guard_bytes, guard_bytes};
    }
    std::size_t done = advise({ranges.data(), count}, madv_guard_install);
    for (stack& s : some) {
      if (s.guarded) continue;
      if (done-- == 0) return;
      s.guarded = true;
    }
  }
}

// Makes a lent slot warm. With the lock held.
void stack_pool::impl::put_warm(arena& a, unsigned slot) {
  a.warm.add(slot);
  ++warm_count;
  if (with_warm.front() != &a) {
    unlink<in_with_warm>(a);
    with_warm.push_front(a);
  }
  if (deep_bytes(a.usable) == 0) return;
  a.deep.add(slot);
  if (!static_cast<hook<in_with_deep>&>(a).linked()) with_deep.push_front(a);
}

void stack_pool::impl::give_back(const stack* back, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    EXEUNT_ASSERT(back[i] && back[i].owner != nullptr, "an empty stack was given back");
  }
  arena_list<in_pool> gone;
  {
    const spin_guard held(lock);
    for (std::size_t i = 0; i < count; ++i) {
      const stack& s = back[i];
      arena& a = *static_cast<arena*>(s.owner);
      // I1
      EXEUNT_ASSERT(!a.warm.contains(s.slot) && !a.cold.contains(s.slot),
                    "a stack was given back twice");
      --live;
      if (a.usable != default_bytes) {
        forget(a);
        gone.push_front(a);
        continue;
      }
      s.guarded ? a.guarded.add(s.slot) : a.guarded.remove(s.slot);  // I3
      put_warm(a, s.slot);
    }
  }
  while (arena* const a = gone.pop_front()) unmap(a);
}

// Gives back the memory of up to `wanted` warm slots of the arena that nobody put to for longest.
// Returns: of how many; 0 if there is none.
std::size_t stack_pool::impl::give_up(std::size_t wanted) {
  slot_set chosen;
  arena* a = nullptr;
  arena* gone = nullptr;
  {
    const spin_guard held(lock);
    a = with_warm.back();
    if (a == nullptr || wanted == 0) return 0;
    const bool is_last_cold =
        a->cold.empty() ? with_cold.empty() : with_cold.front() == with_cold.back();
    if (a->lent() == 0 && a->warm.count() <= wanted && !is_last_cold) {
      const std::size_t count = a->warm.count();
      forget(*a);
      gone = a;
      wanted = count;
    } else {
      for (; chosen.count() < wanted && !a->warm.empty(); --warm_count) {  // I5
        const unsigned slot = a->warm.first();
        a->warm.remove(slot);
        chosen.add(slot);
      }
      if (a->warm.empty()) unlink<in_with_warm>(*a);
    }
  }
  if (gone != nullptr) {
    unmap(gone);
    return wanted;
  }
  drop(*a, chosen, false);
  {
    const spin_guard held(lock);
    for (unsigned slot = 0; slot < a->slots; ++slot) {
      if (chosen.contains(slot)) a->cold.add(slot);
    }
    if (!static_cast<hook<in_with_cold>&>(*a).linked()) with_cold.push_back(*a);
    // I4: one stays, so that a single stack that comes and goes does not map and unmap.
    if (a->cold.count() == a->slots && with_cold.front() != with_cold.back()) {
      forget(*a);
      gone = a;
    }
  }
  if (gone != nullptr) unmap(gone);
  return chosen.count();
}

// Gives back the deep parts of up to `wanted` warm slots of one arena. Returns: of how many.
std::size_t stack_pool::impl::drop_deep(std::size_t wanted) {
  slot_set chosen;
  arena* a = nullptr;
  {
    const spin_guard held(lock);
    a = with_deep.back();
    if (a == nullptr) return 0;
    unlink<in_with_deep>(*a);
    for (unsigned slot = 0; slot < a->slots && chosen.count() < wanted; ++slot) {
      if (!a->warm.contains(slot) || !a->deep.contains(slot)) continue;
      a->deep.remove(slot);
      a->warm.remove(slot);
      --warm_count;
      chosen.add(slot);  // I5
    }
    if (a->warm.empty()) unlink<in_with_warm>(*a);
    if (chosen.count() == wanted) with_deep.push_back(*a);  // perhaps there are more
  }
  drop(*a, chosen, true);
  const spin_guard held(lock);
  for (unsigned slot = 0; slot < a->slots; ++slot) {
    if (!chosen.contains(slot)) continue;
    a->warm.add(slot);
    ++warm_count;
  }
  if (!a->warm.empty() && !static_cast<hook<in_with_warm>&>(*a).linked()) with_warm.push_back(*a);
  return chosen.count();
}

// Whether there is nothing to give back, now or later. With the lock held.
bool stack_pool::impl::settled() { return warm_count <= cached_max && with_deep.empty(); }

bool stack::guard_contains(const void* address) const noexcept {
  return address < base && address >= static_cast<std::byte*>(base) - guard_bytes();
}

stack_pool::stack_pool(std::size_t default_bytes, std::size_t cached_max, stack_guards guards)
    : impl_(new impl{.default_bytes = round_up(std::max(default_bytes, page_bytes()), page_bytes()),
                     .cached_max = cached_max,
                     .guards = guards,
                     .guard_bytes = guard_bytes()}) {}

stack_pool::~stack_pool() {
  std::size_t accounted = impl_->live + impl_->warm_count;
  std::size_t slots = 0;
  while (arena* const a = impl_->arenas.front()) {
    slots += a->slots;
    accounted += a->cold.count();
    impl_->warm_count += a->warm.count();
    impl_->forget(*a);
    impl_->unmap(a);
  }
  EXEUNT_ASSERT(slots == accounted, "I1: a slot of the pool is in no state or in two");
}

stack stack_pool::get(std::size_t bytes) {
  const std::size_t usable = round_up(bytes, page_bytes());
  stack s;
  if (bytes == 0 || usable == impl_->default_bytes) {
    if (get_some(&s, 1) == 0) return {};
    return s;
  }
  // Absurd sizes wrap round_up() or fail in mmap().
  if (usable < bytes || usable > ~std::size_t{0} - impl_->guard_bytes - page_bytes()) return {};
  {
    const spin_guard held(impl_->lock);
    arena* const a = impl_->make_arena(usable, 1);
    if (a == nullptr) return {};
    a->cold.remove(0);
    s = impl_->lend(*a, 0);
  }
  impl_->guard({&s, 1});
  return s;
}

std::size_t stack_pool::get_some(stack* out, std::size_t count) {
  std::size_t got = 0;
  {
    const spin_guard held(impl_->lock);
    got = impl_->lend_warm(out, count);
    if (got == 0) got = impl_->lend_cold(out, count);
  }
  impl_->guard({out, got});
  for (std::size_t i = 0; i < got; ++i) san_recycle(out[i].base, out[i].size);
  return got;
}

void stack_pool::put(const stack& back) { impl_->give_back(&back, 1); }

void stack_pool::put_some(const stack* back, std::size_t count) { impl_->give_back(back, count); }

clock::time_point stack_pool::tend(clock::time_point now) {
  impl& p = *impl_;
  std::size_t surplus = 0;
  std::size_t deep = 0;
  {
    const spin_guard held(p.lock);
    if (p.surplus == 0 && p.deep_left == 0) {
      if (p.settled()) return p.period_end = no_deadline;
      if (now < p.period_end && p.period_end != no_deadline) return p.period_end;
      if (p.period_end != no_deadline) {
        p.surplus = std::min(p.warm_least, p.warm_count) -
                    std::min({p.warm_least, p.warm_count, p.cached_max});
        p.deep_left = deep_slots_per_period;
      }
      p.warm_least = p.warm_count;
      p.period_end = now + tend_period;
    }
    // Taken out, so that of two callers each does other ones.
    surplus = std::exchange(p.surplus, 0);
    if (surplus == 0) {
      deep = std::min(p.deep_left, deep_slots_per_tend);
      p.deep_left -= deep;
    }
  }
  for (int i = 0; i < arenas_per_tend && surplus > 0; ++i) {
    const std::size_t given = p.give_up(surplus);
    surplus = given == 0 ? 0 : surplus - std::min(surplus, given);
  }
  while (deep > 0) {
    const std::size_t dropped = p.drop_deep(deep);
    deep -= dropped;
    const spin_guard held(p.lock);
    if (!p.with_deep.empty()) continue;
    p.deep_left = 0;
    break;
  }
  const spin_guard held(p.lock);
  p.surplus += surplus;
  if (p.surplus > 0 || p.deep_left > 0) return now;
  return p.settled() ? no_deadline : p.period_end;
}

void stack_pool::trim() {
  while (impl_->give_up(slots_max) != 0) {
  }
}

std::size_t stack_pool::live() const {
  const spin_guard held(impl_->lock);
  return impl_->live;
}

std::size_t stack_pool::cached() const {
  const spin_guard held(impl_->lock);
  return impl_->warm_count;
}

std::size_t stack_pool::default_bytes() const noexcept { return impl_->default_bytes; }

stack stack_cache::get_slowly(std::size_t bytes) {
  if (bytes != 0 && bytes != default_bytes_) return pool_->get(bytes);
  const std::size_t got = pool_->get_some(in_transit_.data(), in_transit_.size());
  if (got == 0) return {};
  for (std::size_t i = 1; i < got; ++i) entries_[count_++] = packed(in_transit_[i]);
  return in_transit_[0];
}

void stack_cache::put_slowly(const stack& back) {
  if (back.size != default_bytes_) {
    pool_->put(back);
    return;
  }
  if (count_ == capacity) give_oldest(2 * batch);  // the newer are in the processor's cache
  const std::size_t deep = deep_bytes(back.size);
  if (puts_ % puts_per_trim == 0 && deep > 0) ::madvise(back.base, deep, MADV_DONTNEED);
  entries_[count_++] = packed(back);
}

void stack_cache::give_oldest(std::size_t count) {
  for (std::size_t given = 0; given < count;) {
    const std::size_t some = std::min(count - given, batch);
    for (std::size_t i = 0; i < some; ++i) in_transit_[i] = unpacked(entries_[given + i]);
    pool_->put_some(in_transit_.data(), some);
    given += some;
  }
  std::copy(entries_.data() + count, entries_.data() + count_, entries_.data());
  count_ -= count;
}

void stack_cache::flush() { give_oldest(count_); }

}  // namespace exeunt::arch
