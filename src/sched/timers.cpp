// SPDX-License-Identifier: Apache-2.0
// The timers in their order, and the nodes' side of them.
//
// A *fresh* node is one that was started and that nobody has had to compare with others since. The
// fresh ones are the end of entries_; before them lies the heap.
//
// Invariants, whenever lock_ is free:
//   I1  entries_[i].node->index_ == i; below sorted_, no child is before its parent.
//   I2  next_ is the earliest deadline of all, or no_deadline.
//   I3  A node's fire function runs under lock_, after the node has left the queue; so once stop()
//       has had the lock, it is not running.
//   I4  There are at most fresh_max fresh nodes.
// Locks: lock_ is taken before the locks of sources and of run queues, never after one of them.
// Wake-ups: start() of the earliest one wakes the worker that sleeps in the poller.
// Tests: tests/sched/timers_test.cpp (I1-I4).

#include "sched/timers.hpp"

#include <algorithm>
#include <cstdlib>
#include <type_traits>
#include <utility>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/race.hpp>

#include "sched/current.hpp"
#include "sched/runtime_core.hpp"

namespace exeunt::detail {

namespace {
constexpr std::size_t arity = 4;
// What is fired in one hold of the lock.
constexpr std::size_t batch = 64;
// As many as are looked through in the time that a walk through a large heap takes.
constexpr std::size_t fresh_max = 32;
constexpr std::size_t capacity_min = 256;
}  // namespace

namespace {
spin_lock closed_lock;
timer_queue* closed_queues = nullptr;  // Kept within reach of leak checkers.
}  // namespace

timer_queue& timer_queue::open(sched::runtime_core& home) {
  auto* const queue = new timer_queue;
  queue->home_ = &home;
  return *queue;
}

void timer_queue::close() noexcept {
  const race_ignore own;
  {
    const spin_guard guard{lock_};
    if (std::exchange(home_, nullptr) == nullptr) return;  // Closed before.
    for (std::size_t i = 0; i < size_; ++i) entries_[i].node->index_ = timer_node::not_queued;
    size_ = 0;
    sorted_ = 0;
    capacity_ = 0;
    std::free(std::exchange(entries_, nullptr));
    // order: relaxed, see move_next_back().
    next_.store(no_deadline.time_since_epoch().count(), memory_order_relaxed);
  }
  const spin_guard guard{closed_lock};
  next_closed_ = std::exchange(closed_queues, this);
}

sched::runtime_core* timer_queue::find_home(sched::runtime_hold& hold) noexcept {
  const spin_guard guard{lock_};
  if (home_ == nullptr || end_->peek()) return nullptr;
  hold = sched::runtime_hold{home_};
  return home_;
}

bool timer_queue::before(const entry& a, const entry& b) noexcept {
  return a.when != b.when ? a.when < b.when : a.node->order_ < b.node->order_;
}

// --- places

void timer_queue::place(std::size_t index, const entry& placed) noexcept {
  entries_[index] = placed;
  placed.node->index_ = index;
}

void timer_queue::up(std::size_t index, const entry& placed) noexcept {
  while (index > 0) {
    const std::size_t parent = (index - 1) / arity;
    if (!before(placed, entries_[parent])) break;
    place(index, entries_[parent]);
    index = parent;
  }
  place(index, placed);
}

void timer_queue::down(std::size_t index, const entry& placed) noexcept {
  for (;;) {
    const std::size_t first = index * arity + 1;
    if (first >= sorted_) break;
    const std::size_t end = std::min(first + arity, sorted_);
    std::size_t least = first;
    for (std::size_t i = first + 1; i < end; ++i) {
      if (before(entries_[i], entries_[least])) least = i;
    }
    if (!before(entries_[least], placed)) break;
    place(index, entries_[least]);
    index = least;
  }
  place(index, placed);
}

void timer_queue::put_in_order(std::size_t index, const entry& placed) noexcept {
  if (index > 0 && before(placed, entries_[(index - 1) / arity])) {
    up(index, placed);
  } else {
    down(index, placed);
  }
}

void timer_queue::sort_in() noexcept {
  for (; sorted_ < size_; ++sorted_) up(sorted_, entry{entries_[sorted_]});
}

// Under lock_, and of megabytes. So by realloc(), which moves large blocks by their page tables:
// copied by a std::vector, half a million entries kept all others from their timers for 10 ms.
void timer_queue::resize(std::size_t capacity) noexcept {
  static_assert(std::is_trivially_copyable_v<entry>);
  void* const moved = std::realloc(entries_, capacity * sizeof(entry));
  if (moved == nullptr) fatal("no memory for another timer");
  entries_ = static_cast<entry*>(moved);
  capacity_ = capacity;
}

void timer_queue::add(timer_node& node, clock::time_point when) noexcept {
  if (size_ - sorted_ == fresh_max) sort_in();
  if (size_ == capacity_) resize(std::max(2 * capacity_, capacity_min));
  node.order_ = ++order_;
  place(size_++, {when, &node});
}

void timer_queue::remove(timer_node& node) noexcept {
  std::size_t hole = std::exchange(node.index_, timer_node::not_queued);
  if (hole < sorted_) {
    const entry last = entries_[--sorted_];
    if (hole != sorted_) put_in_order(hole, last);
    hole = sorted_;
  }
  --size_;
  if (hole != size_) place(hole, entry{entries_[size_]});
  if (size_ < capacity_ / 4 && capacity_ > capacity_min) resize(capacity_ / 2);
}

clock::time_point timer_queue::first() const noexcept {
  clock::time_point least = sorted_ == 0 ? no_deadline : entries_[0].when;
  for (std::size_t i = sorted_; i < size_; ++i) {
    least = std::min(least, entries_[i].when);
  }
  return least;
}

// --- start, stop, fire

timer_queue::started timer_queue::start(timer_node& node, clock::time_point when,
                                        sched::runtime_hold& hold) noexcept {
  const race_ignore own;
  const spin_guard guard{lock_};
  if (home_ == nullptr) return {.closed = true};
  const bool was_queued = node.index_ != timer_node::not_queued;
  const clock::time_point before = next_unordered();
  bool was_first = false;
  if (was_queued) {
    was_first = entries_[node.index_].when == before;
    remove(node);
  }
  add(node, when);
  if (when < before) {
    // order: seq_cst, the starter's half of the handshake with a worker going to sleep.
    next_.store(when.time_since_epoch().count(), memory_order_seq_cst);
    hold = sched::runtime_hold{home_};
    return {.was_queued = was_queued, .earliest_of = home_};
  }
  if (was_first) move_next_back();
  return {.was_queued = was_queued};
}

bool timer_queue::stop(timer_node& node) noexcept {
  const spin_guard guard{lock_};
  if (node.index_ == timer_node::not_queued) return false;
  const bool was_first = entries_[node.index_].when == next_unordered();
  remove(node);
  if (was_first) move_next_back();
  return true;
}

clock::time_point timer_queue::next_unordered() const noexcept {
  // order: relaxed; under lock_, where it is written.
  return clock::time_point{clock::duration{next_.load(memory_order_relaxed)}};
}

// Whoever goes to sleep and sees the earlier one yet wakes up once too often.
void timer_queue::move_next_back() noexcept {
  next_.store(first().time_since_epoch().count(), memory_order_relaxed);  // order: see above.
}

std::size_t timer_queue::fire_due(clock::time_point now) noexcept {
  if (next() > now) return 0;
  std::size_t fired = 0;
  // Others may be at their timers in between.
  for (std::size_t before = 0;; before = fired) {
    fire_some(now, fired);
    if (fired - before < batch) return fired;
  }
}

void timer_queue::fire_some(clock::time_point now, std::size_t& fired) noexcept {
  const race_ignore own;
  const spin_guard guard{lock_};
  sort_in();
  const std::size_t last = fired + batch;
  while (fired < last && sorted_ != 0 && entries_[0].when <= now) {
    timer_node& node = *entries_[0].node;
    remove(node);
    ++fired;
    const clock::time_point again = node.fire_(node, now);
    // A one-shot node may be gone by now: the wake-up it fired lets its owner return.
    if (again == no_deadline) continue;
    add(node, again);
    sort_in();
  }
  move_next_back();
}

timer_node::~timer_node() {
  EXEUNT_ASSERT(index_ == not_queued, "a timer was destroyed while started");
}

bool timer_node::start(clock::time_point when) noexcept {
  const scheduler_section scheduling;
  if (sched::forked_without_exec()) sched::refuse_in_child("starts a timer");
  may_fire_ = true;
  sched::runtime_hold hold;
  timer_queue::started outcome{.closed = true};
  if (queue_ != nullptr) outcome = queue_->start(*this, when, hold);
  while (outcome.closed) {  // A node whose runtime has ended goes on with the caller's.
    queue_ = &sched::runtime_core::current_or_fatal().timers();
    outcome = queue_->start(*this, when, hold);
  }
  if (outcome.earliest_of != nullptr) outcome.earliest_of->timer_moved_forward(when);
  return outcome.was_queued;
}

bool timer_node::stop() noexcept {
  const scheduler_section scheduling;
  if (!may_fire_) return false;
  may_fire_ = false;
  if (sched::forked_without_exec()) return std::exchange(index_, not_queued) != not_queued;
  return queue_->stop(*this);
}

}  // namespace exeunt::detail
