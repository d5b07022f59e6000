// SPDX-License-Identifier: Apache-2.0
// The cancellation tree: who is told, in which order, and who may free what.
//
// A node *begins* to end when its state leaves `live`, and *spreads* its end afterwards, unless it
// is *alone*: without children, waiters and call-backs, of which it gets no more (I2). What spreads
// it first ends all below, then *settles* it, and tells those who wait last. Children are linked
// weakly in their parent, and each keeps a reference to it.
//
// Invariants, whenever a node's lock_ is free:
//   I1  state_ only goes up, from live to ended; reason_ and cause_ never change after live.
//   I2  A node that is not live gets no further child, waiter or call-back.
//   I3  A node is linked in its parent's children_ at most once, and, when it has ended and its
//       end has spread, not at all.
//   I4  When the first waiter or call-back of a cancelled tree runs, all of the tree has ended.
//   I5  next_ended_ is written at most once, by the spread() that ended the node, or claimed it.
//   I6  Below an ended (settled) node everything is ended, but for what detach() took away before.
//   I7  A node that one spread() took from its parent is settled by that one, or by another that
//       it waits for: every cancel(), also one that comes second, returns after I6 holds.
// Locks: lock_ is a source's. begin(), detach() and the lists hold one at a time, never a child's
//   and its parent's. The timers' lock may be held around it, never taken under it.
//   spreading_ is held by the spread() that has claimed the node until it settles it, and waited
//   for under no other lock. A spread() waits only for nodes below its own, so they wait in no
//   circle; nothing is called while it is held.
// Wake-ups: wake_some() fires after unlocking; a waiter may return and let go of the node at once,
//   so spread() holds its own reference.
//   One that is alone wakes nobody, and is kept by whoever ends it.
// Memory: the last handle's release() takes the parent's lock before the memory goes. A visitor
//   of the parent's list, under that lock, adds a reference only if there still is one.
// Tests: tests/sched/cancel_test.cpp (I1-I5), tests/context/context_stress_test.cpp.

#include <exeunt/sched/cancel.hpp>

#include <new>

#include <exeunt/base/assert.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/timer_node.hpp>

namespace exeunt::detail {

constinit const atomic<std::uint8_t> live_for_good{cancel_node::live};

namespace {
// What is done in one hold of a lock, and at most in a timer's call-back.
constexpr std::size_t batch = 32;
}  // namespace

/// A node with a timer of its own.
///
/// The timer is started before the node is linked or handed out, and stopped by the one that
/// ended the node, or else by the destructor; so nobody races with anybody for it but its firing.
class deadline_node final : public cancel_node, public timer_node {
 public:
  explicit deadline_node(const error& cause) noexcept
      : cancel_node{true}, timer_node{&deadline_node::on_fire}, cause_at_deadline_{cause} {}
  ~deadline_node() {
    // Also waits for on_fire() to have returned.
    if (!idle_) stop();
  }

  void stop_for_good() noexcept {
    stop();
    idle_ = true;
  }

 private:
  // Under the timers' lock: the node is ended at once, which is all that err() needs, and if there
  // is nothing below it, a few waiters are woken. What may be more than a few steps, or stop other
  // timers, is for a fiber; then so are the waiters, who must find what is below ended (I4).
  // The memory stays, whoever lets go of the node, until this has returned: see the destructor.
  static clock::time_point on_fire(timer_node& timer, clock::time_point) noexcept {
    auto& self = static_cast<deadline_node&>(timer);
    const begun how = self.begin(errc::deadline_exceeded, self.cause_at_deadline_);
    if (how == begun::no) return no_deadline;
    // Quiet for good: an ended node gets no further call-back (I2).
    if (how == begun::alone || (how == begun::childless && self.quiet() && self.wake_some())) {
      self.detach();
    } else if (self.try_add_ref()) {  // Else nobody is left who could tell.
      start_fiber({.name = "deadline"}, [how, node = ref_ptr<cancel_node>::adopt(&self)] {
        if (how == begun::childless) return node->spread();
        node->settle();  // A cancel() may have come first.
      });
    }
    return no_deadline;
  }

  const error cause_at_deadline_;
  bool idle_ = false;  // Stopped, and not to be started again.
};

cancel_node::~cancel_node() {
  if (shared_ != nullptr) {
    if (shared_->linked()) callbacks_.remove(*shared_);
    shared_->destroy(shared_);
  }
  EXEUNT_ASSERT(waiters_.empty(), "the last handle of a context went while somebody waits for it");
  EXEUNT_ASSERT(callbacks_.empty(), "the last handle of a context went before its call-backs");
  EXEUNT_ASSERT(children_.empty());
}

ref_ptr<cancel_node> cancel_node::make(cancel_node* parent, std::size_t room) {
  void* const memory = ::operator new(sizeof(cancel_node) + room);
  auto node = ref_ptr<cancel_node>::adopt(new (memory) cancel_node{false});
  node->set_parent(parent);
  node->link();
  return node;
}

ref_ptr<cancel_node> cancel_node::make(cancel_node* parent, clock::time_point deadline,
                                       const error& cause) {
  return make(parent, deadline, cause, 0, clock::now());
}

ref_ptr<cancel_node> cancel_node::make(cancel_node* parent, clock::time_point deadline,
                                       const error& cause, std::size_t room,
                                       clock::time_point now) {
  if (deadline == no_deadline) return make(parent, room);
  if (deadline <= now) {
    ref_ptr<cancel_node> late = make(parent, room);
    late->cancel(errc::deadline_exceeded, cause);
    return late;
  }
  if (end_of_runtime().canceled()) {
    // The process ends, and nobody fires timers any more: who waits for it must not wait for good.
    ref_ptr<cancel_node> late = make(parent, room);
    late->cancel(errc::deadline_exceeded, error{errc::shutting_down, "the runtime has stopped"});
    return late;
  }
  void* const memory = ::operator new(sizeof(deadline_node) + room);
  auto* const timed = new (memory) deadline_node{cause};
  auto node = ref_ptr<cancel_node>::adopt(timed);
  timed->set_parent(parent);
  timed->start(deadline);
  timed->link();
  return node;
}

void* cancel_node::room() noexcept {
  if (has_deadline_) return static_cast<deadline_node*>(this) + 1;
  return this + 1;
}

void cancel_node::set_parent(cancel_node* parent) noexcept {
  if (parent == nullptr) return;
  parent->add_ref();
  parent_ = parent;
}

void cancel_node::link() noexcept {
  if (parent_ == nullptr) return;
  {
    spin_guard guard{parent_->lock_};
    // order: relaxed; begin() sets it under this lock.
    if (parent_->state_.load(memory_order_relaxed) == live) {
      parent_->children_.push_back(*this);
      guard.unlock();
      // The timer may have ended this node before it was linked, and will not unlink it.
      if (canceled()) detach();
      return;
    }
  }
  race_acquire(parent_);
  cancel(*parent_->reason_, *parent_->cause_);
}

cancel_node::begun cancel_node::begin(const error& reason, const error& cause) noexcept {
  const spin_guard guard{lock_};
  // order: relaxed; writes before `spreading` are under lock_.
  if (state_.load(memory_order_relaxed) != live) return begun::no;
  reason_.emplace(reason);
  cause_.emplace(cause);
  race_release(this);
  const bool childless = children_.empty();
  // order: publishes both errors to canceled().
  state_.store(childless ? ended : unclaimed, memory_order_release);
  if (!childless) return begun::with_children;
  return waiters_.empty() && callbacks_.empty() ? begun::alone : begun::childless;
}

bool cancel_node::cancel(const error& reason, const error& cause) noexcept {
  const begun how = begin(reason, cause);
  switch (how) {
    case begun::no:
    case begun::with_children:
      settle();
      break;
    case begun::alone:
      stop_timer();
      detach();
      break;
    case begun::childless:
      spread();
  }
  return how != begun::no;
}

// Ends all below a node that has begun to end, or waits until another has.
void cancel_node::settle() noexcept {
  if (claim()) return spread();
  wait_until_settled();
}

// Makes the caller the one who spreads this node's end.
bool cancel_node::claim() noexcept {
  if (settled()) return false;
  const spin_guard guard{lock_};
  // order: relaxed; as begin(). Who finds it `spreading` comes here with the lock, after hold().
  if (state_.load(memory_order_relaxed) != unclaimed) return false;
  spreading_.hold();
  // order: release; canceled() that finds this, and not what begin() stored, needs both errors,
  // too.
  state_.store(spreading, memory_order_release);
  return true;
}

void cancel_node::wait_until_settled() noexcept {
  if (!settled()) const spin_guard until_settled{spreading_};
}

// Of one that is claimed, or was childless when it began to end.
void cancel_node::spread() noexcept {
  add_ref();  // The one that the list below owns.
  cancel_node* last = this;
  for (cancel_node* node = this; node != nullptr; node = node->next_ended_) {
    node->take_children(last);
  }
  // Before anybody is told: a call-back may cancel any of them, and would wait for this.
  for (cancel_node* node = this; node != nullptr; node = node->next_ended_) {
    if (node->settled()) continue;
    node->state_.store(ended, memory_order_release);  // order: publishes I6 to settled().
    node->spreading_.unlock();
  }
  detach();  // The others left their parents as they were taken.
  for (cancel_node* node = this; node != nullptr;) {
    cancel_node* const next = node->next_ended_;
    node->stop_timer();
    while (!node->wake_some()) {
    }
    node->run_callbacks();
    node->release();
    node = next;
  }
}

// Ends this node's children, and puts those whose end the caller is to spread after `last`.
void cancel_node::take_children(cancel_node*& last) noexcept {
  for (;;) {
    cancel_node* taken[batch];
    std::size_t count = 0;
    {
      const spin_guard guard{lock_};
      while (count < batch) {
        cancel_node* const child = children_.pop_front();
        if (child == nullptr) break;
        if (child->try_add_ref()) taken[count++] = child;
      }
    }
    for (std::size_t i = 0; i < count; ++i) {
      cancel_node* const child = taken[i];
      const begun how = child->begin(*reason_, *cause_);
      if (how == begun::childless || child->claim()) {
        last->next_ended_ = child;
        last = child;
      } else {
        if (how == begun::alone) child->stop_timer();
        child->wait_until_settled();
        child->release();
      }
    }
    if (count < batch) return;
  }
}

// Wakes up to a batch. Returns: true if no waiter is left.
bool cancel_node::wake_some() noexcept {
  spin_guard guard{lock_};
  return waiters_.empty() || wake_batch(guard);
}

[[gnu::noinline]] bool cancel_node::wake_batch(spin_guard& guard) noexcept {
  wakeup due[batch];
  std::size_t count = 0;
  while (count < batch) {
    waiter* const first = waiters_.pop_front();
    if (first == nullptr) break;
    // A waiter that somebody else ended leaves an empty wake-up.
    if (!first->claim(due[count])) due[count] = wakeup{};
    ++count;
  }
  const bool none_left = waiters_.empty();
  guard.unlock();
  for (std::size_t i = 0; i < count; ++i) due[i].fire();
  return none_left;
}

void cancel_node::run_callbacks() noexcept {
  for (;;) {
    cancel_callback* first = nullptr;
    {
      const spin_guard guard{lock_};
      first = callbacks_.pop_front();
    }
    if (first == nullptr) return;
    first->call(*first);
  }
}

bool cancel_node::quiet() noexcept {
  const spin_guard guard{lock_};
  return children_.empty() && callbacks_.empty();
}

void cancel_node::stop_timer() noexcept {
  if (has_deadline_) static_cast<deadline_node*>(this)->stop_for_good();
}

const error& cancel_node::reason() const noexcept {
  EXEUNT_ASSERT(canceled());
  return *reason_;
}

const error& cancel_node::cause() const noexcept {
  EXEUNT_ASSERT(canceled());
  return *cause_;
}

void cancel_node::wait(wait_reason why) noexcept {
  if (canceled()) return;
  waiter self;
  if (spin_guard guard{lock_}; state_.load(memory_order_relaxed) == live) {  // order: as link().
    waiters_.push_back(self);
    park(guard.release(), why, this);  // Woken by: wake_some().
  }
  race_acquire(this);
}

bool cancel_node::add_waiter(waiter& w) noexcept {
  const spin_guard guard{lock_};
  if (state_.load(memory_order_relaxed) != live) return false;  // order: as link().
  waiters_.push_back(w);
  return true;
}

void cancel_node::remove_waiter(waiter& w) noexcept {
  {
    const spin_guard guard{lock_};
    if (w.linked()) waiters_.remove(w);
  }
  if (w.won()) race_acquire(this);
}

bool cancel_node::add_callback(cancel_callback& callback) noexcept {
  EXEUNT_ASSERT(callback.call != nullptr);
  {
    const spin_guard guard{lock_};
    if (state_.load(memory_order_relaxed) == live) {  // order: as link().
      callbacks_.push_back(callback);
      return true;
    }
  }
  race_acquire(this);
  return false;
}

bool cancel_node::remove_callback(cancel_callback& callback) noexcept {
  const spin_guard guard{lock_};
  if (!callback.linked()) return false;
  callbacks_.remove(callback);
  return true;
}

cancel_callback* cancel_node::share_callback(cancel_callback* candidate) noexcept {
  {
    const spin_guard guard{lock_};
    if (shared_ != nullptr) return shared_;
    if (state_.load(memory_order_relaxed) == live) {  // order: as link().
      EXEUNT_ASSERT(candidate->call != nullptr && candidate->destroy != nullptr);
      callbacks_.push_back(*candidate);
      shared_ = candidate;
      return candidate;
    }
  }
  race_acquire(this);
  return nullptr;
}

void cancel_node::detach() noexcept {
  if (parent_ == nullptr) return;
  const spin_guard guard{parent_->lock_};
  list_hook<cancel_child_tag>& hook = *this;
  if (hook.linked()) parent_->children_.remove(*this);
}

std::size_t cancel_node::child_count() noexcept {
  const spin_guard guard{lock_};
  std::size_t count = 0;
  for (cancel_node* child = children_.front(); child != nullptr; child = children_.next(*child)) {
    ++count;
  }
  return count;
}

void cancel_node::release() const noexcept {
  // A chain of parents, each kept by its child only, ends in a loop and not in a recursion.
  auto* node = const_cast<cancel_node*>(this);
  while (node != nullptr && node->drop()) {
    cancel_node* const parent = node->parent_;
    node->detach();
    if (node->has_deadline_) {
      static_cast<deadline_node*>(node)->~deadline_node();
    } else {
      node->~cancel_node();
    }
    ::operator delete(node);
    node = parent;
  }
}

}  // namespace exeunt::detail
