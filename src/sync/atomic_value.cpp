// SPDX-License-Identifier: Apache-2.0
// Snapshots of atomic values: who protects them, and who destroys them.
//
// Hazard pointers (Michael, 2004) with the fences moved to the writers' side, and with slots that
// go with the snapshot. A *node* is a published value. A *slot* is a cache line with the name of a
// node that must stay. A reader takes a slot that is free, names the node that it finds in the
// cell, and looks whether the cell still has it. A node is *retired* by who has taken it out of its
// cell; that one frees it, or makes those who hold it *owe* its end.
//
// Each thread that loads has one slot of its *own*, which is free when it names nothing: whoever
// gives up the snapshot that has it, wherever that is, stores that name and is done. The others are
// *pooled*: free when they are in a list, of a thread or of the domain.
//
// Invariants:
//   I1  An own slot is taken by its thread only. A pooled one is in exactly one place: a list, a
//       snapshot, or a call.
//   I2  Slots are never freed, so that writers may walk all of them, at any time. There are as many
//       as snapshots were held at once, and some tens for each thread.
//   I3  A snapshot's slot names its node, from a time at which the cell had it until it is let go.
//   I4  Nobody retires a node twice, or publishes it again: it is retired by the one who took it
//       out, or by whoever that one has given it to, and gone when it has been.
//   Whenever the domain's lock is free:
//   I5  node.owed is the number of slots whose `owes` is that node. It is above 0 for nodes that
//       are retired and not destroyed, and for no others.
//   I6  A slot that owes is marked.
//
// Proof that what is held is not destroyed. A reader has named the node, and then found that the
// cell has it. Who retires it has taken it out of the cell, has fenced heavily, and then looked at
// the slot. The light fence and the heavy one order the two pairs as full fences would: either the
// reader's look came after the taking out, and it did not find the node there; or the writer's look
// finds the slot with the node's name, and a slot so found owes. It does not matter that the node's
// memory may be that of another node by the time of the reader's look: then it is that one which is
// held.
//
// Proof that what nobody holds is destroyed. Under the lock the writer marks the slot, fences, and
// looks again; only a slot that has the name still, owes. Who gives a name up overwrites it, and
// then looks for the mark. Either the writer's second look finds it overwritten, and it owes
// nothing; or the reader's look finds the mark, and pays. An own slot may have been taken again by
// the time it is paid for. If it names another node, that does not matter, and whoever pays first
// has paid. If it names the same node, it is in vain (the node is not in the cell any more): it
// still owes, and its reader, who will find that out, looks for the mark when it has named another.
//
// Where membarrier(2) is missing, own slots name `nobodys` for good, so that all loads are by
// pooled ones, and the light fences there are real ones.
//
// Locks: the domain's lock is a leaf, held for the time of one membarrier(2) at most. Nothing is
//   destroyed under it. It is taken by writers that have replaced what is being read, by those who
//   let go of that, and by those who have too few slots or too many.
// Threads: a thread's slots are taken by plain loads and stores, since nobody else runs on the
//   thread between two of them: nothing in between parks. Signal handlers may not load.
// Tests: tests/sync/atomic_value_test.cpp, atomic_value_stress_test.cpp; all schedules with steps
//   at atomic operations in tests/sim/model/snapshot_steps_test.cpp (both proofs), where memory is
//   sequentially consistent: that fences order as they do is the argument of sched/fence.hpp.

#include <exeunt/sync/atomic_value.hpp>

#include <array>
#include <cstddef>
#include <utility>

#include <exeunt/base/spin_lock.hpp>

#include "sched/current.hpp"
#include "sched/fence.hpp"

namespace exeunt::detail {

static_assert(sizeof(snapshot_slot) == 64);

namespace {

#ifdef EXEUNT_CORE_MODEL
constexpr std::size_t slots_per_block = 1;  // Each look at one is a step.
#else
constexpr std::size_t slots_per_block = 16;  // A KiB.
#endif
// A thread that gives up what others load gives its surplus back, so many at a time.
constexpr std::uint32_t others_max = 2 * slots_per_block;

struct slot_block {
  std::array<snapshot_slot, slots_per_block> slots;
  slot_block* older = nullptr;
};

struct domain {
  atomic<slot_block*> blocks{nullptr};  // All there are; only grows, under lock.
  spin_lock lock;
  // Under lock.
  snapshot_slot* own = nullptr;   // Of threads that have ended; snapshots may have some of them.
  snapshot_slot* pool = nullptr;  // Free, and no thread's.
};

constinit domain all;

// Named by the own slots of threads whose fences are no fences, so that nobody takes them.
constinit snapshot_node nobodys{nullptr};

void push(snapshot_slot*& list, snapshot_slot& slot) noexcept {
  slot.next = list;
  list = &slot;
}

snapshot_slot& pop(snapshot_slot*& list) noexcept {
  snapshot_slot& slot = *list;
  list = slot.next;
  return slot;
}

// Makes slots and puts them in `list`, all of which the caller has to itself.
void make_slots(snapshot_slot*& list) {
  slot_block* const made = [] {
    const race_ignore memory;
    return new slot_block;
  }();
  for (snapshot_slot& one : made->slots) push(list, one);
  const spin_guard guard{all.lock};
  // order: relaxed; under the lock.
  made->older = all.blocks.load(memory_order_relaxed);
  // order: release, pairs with the acquire in for_each_slot(). A writer that walks the list too
  // early to find a new slot fenced before the slot had a name.
  all.blocks.store(made, memory_order_release);
}

// When a thread ends. Its other thread_locals may make it load again: it then gets another one.
void end_slot(void* of_thread) noexcept {
  auto* const own = static_cast<snapshot_slot*>(of_thread);
  sched::keep_slot(nullptr, nullptr);
  const spin_guard guard{all.lock};
  while (own->others != nullptr) push(all.pool, pop(own->others));
  own->others_count = 0;
  push(all.own, *own);
}

void make_pooled(snapshot_slot& slot) noexcept {
  slot.look_for.store(snapshot_slot::pooled, memory_order_relaxed);  // order: nobody knows it yet.
}

snapshot_slot& own_slot() {
  if (snapshot_slot* const own = EXEUNT_READ_THREAD_WORD(exeunt_this_slot)) return *own;
  // Whoever reads without a fence has seen to it himself that he may.
  sched::settle_fences();
  snapshot_slot* own = nullptr;
  {
    const spin_guard guard{all.lock};
    if (all.own != nullptr) own = &pop(all.own);
  }
  if (own == nullptr) {
    snapshot_slot* made = nullptr;
    make_slots(made);
    own = &pop(made);
    while (made != nullptr) {
      snapshot_slot& other = pop(made);
      make_pooled(other);
      push(own->others, other);
      ++own->others_count;
    }
    // order: relaxed, both; it is ours alone, and what is named is nobody's.
    if (!sched::fences_are_asymmetric.load(memory_order_relaxed)) {
      own->names.store(&nobodys, memory_order_relaxed);
    }
  }
  try {
    sched::keep_slot(own, end_slot);
  } catch (...) {
    const spin_guard guard{all.lock};
    push(all.own, *own);
    throw;
  }
  return *own;
}

snapshot_slot& take_pooled(snapshot_slot& own) {
  if (own.others == nullptr) {
    {
      const spin_guard guard{all.lock};
      while (all.pool != nullptr && own.others_count < slots_per_block) {
        push(own.others, pop(all.pool));
        ++own.others_count;
      }
    }
    if (own.others == nullptr) {
      make_slots(own.others);
      for (snapshot_slot* one = own.others; one != nullptr; one = one->next) make_pooled(*one);
      own.others_count = slots_per_block;
    }
  }
  --own.others_count;
  return pop(own.others);
}

void put_back(snapshot_slot& slot) noexcept {
  snapshot_slot* const own = EXEUNT_READ_THREAD_WORD(exeunt_this_slot);
  if (own != nullptr) {
    push(own->others, slot);
    if (++own->others_count <= others_max) return;
    const spin_guard guard{all.lock};
    for (; own->others_count > slots_per_block; --own->others_count) {
      push(all.pool, pop(own->others));
    }
    return;
  }
  const spin_guard guard{all.lock};
  push(all.pool, slot);
}

template <typename F>
void for_each_slot(F&& f) noexcept {
  // order: acquire, pairs with the release in make_slots(); publishes the slots.
  slot_block* block = all.blocks.load(memory_order_acquire);
  for (; block != nullptr; block = block->older) {
    for (snapshot_slot& slot : block->slots) f(slot);
  }
}

bool has_name_of(const snapshot_slot& slot, const snapshot_node* node) noexcept {
  // order: acquire, pairs with the releases of who gives a name up: what was read of the node comes
  // before its end.
  return slot.names.load(memory_order_acquire) == node;
}

void destroy(snapshot_node* node) noexcept {
  race_acquire(node);
  race_acquire(&node->last_use);
  node->destroy(node);
}

// Under domain.lock. Returns: what is to be destroyed when it is free, or null.
snapshot_node* pay(snapshot_slot& slot) noexcept {
  snapshot_node* const node = std::exchange(slot.owes, nullptr);
  return node != nullptr && --node->owed == 0 ? node : nullptr;
}

// Whether who has overwritten the slot's name is to settle for the old one.
bool is_marked(const snapshot_slot& slot) noexcept {
  sched::light_fence();
  // order: relaxed; settle() looks under the lock.
  return (slot.look_for.load(memory_order_relaxed) & snapshot_slot::marked) != 0;
}

// Of a slot that has been found marked after its name was overwritten. Its thread may have taken it
// again by now.
[[gnu::cold]] void settle(snapshot_slot& slot) noexcept {
  snapshot_node* over = nullptr;
  {
    const spin_guard guard{all.lock};
    if (slot.owes == nullptr || !has_name_of(slot, slot.owes)) {
      over = pay(slot);
      // order: relaxed; under the lock.
      slot.look_for.fetch_and(snapshot_slot::pooled, memory_order_relaxed);
    }
  }
  if (over != nullptr) destroy(over);
}

// Of a node that is named by some slots.
[[gnu::cold]] void make_them_owe(snapshot_node* node) noexcept {
  snapshot_node* over = nullptr;  // A list, by what nobody needs any more.
  snapshot_node** end = &over;
  const auto is_over = [&end](snapshot_node* one) {
    if (one == nullptr) return;
    *end = one;
    end = &one->next_over;
  };
  {
    const spin_guard guard{all.lock};
    for_each_slot([&](snapshot_slot& slot) {
      if (!has_name_of(slot, node)) return;
      // Who has it will pay for an earlier node, which it holds no more; now is as good.
      is_over(pay(slot));
      slot.owes = node;
      ++node->owed;
      // order: relaxed; the fence.
      slot.look_for.fetch_or(snapshot_slot::marked, memory_order_relaxed);
    });
    sched::heavy_fence();
    for_each_slot([&](snapshot_slot& slot) {
      if (slot.owes == node && !has_name_of(slot, node)) static_cast<void>(pay(slot));
    });
    if (node->owed == 0) is_over(node);
  }
  while (over != nullptr) destroy(std::exchange(over, over->next_over));
}

}  // namespace

void retire(snapshot_node* node) noexcept {
  sched::settle_fences();
  sched::heavy_fence();
  bool is_held = false;
  for_each_slot([&](const snapshot_slot& slot) { is_held = is_held || has_name_of(slot, node); });
  if (is_held) return make_them_owe(node);
  destroy(node);
}

void settle_and_put_back(snapshot_slot& slot) noexcept {
  if (is_marked(slot)) settle(slot);
  // order: relaxed; this bit does not change.
  if ((slot.look_for.load(memory_order_relaxed) & snapshot_slot::pooled) != 0) put_back(slot);
}

snapshot_cell::snapshot_cell(snapshot_node* first) noexcept {
  race_release(first);
  // order: relaxed; whoever uses the cell has been told of it.
  current_.store(first, memory_order_relaxed);
}

snapshot_cell::~snapshot_cell() {
  // order: relaxed; as above.
  if (snapshot_node* const last = current_.load(memory_order_relaxed)) retire(last);
}

held_snapshot snapshot_cell::load_by_other() const {
  snapshot_slot& own = own_slot();
  return load_again(take_pooled(own));
}

held_snapshot snapshot_cell::load_again(snapshot_slot& slot) const noexcept {
  snapshot_node* node = current_.load();
  for (;;) {
    // order: release; what the slot named before has been given up, also if by somebody else.
    slot.names.store(node, memory_order_release);
    // Somebody may wait for us to give up what we have named in vain.
    if (is_marked(slot)) settle(slot);
    snapshot_node* const seen = current_.load();
    if (seen == node) break;
    node = seen;
  }
  race_acquire(node);
  return {node, &slot};
}

held_snapshot snapshot_cell::exchange(snapshot_node* next) noexcept {
  race_release(next);
  snapshot_node* const old = current_.exchange(next);
  if (old != nullptr) race_acquire(old);
  return {old, nullptr};
}

bool snapshot_cell::compare_exchange(held_snapshot& expected, snapshot_node* next) noexcept {
  race_release(next);
  snapshot_node* seen = expected.node;
  if (!current_.compare_exchange_strong(seen, next)) return false;
  // It is ours to retire now, so nobody else destroys it.
  if (expected.slot != nullptr) {
    // order: release, as in let_go().
    expected.slot->names.store(nullptr, memory_order_release);
    settle_and_put_back(*std::exchange(expected.slot, nullptr));
  }
  return true;
}

}  // namespace exeunt::detail
