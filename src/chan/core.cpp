// SPDX-License-Identifier: Apache-2.0
// The channel state machine: what send, recv, try_* and close do to one channel. What select does
// with several is in select.cpp, by the same steps.
//
// A *waiter* is a parked caller's interest in one channel. It lives on the caller's stack and is
// linked into senders_ or receivers_. A caller that waits on more than this channel has one waiter
// for each thing and a ticket they share, which only one waker can claim; a waiter whose ticket
// somebody claimed elsewhere is *stale* and stays linked until its owner, or a waker that comes
// upon it, unlinks it.
//
// Invariants, whenever lock_ is free, not counting stale waiters:
//   I1  senders_ or receivers_ is empty; the exception is one select() that both sends to and
//       receives from this channel.
//   I2  receivers_ not empty  =>  the ring is empty, and the channel open.
//   I3  senders_ not empty    =>  the ring is full, and the channel open.
//   I4  closed_ never turns false again.
//   I5  An element is in exactly one place: the sender's frame, the ring, or the receiver's.
//
// Locks: lock_ has the rank `channel`; select() holds several of them, in the order of their ids.
//   Nothing parks under it, and no lock is taken under it. Elements are moved under it, and what is
//   left of one that was moved out of the ring is destroyed under it; so are the elements that
//   discard() drops. So neither may throw, nor come back to a channel or a lock of this library:
//   channel_element says so. What nobody took is destroyed with the channel, outside.
// Turns: a send and a receive that need not wait end in checkpoint(); what never waits does not,
//   as its callers may hold what belongs to their thread, a std::mutex for one.
// Wake-ups: fired after lock_ is released. From then on the waiter is gone. The channel may be
//   gone, too: whoever wakes up may own the last handle. So unlock() is the last thing that an
//   operation does to *this, unless it holds a reference of its own.
// Tests: tests/chan/chan_test.cpp (I1-I3 checked in each step of a dev build), chan_stress_test.cpp
//   (I5 by sums), chan_race_test.cpp (the edges of race_clock.hpp).

#include <exeunt/chan/core.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <new>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/error.hpp>

#include "chan/race_clock.hpp"

namespace exeunt::detail {

namespace {

constexpr std::size_t cache_line = 64;

std::size_t alignment_of(const element_ops& ops) noexcept {
  return std::max(cache_line, ops.alignment);
}

// Where the ring begins behind the channel.
std::size_t ring_offset(const element_ops& ops) noexcept {
  return (sizeof(chan_core) + ops.alignment - 1) / ops.alignment * ops.alignment;
}

// Whether somebody waits who has not been ended elsewhere. Drops the stale ones in front.
bool has_live(intrusive_list<chan_waiter>& waiters) noexcept {
  while (chan_waiter* const first = waiters.front()) {
    if (first->shared == nullptr || first->shared->winner() == nullptr) return true;
    intrusive_list<chan_waiter>::remove(*first);
  }
  return false;
}

}  // namespace

ref_ptr<chan_core> chan_core::make(const element_ops& ops, std::size_t capacity, chan_look look) {
  constexpr std::size_t most = std::numeric_limits<std::ptrdiff_t>::max() / 2;
  if (capacity > most / std::max<std::size_t>(ops.bytes, 1)) {
    throw panic_error{"chan: size out of range"};
  }
  const std::size_t offset = ring_offset(ops);
  void* const memory =
      ::operator new(offset + capacity * ops.bytes, std::align_val_t{alignment_of(ops)});
  auto* const core =
      ::new (memory) chan_core(ops, capacity, look, static_cast<std::byte*>(memory) + offset);
  auto handle = ref_ptr<chan_core>::adopt(core);
  core->races_ = make_race_slots(capacity);
  return handle;
}

ref_ptr<chan_core> chan_core::make_in(void* memory, const element_ops& ops,
                                      chan_companion& companion) {
  race_slot* const races = make_race_slots(1);
  auto* const core = ::new (memory)
      chan_core(ops, 1, chan_look::unbuffered, static_cast<std::byte*>(memory) + sizeof(chan_core));
  core->races_ = races;
  core->companion_ = &companion;
  return ref_ptr<chan_core>::adopt(core);
}

chan_core::chan_core(const element_ops& ops, std::size_t capacity, chan_look look,
                     std::byte* ring) noexcept
    : look_{look}, ops_{&ops}, capacity_{capacity}, ring_{ring}, id_{next_source_id()} {}

chan_core::~chan_core() {
  // Whoever is parked here borrows a handle; nobody can be left.
  EXEUNT_ASSERT(receivers_.empty() && senders_.empty(), "a channel died under a parked fiber");
  for (std::size_t left = count(); left != 0; --left) {
    enter_slot(races_, head_);
    ops_->destroy(slot(head_));
    head_ = after(head_);
  }
  free_race_slots(races_);
}

void chan_core::destroy() const noexcept {
  auto* const self = const_cast<chan_core*>(this);
  chan_companion* const companion = companion_;
  if (companion != nullptr) companion->end(*companion);
  const std::size_t alignment = alignment_of(*ops_);
  self->~chan_core();
  if (companion != nullptr) return companion->free(*companion);
  ::operator delete(static_cast<void*>(self), std::align_val_t{alignment});
}

send_status chan_core::send(void* value, cancel_node* cancel) noexcept {
  if (cancel != nullptr && cancel->canceled()) return send_status::canceled;
  wakeup due;
  lock_.lock();
  const send_status now = send_now(value, due);
  if (now != send_status::full) {
    lock_.unlock();
    due.fire();
    checkpoint();
    return now;
  }
  switch (park_until(senders_, value, wait_reason::chan_send, cancel)) {
    case chan_waiter::outcome::delivered:
      return send_status::sent;
    case chan_waiter::outcome::closed:
      return send_status::closed;
    case chan_waiter::outcome::pending:
      break;
  }
  return send_status::canceled;
}

send_status chan_core::try_send(void* value) noexcept {
  wakeup due;
  lock_.lock();
  const send_status now = send_now(value, due);
  lock_.unlock();
  due.fire();
  return now;
}

recv_status chan_core::recv(void* out, cancel_node* cancel) noexcept {
  if (cancel != nullptr && cancel->canceled()) return recv_status::canceled;
  wakeup due;
  lock_.lock();
  const recv_status now = recv_now(out, due);
  if (now != recv_status::empty) {
    lock_.unlock();
    due.fire();
    checkpoint();
    return now;
  }
  switch (park_until(receivers_, out, wait_reason::chan_recv, cancel)) {
    case chan_waiter::outcome::delivered:
      return recv_status::received;
    case chan_waiter::outcome::closed:
      return recv_status::closed;
    case chan_waiter::outcome::pending:
      break;
  }
  return recv_status::canceled;
}

recv_status chan_core::try_recv(void* out) noexcept {
  wakeup due;
  lock_.lock();
  const recv_status now = recv_now(out, due);
  lock_.unlock();
  due.fire();
  return now;
}

bool chan_core::close() noexcept {
  // Those who are woken below may drop the last handle before this is done.
  const auto alive = ref_ptr<chan_core>::share(this);
  lock_.lock();
  if (closed_) {
    lock_.unlock();
    return false;
  }
  race_write(&closed_);
  race_release(&closed_);
  closed_ = true;
  intrusive_list<chan_waiter> receivers;
  intrusive_list<chan_waiter> senders;
  receivers.append(receivers_);
  senders.append(senders_);
  check_invariants();
  // In batches, since a wake-up can be remembered only outside of the waiter it ends. The lock
  // guards the lists here, too: the owner of a stale waiter may be unlinking it.
  for (bool more = true; more;) {
    std::array<wakeup, 32> due;
    std::size_t claimed = 0;
    while (claimed < due.size()) {
      chan_waiter* waiter = claim_first(receivers, due[claimed]);
      if (waiter != nullptr) {
        part(waiter->passed);  // For senders a close orders nothing.
      } else {
        waiter = claim_first(senders, due[claimed]);
      }
      more = waiter != nullptr;
      if (!more) break;
      waiter->result = chan_waiter::outcome::closed;
      ++claimed;
    }
    lock_.unlock();
    for (std::size_t i = 0; i < claimed; ++i) due[i].fire();
    if (more) lock_.lock();
  }
  return true;
}

bool chan_core::discard() noexcept {
  if (count() == 0) return false;
  lock_.lock();
  EXEUNT_ASSERT(!has_live(senders_), "discard under a parked sender");
  const bool any = count() != 0;
  for (std::size_t left = count(); left != 0; --left) {
    enter_slot(races_, head_);
    ops_->destroy(slot(head_));
    leave_slot(races_, head_);
    head_ = after(head_);
  }
  count_to(0);
  lock_.unlock();
  return any;
}

std::size_t chan_core::size() const noexcept { return look_ == chan_look::plain ? count() : 0; }

std::size_t chan_core::capacity() const noexcept {
  return look_ == chan_look::plain ? capacity_ : 0;
}

send_status chan_core::send_now(void* value, wakeup& due) noexcept {
  check_invariants();
  race_read(&closed_);
  if (closed_) return send_status::closed;

  if (chan_waiter* const taker = claim_first(receivers_, due)) {
    // I2: a parked receiver means an empty ring, so passing the ring by keeps the order.
    EXEUNT_ASSERT(count() == 0);
    taker->result = chan_waiter::outcome::delivered;
    if (capacity_ == 0) {
      meet(taker->passed);
      ops_->hand_over(taker->element, value);
      part(taker->passed);
      return send_status::sent;
    }
    if constexpr (race_shown) {
      // To the tool it goes through the ring.
      enter_slot(races_, tail_);
      {
        const race_hidden hidden;
        ops_->hand_over(taker->element, value);
      }
      leave_slot_for(races_, tail_, taker->passed);
      head_ = tail_ = after(tail_);
    } else {
      ops_->hand_over(taker->element, value);
    }
    return send_status::sent;
  }

  const std::size_t filled = count();
  if (filled == capacity_) return send_status::full;
  enter_slot(races_, tail_);
  ops_->store(slot(tail_), value);
  leave_slot(races_, tail_);
  tail_ = after(tail_);
  count_to(filled + 1);
  return send_status::sent;
}

recv_status chan_core::recv_now(void* out, wakeup& due) noexcept {
  check_invariants();
  if (const std::size_t filled = count(); filled != 0) {
    enter_slot(races_, head_);
    ops_->take(out, slot(head_));
    leave_slot(races_, head_);
    head_ = after(head_);
    chan_waiter* const giver = claim_first(senders_, due);
    if (giver == nullptr) {
      count_to(filled - 1);
      return recv_status::received;
    }
    // I3: the ring was full, so the slot just emptied is the tail; the first sender moves up.
    EXEUNT_ASSERT(filled == capacity_);
    giver->result = chan_waiter::outcome::delivered;
    {
      [[maybe_unused]] const race_hidden hidden;
      ops_->store(slot(tail_), giver->element);
    }
    leave_slot_for(races_, tail_, giver->passed);
    tail_ = after(tail_);
    return recv_status::received;
  }

  if (closed_) {
    race_acquire(&closed_);
    return recv_status::closed;
  }
  chan_waiter* const giver = claim_first(senders_, due);
  if (giver == nullptr) return recv_status::empty;
  // I3: a sender parks at an empty ring only if the ring has no room at all.
  EXEUNT_ASSERT(capacity_ == 0);
  giver->result = chan_waiter::outcome::delivered;
  meet(giver->passed);
  ops_->hand_over(out, giver->element);
  part(giver->passed);
  return recv_status::received;
}

// Called with lock_ held, which it releases. Returns `pending` if `cancel` ended the wait.
chan_waiter::outcome chan_core::park_until(intrusive_list<chan_waiter>& waiters, void* element,
                                           wait_reason why, cancel_node* cancel) noexcept {
  if (cancel == nullptr) {
    chan_waiter self{element};
    self.passed = leave_clock();
    waiters.push_back(self);
    check_invariants();
    park(lock_, why, this);  // Woken by: send_now(), recv_now() or close() claiming self.
    // From here on the channel may be gone.
    EXEUNT_ASSERT(self.result != chan_waiter::outcome::pending);
    resume_from(self.passed);
    return self.result;
  }

  // The lock is taken once more afterwards, when others may have dropped their handles.
  const auto alive = ref_ptr<chan_core>::share(this);
  ticket several;
  chan_waiter self{several, element};
  waiter canceled{several};
  self.passed = leave_clock();
  waiters.push_back(self);
  check_invariants();
  lock_.unlock();
  if (cancel->add_waiter(canceled)) {
    park(several, why, this);  // Woken as above, or by cancel().
  } else if (wakeup none; several.claim(&canceled, none)) {
    none.fire();
  }
  lock_.lock();
  unlink(self);
  lock_.unlock();
  cancel->remove_waiter(canceled);
  resume_from(self.passed);
  EXEUNT_ASSERT(self.won() == (self.result != chan_waiter::outcome::pending));
  return self.result;
}

void chan_core::unlink(chan_waiter& waiter) noexcept {
  if (waiter.linked()) intrusive_list<chan_waiter>::remove(waiter);
}

bool chan_core::can_send() noexcept {
  return closed_ || count() < capacity_ || has_live(receivers_);
}

bool chan_core::can_recv() noexcept { return closed_ || count() != 0 || has_live(senders_); }

void chan_core::check_invariants() noexcept {
#ifdef EXEUNT_DCHECKS
  // A waiter may turn stale at any time, so only what is live afterwards as well counts; the ends
  // are looked at, since walking long queues would make each step slow.
  const bool receiving = has_live(receivers_);
  const bool sending = has_live(senders_);
  if (receiving && sending) {
    // Select's own exception to I1. Others would have met.
    EXEUNT_DCHECK(receivers_.front()->shared == senders_.front()->shared || !has_live(receivers_) ||
                      !has_live(senders_),
                  "I1");
  }
  EXEUNT_DCHECK(!(receiving && (count() != 0 || closed_)) || !has_live(receivers_), "I2");
  EXEUNT_DCHECK(!(sending && (count() != capacity_ || closed_)) || !has_live(senders_), "I3");
#endif
}

void throw_send_on_closed() { throw closed_channel{"send on closed channel"}; }
void throw_close_of_closed() { throw closed_channel{"close of closed channel"}; }
void throw_close_of_nil() { throw closed_channel{"close of nil channel"}; }

}  // namespace exeunt::detail
