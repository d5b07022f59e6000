// SPDX-License-Identifier: Apache-2.0
// The timers' heap, and the nodes' side of it.
//
// Invariants, whenever lock_ is free:
//   I1  heap_[i]->index_ == i, and no child is before its parent.
//   I2  next_ is the deadline of heap_[0], or no_deadline.
//   I3  A node's fire function runs under lock_, after the node has left the heap; so once stop()
//       has had the lock, it is not running.
// Locks: lock_ is taken before the locks of sources and of run queues, never after one of them.
// Wake-ups: start() of the earliest one wakes the worker that sleeps in the poller.
// Tests: tests/sched/timers_test.cpp (I1-I3).

#include "sched/timers.hpp"

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
    for (timer_node* const node : heap_) node->index_ = timer_node::not_queued;
    heap_.clear();
    heap_.shrink_to_fit();
    publish_next();
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

bool timer_queue::before(const timer_node& a, const timer_node& b) noexcept {
  return a.when_ != b.when_ ? a.when_ < b.when_ : a.order_ < b.order_;
}

void timer_queue::place(std::size_t index, timer_node* node) noexcept {
  heap_[index] = node;
  node->index_ = index;
}

void timer_queue::up(std::size_t index) noexcept {
  timer_node* const node = heap_[index];
  while (index > 0) {
    const std::size_t parent = (index - 1) / arity;
    if (!before(*node, *heap_[parent])) break;
    place(index, heap_[parent]);
    index = parent;
  }
  place(index, node);
}

void timer_queue::down(std::size_t index) noexcept {
  timer_node* const node = heap_[index];
  for (;;) {
    const std::size_t first = index * arity + 1;
    if (first >= heap_.size()) break;
    std::size_t least = first;
    for (std::size_t i = first + 1; i < first + arity && i < heap_.size(); ++i) {
      if (before(*heap_[i], *heap_[least])) least = i;
    }
    if (!before(*heap_[least], *node)) break;
    place(index, heap_[least]);
    index = least;
  }
  place(index, node);
}

void timer_queue::remove_at(std::size_t index) noexcept {
  heap_[index]->index_ = timer_node::not_queued;
  timer_node* const last = heap_.back();
  heap_.pop_back();
  if (index == heap_.size()) return;
  place(index, last);
  up(index);
  down(last->index_);
}

void timer_queue::publish_next() noexcept {
  const auto first = heap_.empty() ? no_deadline : heap_.front()->when_;
  // order: seq_cst, the starter's half of the handshake with a worker going to sleep.
  next_.store(first.time_since_epoch().count(), memory_order_seq_cst);
}

timer_queue::started timer_queue::start(timer_node& node, clock::time_point when,
                                        sched::runtime_hold& hold) noexcept {
  const race_ignore own;
  const spin_guard guard{lock_};
  if (home_ == nullptr) return {.closed = true};
  const bool was_queued = node.index_ != timer_node::not_queued;
  node.when_ = when;
  node.order_ = ++order_;
  if (was_queued) {
    up(node.index_);
    down(node.index_);
  } else {
    heap_.push_back(&node);
    up(heap_.size() - 1);
  }
  publish_next();
  if (node.index_ != 0) return {.was_queued = was_queued};
  hold = sched::runtime_hold{home_};
  return {.was_queued = was_queued, .earliest_of = home_};
}

bool timer_queue::stop(timer_node& node) noexcept {
  const spin_guard guard{lock_};
  if (node.index_ == timer_node::not_queued) return false;
  const bool was_first = node.index_ == 0;
  remove_at(node.index_);
  if (was_first) publish_next();
  return true;
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
  const std::size_t last = fired + batch;
  while (fired < last && !heap_.empty() && heap_.front()->when_ <= now) {
    timer_node& node = *heap_.front();
    remove_at(0);
    ++fired;
    const clock::time_point again = node.fire_(node, now);
    // A one-shot node may be gone by now: the wake-up it fired lets its owner return.
    if (again == no_deadline) continue;
    node.when_ = again;
    node.order_ = ++order_;
    heap_.push_back(&node);
    up(heap_.size() - 1);
  }
  publish_next();
}

timer_node::~timer_node() {
  EXEUNT_ASSERT(index_ == not_queued, "a timer was destroyed while started");
}

bool timer_node::start(clock::time_point when) noexcept {
  if (sched::forked_without_exec()) sched::refuse_in_child("starts a timer");
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
  if (sched::forked_without_exec()) return std::exchange(index_, not_queued) != not_queued;
  return queue_ != nullptr && queue_->stop(*this);
}

}  // namespace exeunt::detail
