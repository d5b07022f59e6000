// SPDX-License-Identifier: Apache-2.0
// The queue: a list of nodes, and those that wait for a value or for room.
//
// Invariants, whenever lock_ is free:
//   I1  size_ nodes hang between first_ and last_, and never more than capacity_.
//   I2  consumers_ has somebody whose wait nobody has ended => the list is empty and not closed_.
//   I3  producers_ has somebody whose wait nobody has ended => the list is full and not closed_.
//   I4  A value is in exactly one place: its producer's frame, a node of the list, or the node that
//       a consumer was given. Who moves it claims its producer first.
//   I5  closed_ never turns false again.
// Locks: lock_ is a leaf among locks of sources; tickets are claimed and values moved under it.
// Wake-ups: a push that finds a consumer gives it the node, and a pop that makes room fills it with
//   the value of the first producer; each is woken after lock_ is released.
// Order: to the race detector a node has a clock, from the push to the pop that gets it. A value
//   that a pop moves on its producer's behalf is moved unseen.
// Tests: tests/sync/queue_test.cpp, map_stress_test.cpp, flows_race_test.cpp;
//   tests/sim/covered_flows_test.cpp.

#include <exeunt/sync/queue.hpp>

#include <algorithm>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/context/context.hpp>

#include "sync/park_until.hpp"

namespace exeunt::detail {

struct queue_core::producer : queued_waiter {
  using queued_waiter::queued_waiter;
  queue_node* node = nullptr;
  void* value = nullptr;
  fill_fn fill = nullptr;
  outcome how = outcome::canceled;
};

struct queue_core::consumer : queued_waiter {
  using queued_waiter::queued_waiter;
  queue_node* node = nullptr;
  outcome how = outcome::canceled;
};

queue_core::~queue_core() {
  EXEUNT_ASSERT(producers_.empty() && consumers_.empty(),
                "a queue was destroyed while somebody waits for it");
}

// Under lock_.
void queue_core::append(queue_node& node) noexcept {
  node.next = nullptr;
  (last_ == nullptr ? first_ : last_->next) = &node;
  last_ = &node;
  ++size_;
  peak_ = std::max(peak_, size_);
}

// Under lock_: gives the node to a consumer or puts it into the list, if there is room.
queue_core::outcome queue_core::offer(queue_node& node, void* value, fill_fn fill,
                                      wakeup& due) noexcept {
  if (closed_) return outcome::closed;
  if (queued_waiter* const first = consumers_.claim_first()) {
    EXEUNT_ASSERT(size_ == 0);  // I2
    fill(node, value);
    race_release(&node);
    auto& waiting = static_cast<consumer&>(*first);
    waiting.node = &node;
    waiting.how = outcome::done;
    due = waiting.due;
    return outcome::done;
  }
  if (size_ == capacity_) return outcome::full;
  fill(node, value);
  race_release(&node);
  append(node);
  return outcome::done;
}

// Under lock_: takes the first node, and lets the first producer in.
queue_core::outcome queue_core::take(queue_node*& into, wakeup& due) noexcept {
  if (first_ == nullptr) return closed_ ? outcome::closed : outcome::empty;
  into = first_;
  first_ = into->next;
  if (first_ == nullptr) last_ = nullptr;
  --size_;
  if (queued_waiter* const first = producers_.claim_first()) {
    auto& waiting = static_cast<producer&>(*first);
    {
      const race_ignore on_its_behalf;
      waiting.fill(*waiting.node, waiting.value);
    }
    append(*waiting.node);
    waiting.how = outcome::done;
    due = waiting.due;
  }
  return outcome::done;
}

queue_core::outcome queue_core::try_push(queue_node& node, void* value, fill_fn fill) noexcept {
  step("queue push", this);
  wakeup due;
  outcome how{};
  {
    const spin_guard guard{lock_};
    how = offer(node, value, fill, due);
  }
  due.fire();
  return how;
}

queue_core::outcome queue_core::push(queue_node& node, void* value, fill_fn fill,
                                     cancel_node* until) noexcept {
  if (until != nullptr && until->canceled()) return outcome::canceled;
  const outcome how = try_push(node, value, fill);
  if (how == outcome::full) return push_slowly(node, value, fill, until);
  if (how == outcome::done) checkpoint();
  return how;
}

queue_core::outcome queue_core::push_slowly(queue_node& node, void* value, fill_fn fill,
                                            cancel_node* until) noexcept {
  ticket several;
  producer self{several};
  {
    wakeup due;
    spin_guard guard{lock_};
    if (const outcome how = offer(node, value, fill, due); how != outcome::full) {
      guard.unlock();
      due.fire();
      return how;
    }
    self.node = &node;
    self.value = value;
    self.fill = fill;
    race_release(&node);
    producers_.push_back(self);
  }
  // Woken by: take() or close(), and what park_until() says.
  const wait_end end = park_until(several, self, until, no_deadline, wait_reason::queue, this);
  const spin_guard guard{lock_};
  if (self.linked()) producers_.remove(self);
  return end == wait_end::claimed ? self.how : outcome::canceled;
}

// What came before the push, or the close, is to be seen from here on.
queue_core::outcome queue_core::shown(outcome how, const queue_node* node) const noexcept {
  if (how == outcome::done) race_acquire(node);
  if (how == outcome::closed) race_acquire(this);
  return how;
}

queue_core::outcome queue_core::try_pop(queue_node*& into) noexcept {
  step("queue pop", this);
  wakeup due;
  outcome how{};
  {
    const spin_guard guard{lock_};
    how = take(into, due);
  }
  due.fire();
  return shown(how, into);
}

queue_core::outcome queue_core::pop(queue_node*& into, cancel_node* until) noexcept {
  if (until != nullptr && until->canceled()) return outcome::canceled;
  const outcome how = try_pop(into);
  if (how == outcome::empty) return pop_slowly(into, until);
  if (how == outcome::done) checkpoint();
  return how;
}

queue_core::outcome queue_core::pop_slowly(queue_node*& into, cancel_node* until) noexcept {
  ticket several;
  consumer self{several};
  outcome how{};
  {
    wakeup due;
    spin_guard guard{lock_};
    how = take(into, due);
    if (how != outcome::empty) {
      guard.unlock();
      due.fire();
      return shown(how, into);
    }
    consumers_.push_back(self);
  }
  // Woken by: offer() or close(), and what park_until() says.
  const wait_end end = park_until(several, self, until, no_deadline, wait_reason::queue, this);
  {
    const spin_guard guard{lock_};
    if (self.linked()) consumers_.remove(self);
    how = end == wait_end::claimed ? self.how : outcome::canceled;
    into = self.node;
  }
  return shown(how, into);
}

void queue_core::close() noexcept {
  step("queue close", this);
  race_release(this);
  wake_list woken;
  {
    const spin_guard guard{lock_};
    closed_ = true;
    while (queued_waiter* const first = producers_.claim_first()) {
      static_cast<producer&>(*first).how = outcome::closed;
      woken.add(*first);
    }
    while (queued_waiter* const first = consumers_.claim_first()) {
      static_cast<consumer&>(*first).how = outcome::closed;
      woken.add(*first);
    }
  }
  woken.fire();
}

queue_node* queue_core::take_rest() noexcept {
  queue_node* const first = first_;
  if (first != nullptr) {
    first_ = first->next;
    if (first_ == nullptr) last_ = nullptr;
    --size_;
    race_acquire(first);
  }
  return first;
}

std::size_t queue_core::size() const noexcept {
  const spin_guard guard{lock_};
  return size_;
}

std::size_t queue_core::peak() const noexcept {
  const spin_guard guard{lock_};
  return peak_;
}

bool queue_core::closed() const noexcept {
  const spin_guard guard{lock_};
  return closed_;
}

cancel_node* queue_core::until_of(const context& ctx) noexcept { return node_of(ctx); }

error queue_core::why(outcome how, cancel_node* until) {
  return how == outcome::closed ? error{errc::closed, "the queue"} : until->reason();
}

}  // namespace exeunt::detail
