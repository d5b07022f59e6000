// SPDX-License-Identifier: Apache-2.0
//
// The pool of stacks: address space in arenas of about 16 MiB, cut into slots of equal size.
//
// In front of the slots lies a page with the arena's head.
//
//   slot:   | guard 16 KiB | usable bytes ...................... colour |
//                          ^ base                              ^ top(), grows down
//
// Words. A slot is *lent* while somebody has it, *warm* while it lies in the pool with the memory
// of its top, *cold* otherwise: then it holds no memory, and may never have been used. An arena is
// *open* while it has a cold slot. A stack of another size than the pool's is an arena of one.
//
// Memory. What a stack touched beyond stack_warm_bytes is returned when it enters the pool, by one
// MADV_DONTNEED over the rest. It is not asked first (mincore) whether there is anything: that
// takes longer than the call does when there is nothing. A system call for each recycled stack
// would still be many times the price of the fiber, so a worker's own cache does it at every 1024th
// put only. So what an idle runtime may hold beyond the pool's warm tops is bounded by the workers'
// caches, and goes when they end.
//
// Invariants.
//   I1  Every slot is exactly one of lent, warm, cold.
//   I2  An arena is in the open list if and only if it has a cold slot.
//   I3  A warm or cold slot's guard state is that of arena::guarded; a lent one's may be newer.
//   I4  At most one arena of the default size is wholly cold.
//   I5  protected_guards is the number of guards by page protection in mapped arenas of all pools.
//
// Locks. impl::lock, a leaf: nothing is called under it but mmap() for a new arena. Guards,
// madvise() and munmap() are outside.
//
// Wake-ups. None.
//
// Tests. stack_test.cpp: I1 to I5 through their effects; the destructor walks I1.

#include "arch/stack.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <new>
#include <string>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/atomic.hpp>
#include <exeunt/base/log.hpp>
#include <exeunt/base/spin_lock.hpp>

namespace exeunt::arch {
namespace {

using detail::atomic;
using detail::memory_order_relaxed;
using detail::spin_guard;
using detail::spin_lock;

constexpr std::size_t arena_bytes_wanted = std::size_t{16} * 1024 * 1024;
constexpr std::size_t slots_max = 64;  // the bits of arena::lent

// 32 steps of a cache line: half the sets of a first-level cache. The other half would put one
// stack in four across a second page that it would not have touched.
constexpr std::size_t colour_steps = 32;
constexpr std::size_t colour_bytes = 64;

// MADV_GUARD_INSTALL, newer than the C library's headers.
constexpr int madv_guard_install = 102;

enum class guard_kind { none, light, page_protection };

std::size_t page_bytes() {
  static const auto bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

std::size_t round_up(std::size_t bytes, std::size_t step) {
  return (bytes + step - 1) / step * step;
}

// On pages of 64 KiB it is one of those.
std::size_t guard_bytes() { return round_up(stack_guard_bytes, page_bytes()); }

void* map_fresh(std::size_t bytes) {
  void* const base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (base == MAP_FAILED) return nullptr;
  ::madvise(base, bytes, MADV_NOHUGEPAGE);  // a touched page must not become 2 MiB of memory
  return base;
}

// Whether the marks do what they say: an emulator may take unknown advice for a hint and succeed.
bool probe_light_guards() {
  void* const page = map_fresh(page_bytes());
  if (page == nullptr) return false;
  bool works = false;
  if (::madvise(page, page_bytes(), madv_guard_install) == 0) {
    // The kernel is asked to read a path there: EFAULT if it cannot, ENOENT for the empty path.
    const int rc = ::access(static_cast<const char*>(page), F_OK);
    works = rc != 0 && errno == EFAULT;
  }
  ::munmap(page, page_bytes());
  return works;
}

bool have_light_guards() {
  static const bool have = probe_light_guards();
  return have;
}

long max_map_count() {
  static const long count = [] {
    long value = 65530;  // the kernel's default
    if (std::FILE* file = std::fopen("/proc/sys/vm/max_map_count", "re")) {
      if (std::fscanf(file, "%ld", &value) != 1) value = 65530;
      std::fclose(file);
    }
    return value;
  }();
  return count;
}

// Guards by page protection that exist in the process, for the budget. order: relaxed throughout, a
// count that nothing else hangs on.
atomic<long> protected_guards{0};

void tell_unguarded() {
  log_line(
      "exeunt: too many stacks for this kernel to guard each one; further ones are only checked "
      "when fibers are switched. Raise the sysctl vm.max_map_count (now " +
      std::to_string(max_map_count()) + ") or use Linux 6.13 or later.");
}

guard_kind make_guard(void* base, std::size_t bytes, const stack_guards& how) {
  if (how.light && have_light_guards() && ::madvise(base, bytes, madv_guard_install) == 0) {
    return guard_kind::light;
  }
  // Each one splits a mapping and so costs two of what a process may have: the default leaves half.
  const long budget = how.protected_max >= 0 ? how.protected_max : max_map_count() / 4;
  if (protected_guards.fetch_add(1, memory_order_relaxed) < budget &&
      ::mprotect(base, bytes, PROT_NONE) == 0) {
    return guard_kind::page_protection;
  }
  protected_guards.fetch_sub(1, memory_order_relaxed);
  return guard_kind::none;
}

// Returns to the system what lies deeper than the warm top.
void drop_deep_pages(const stack& s) {
  if (s.size <= stack_warm_bytes) return;
  ::madvise(s.base, round_up(s.size - stack_warm_bytes, page_bytes()), MADV_DONTNEED);
}

void drop_all_pages(const stack& s) { ::madvise(s.base, s.size, MADV_DONTNEED); }

struct arena;

// A slot, or none.
struct slot_ref {
  arena* in = nullptr;
  unsigned slot = 0;
};

// The head of an arena, in a page of its own below the first guard. Not on the heap: the lock that
// guards it is hidden from ThreadSanitizer, which would take one thread's new and another one's
// delete for a race.
struct arena {
  std::size_t bytes = 0;  // of the mapping, this page included
  std::size_t stride = 0;
  std::size_t usable = 0;
  std::byte* first_base = nullptr;  // of slot 0's stack
  unsigned slots = 0;
  unsigned number = 0;        // for the colours, so that arenas do not start alike
  std::uint64_t lent = 0;     // bit i: slot i is lent
  std::uint64_t cold = 0;     // bit i: slot i is cold
  std::uint64_t guarded = 0;  // bit i: slot i has its guard
  long protected_here = 0;    // guards by page protection among them
  arena* next = nullptr;      // all arenas of the pool
  arena* previous = nullptr;
  arena* next_open = nullptr;  // those with a cold slot
  arena* previous_open = nullptr;
  slot_ref warm_below[slots_max];  // of a warm slot i: the one put before it

  [[nodiscard]] std::uint64_t all() const {
    return slots == slots_max ? ~std::uint64_t{0} : (std::uint64_t{1} << slots) - 1;
  }
};

static_assert(sizeof(arena) <= 4096, "it has one page");

constexpr std::uint64_t bit(unsigned slot) { return std::uint64_t{1} << slot; }

template <arena* arena::* Next, arena* arena::* Previous>
void link(arena*& head, arena* a) {
  a->*Previous = nullptr;
  a->*Next = head;
  if (head != nullptr) head->*Previous = a;
  head = a;
}

template <arena* arena::* Next, arena* arena::* Previous>
void unlink(arena*& head, arena* a) {
  (a->*Previous != nullptr ? a->*Previous->*Next : head) = a->*Next;
  if (a->*Next != nullptr) a->*Next->*Previous = a->*Previous;
}

}  // namespace

struct stack_pool::impl {
  std::size_t default_bytes;
  std::size_t cached_max;
  stack_guards guards;
  std::size_t guard_bytes;
  mutable spin_lock lock{};
  slot_ref warm{};  // the last one put
  std::size_t warm_count = 0;
  arena* arenas = nullptr;
  arena* open = nullptr;
  std::size_t live = 0;
  unsigned arenas_made = 0;
  atomic<bool> unguarded_told{false};

  arena* make_arena(std::size_t usable, std::size_t slots_wanted);
  void unmap(arena* a) const;
  stack lend(slot_ref which);
  stack lend_cold(arena* a);
  slot_ref pop_warm();
  bool take_default(stack& out);
  void guard(stack& s);
  arena* make_cold(slot_ref which);
  void give_back(const stack* back, std::size_t count);
};

// Maps an arena, all cold, and puts it in the lists. With the lock held.
arena* stack_pool::impl::make_arena(std::size_t usable, std::size_t slots_wanted) {
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
  a->slots = static_cast<unsigned>(slots_wanted);
  a->number = arenas_made++;
  a->cold = a->all();
  link<&arena::next, &arena::previous>(arenas, a);
  link<&arena::next_open, &arena::previous_open>(open, a);
  return a;
}

void stack_pool::impl::unmap(arena* a) const {
  // order: relaxed, see protected_guards.
  protected_guards.fetch_sub(a->protected_here, memory_order_relaxed);
  const std::size_t bytes = a->bytes;
#if EXEUNT_SAN_ADDRESS
  san_recycle(a, bytes);  // the next owner of these addresses must find them clean
#endif
  ::munmap(a, bytes);
}

// Lends a slot that is in no list. With the lock held.
stack stack_pool::impl::lend(slot_ref which) {
  arena* const a = which.in;
  a->lent |= bit(which.slot);
  ++live;
  stack s;
  s.base = a->first_base + which.slot * a->stride;
  s.size = a->usable;
  s.owner = a;
  s.slot = static_cast<std::uint16_t>(which.slot);
  const std::size_t step = (std::size_t{a->number} * a->slots + which.slot) % colour_steps;
  s.colour = static_cast<std::uint16_t>(step * colour_bytes);
  s.guarded = (a->guarded & bit(which.slot)) != 0;
  return s;
}

// Lends the lowest cold slot of an open arena. With the lock held.
stack stack_pool::impl::lend_cold(arena* a) {
  const auto slot = static_cast<unsigned>(std::countr_zero(a->cold));
  a->cold &= ~bit(slot);
  if (a->cold == 0) unlink<&arena::next_open, &arena::previous_open>(open, a);
  return lend({a, slot});
}

// Takes the warm slot that was put last out of the list. With the lock held, and not empty.
slot_ref stack_pool::impl::pop_warm() {
  const slot_ref last = warm;
  warm = last.in->warm_below[last.slot];
  --warm_count;
  return last;
}

// A stack of the default size, warm if there is one. With the lock held; false without memory.
bool stack_pool::impl::take_default(stack& out) {
  if (warm_count > 0) {
    out = lend(pop_warm());
    return true;
  }
  if (open == nullptr) {
    const std::size_t stride = guard_bytes + default_bytes;
    const std::size_t slots = std::clamp<std::size_t>(arena_bytes_wanted / stride, 1, slots_max);
    if (make_arena(default_bytes, slots) == nullptr) return false;
  }
  out = lend_cold(open);
  return true;
}

// Gives a lent stack its guard, outside the lock.
void stack_pool::impl::guard(stack& s) {
  if (s.guarded) return;
  const auto kind = make_guard(static_cast<std::byte*>(s.base) - guard_bytes, guard_bytes, guards);
  if (kind == guard_kind::none) {
    // order: relaxed, only one of them may win.
    if (!unguarded_told.exchange(true, memory_order_relaxed)) tell_unguarded();
    return;
  }
  s.guarded = true;
  if (kind != guard_kind::page_protection) return;
  const spin_guard held(lock);
  ++static_cast<arena*>(s.owner)->protected_here;
}

// Makes a slot that is in no list cold; returns an arena to unmap, or null. With the lock held.
arena* stack_pool::impl::make_cold(slot_ref which) {
  arena* const a = which.in;
  if (a->cold == 0) link<&arena::next_open, &arena::previous_open>(open, a);
  a->cold |= bit(which.slot);
  // One open arena stays, so that a single stack that comes and goes does not map and unmap.
  const bool another_open = a->next_open != nullptr || a->previous_open != nullptr;
  const bool own_size = a->usable != default_bytes;
  if (a->cold != a->all() || (!another_open && !own_size)) return nullptr;
  unlink<&arena::next_open, &arena::previous_open>(open, a);
  unlink<&arena::next, &arena::previous>(arenas, a);
  return a;
}

void stack_pool::impl::give_back(const stack* back, std::size_t count) {
  std::size_t room = 0;
  {
    const spin_guard held(lock);
    room = cached_max > warm_count ? cached_max - warm_count : 0;
  }
  for (std::size_t i = 0; i < count; ++i) {
    const stack& s = back[i];
    auto* const a = static_cast<arena*>(s.owner);
    EXEUNT_ASSERT(s && a != nullptr, "an empty stack was given back");
    const bool own_size = a->usable != default_bytes;
    const bool keep_warm = !own_size && i < room;
    if (keep_warm) {
      drop_deep_pages(s);
    } else if (!own_size) {
      drop_all_pages(s);  // one of its own size is unmapped below
    }
    arena* gone = nullptr;
    {
      const spin_guard held(lock);
      EXEUNT_ASSERT((a->lent & bit(s.slot)) != 0, "a stack was given back twice");  // I1
      a->lent &= ~bit(s.slot);
      a->guarded = s.guarded ? a->guarded | bit(s.slot) : a->guarded & ~bit(s.slot);  // I3
      --live;
      if (keep_warm) {
        a->warm_below[s.slot] = warm;
        warm = {a, s.slot};
        ++warm_count;
      } else {
        gone = make_cold({a, s.slot});
      }
    }
    if (gone != nullptr) unmap(gone);
  }
}

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
  while (arena* const a = impl_->arenas) {
    slots += a->slots;
    accounted += static_cast<std::size_t>(std::popcount(a->cold));
    impl_->arenas = a->next;
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
    s = impl_->lend_cold(a);
  }
  impl_->guard(s);
  return s;
}

std::size_t stack_pool::get_some(stack* out, std::size_t count) {
  std::size_t got = 0;
  {
    const spin_guard held(impl_->lock);
    do {
      if (!impl_->take_default(out[got])) break;
      ++got;
    } while (got < count && impl_->warm_count > 0);
  }
  for (std::size_t i = 0; i < got; ++i) {
    impl_->guard(out[i]);
    san_recycle(out[i].base, out[i].size);
  }
  return got;
}

void stack_pool::put(const stack& back) { impl_->give_back(&back, 1); }

void stack_pool::put_some(const stack* back, std::size_t count) { impl_->give_back(back, count); }

void stack_pool::trim() {
  for (;;) {
    stack s;
    {
      const spin_guard held(impl_->lock);
      if (impl_->warm_count == 0) return;
      s = impl_->lend(impl_->pop_warm());  // so that nobody else takes it meanwhile
    }
    drop_all_pages(s);
    arena* const a = static_cast<arena*>(s.owner);
    arena* gone = nullptr;
    {
      const spin_guard held(impl_->lock);
      a->lent &= ~bit(s.slot);
      --impl_->live;
      gone = impl_->make_cold({a, s.slot});
    }
    if (gone != nullptr) impl_->unmap(gone);
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
  // A quarter, so that two workers do not hoard what a third one maps anew.
  std::array<stack, capacity / 4> some;
  const std::size_t got = pool_->get_some(some.data(), some.size());
  if (got == 0) return {};
  for (std::size_t i = 1; i < got; ++i) entries_[count_++] = packed(some[i]);
  return some[0];
}

void stack_cache::put_slowly(const stack& back) {
  if (back.size != default_bytes_) {
    pool_->put(back);
    return;
  }
  if (count_ == capacity) give_oldest(capacity / 2);  // the newer are in the processor's cache
  if (puts_ % puts_per_trim == 0) drop_deep_pages(back);
  entries_[count_++] = packed(back);
}

void stack_cache::give_oldest(std::size_t count) {
  std::array<stack, capacity> some;
  for (std::size_t i = 0; i < count; ++i) some[i] = unpacked(entries_[i]);
  pool_->put_some(some.data(), count);
  std::copy(entries_.data() + count, entries_.data() + count_, entries_.data());
  count_ -= count;
}

void stack_cache::flush() { give_oldest(count_); }

}  // namespace exeunt::arch
