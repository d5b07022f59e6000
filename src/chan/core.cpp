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
//   It is biased: a worker that uses the channel alone pays nothing for it (biased_lock.hpp).
//   Nothing parks under it, and no lock is taken under it. Elements are moved under it, and what is
//   left of one that was moved out of the ring is destroyed under it; so are the elements that
//   discard() drops. So neither may throw, nor come back to a channel or a lock of this library:
//   channel_element says so. What nobody took is destroyed with the channel, outside.
// Looks: was_full() and was_empty() do without the lock, and what they say was true at a moment of
//   the call. They look first at what keeps the channel from being ready, a word that is written
//   once by each operation that changes it, then at closed_. If it is not closed by then, it was
//   not at the first look; closed_ is written before a close takes the waiters away. What the
//   caller's thread has done itself is shown to others before it looks: see show_all().
// Turns: a send and a receive that need not wait end in checkpoint(); what never waits does not,
//   as its callers may hold what belongs to their thread, a std::mutex for one.
// Wake-ups: fired after lock_ is released. From then on the waiter is gone. The channel may be
//   gone, too: whoever wakes up may own the last handle. So unlock() is the last thing that an
//   operation does to *this, unless it has pinned it. Pins are counted under lock_, which whoever
//   has one takes again anyway; the last handle leaves the channel to the last pin.
// Tests: tests/chan/chan_test.cpp (I1-I3 checked in each step of a dev build), chan_stress_test.cpp
//   (I5 by sums), chan_race_test.cpp (the edges of race_clock.hpp), progress_test.cpp (gives way).

#include <exeunt/chan/core.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <new>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/error.hpp>

#include "chan/race_clock.hpp"
#include "sched/current.hpp"

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

// ThreadSanitizer is told of each step, so there is none for it.
constexpr bool has_short_way = !race_shown;

constexpr std::size_t word = sizeof(std::uint64_t);

template <typename Status>
[[gnu::noinline, gnu::cold]] Status end_turn_with(turn& here, Status now) noexcept {
  end_turn(here);
  return now;
}

// checkpoint(), and then the result, without a register to be saved for it.
template <typename Status>
[[gnu::always_inline]] inline Status passed(turn& here, Status now) noexcept {
  if (++here.operations >= turn::operations_max) [[unlikely]]
    return end_turn_with(here, now);
  return now;
}

// Fires the wake-up of `whom`, after the unlocking, and then as passed().
template <typename Status>
[[gnu::noinline]] Status wake_with(turn& here, caller whom, Status now) noexcept {
  whom.wake();
  return passed(here, now);
}

// Of one that waits here only, and first.
[[gnu::always_inline]] inline caller end_wait(chan_waiter& first) noexcept {
  intrusive_list<chan_waiter>::remove(first);
  first.result = chan_waiter::outcome::delivered;
  return first.whom;
}

// Whether somebody waits who has not been ended elsewhere. Drops the stale ones in front.
bool has_live(intrusive_list<chan_waiter>& waiters) noexcept {
  while (chan_waiter* const first = waiters.front()) {
    if (first->shared == nullptr || first->shared->winner() == nullptr) return true;
    intrusive_list<chan_waiter>::remove(*first);
  }
  return false;
}

// claim_first(), in line for none and for one that waits here only.
[[gnu::always_inline]] inline chan_waiter* claim_next(intrusive_list<chan_waiter>& waiters,
                                                      wakeup& due) noexcept {
  chan_waiter* const first = waiters.front();
  if (first == nullptr) return nullptr;
  if (first->shared != nullptr) return claim_first(waiters, due);
  intrusive_list<chan_waiter>::remove(*first);
  due = wakeup{first->whom};
  return first;
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
    : look_{look},
      is_word_{ops.is_word && !race_shown},  // The tool is to see elements being moved.
      capacity_{capacity},
      ring_{ring},
      ops_{&ops},
      made_in_{simulation_here()} {}

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

// Called when the last handle is gone.
void chan_core::abandon() const noexcept {
  auto* const self = const_cast<chan_core*>(this);
  if (companion_ != nullptr) companion_->end(*companion_);
  if (!sched::forked_without_exec()) {
    spin_lock& held = self->lock_.lock(sched::this_turn());
    const bool pinned = pins_ != 0;
    if (pinned) {
      self->abandoned_ = true;
      race_release(&abandoned_);
    }
    held.unlock();
    if (pinned) return;
  }
  free();
}

void chan_core::free() const noexcept {
  auto* const self = const_cast<chan_core*>(this);
  const std::size_t alignment = alignment_of(*ops_);
  chan_companion* const companion = companion_;
  self->~chan_core();
  if (companion != nullptr) return companion->free(*companion);
  ::operator delete(static_cast<void*>(self), std::align_val_t{alignment});
}

void chan_core::unlock_unpinned(spin_lock& held) noexcept {
  const bool is_mine = --pins_ == 0 && abandoned_;
  if (is_mine) race_acquire(&abandoned_);
  held.unlock();
  if (is_mine) free();
}

// Only a select that waits for several needs it, so it is given when asked for.
std::uint64_t chan_core::take_id() noexcept {
  const std::uint64_t fresh = next_source_id();
  std::uint64_t seen = 0;
  // order: relaxed, both; only the value counts.
  return id_.compare_exchange_strong(seen, fresh, memory_order_relaxed) ? fresh : seen;
}

// The most frequent cases have a way of their own, for which hardly a register need be saved:
// words, in a channel that is the caller's alone, no contexts, no selects. All else goes on with
// the lock.
send_status chan_core::send(void* value, cancel_node* cancel) noexcept {
  step("channel send", this, made_in_);
  turn& here = sched::this_turn();
  if (cancel != nullptr && cancel->canceled()) return send_status::canceled;
  spin_lock* const held = lock_.lock_alone(here);
  if (held == nullptr) [[unlikely]]
    return send_shared(here, value, cancel);
  if (!has_short_way || !is_word_ || closed()) return send_held(here, value, cancel, *held);
  check_invariants();
  const std::size_t filled = count();
  if (chan_waiter* const taker = receivers_.front()) {
    if (taker->shared != nullptr) return send_held(here, value, cancel, *held);
    EXEUNT_ASSERT(filled == 0);  // I2
    const caller whom = end_wait(*taker);
    std::memcpy(taker->element, value, word);
    held->unlock();
    return wake_with(here, whom, send_status::sent);
  }
  if (filled == capacity_) {
    if (cancel != nullptr) return send_held(here, value, cancel, *held);
    return send_parked(value, *held);
  }
  const std::size_t tail = tail_;
  std::memcpy(ring_ + tail * word, value, word);
  tail_ = after(tail);
  count_to(filled + 1);
  held->unlock();
  return passed(here, send_status::sent);
}

[[gnu::noinline]] send_status chan_core::send_shared(turn& here, void* value,
                                                     cancel_node* cancel) noexcept {
  return send_held(here, value, cancel, lock_.lock_shared(here));
}

// Apart from those who call it, whose frames go before they park: whom to wake has its address
// taken.
template <auto Step, auto Waits>
[[gnu::noinline]] auto chan_core::step_now(turn& here, void* element, spin_lock& held) noexcept {
  wakeup due;
  const auto now = (this->*Step)(element, due);
  if (now == Waits) return now;
  held.unlock();
  due.fire();
  checkpoint(here);
  return now;
}

send_status chan_core::send_held(turn& here, void* value, cancel_node* cancel,
                                 spin_lock& held) noexcept {
  const send_status now = step_now<&chan_core::send_step, send_status::full>(here, value, held);
  if (now != send_status::full) return now;
  if (cancel == nullptr) return send_parked(value, held);
  switch (park_until(held, senders_, value, wait_reason::chan_send, *cancel)) {
    case chan_waiter::outcome::delivered:
      return send_status::sent;
    case chan_waiter::outcome::closed:
      return send_status::closed;
    case chan_waiter::outcome::pending:
      break;
  }
  return send_status::canceled;
}

send_status chan_core::send_parked(void* value, spin_lock& held) noexcept {
  const auto outcome = park_alone(held, senders_, value, wait_reason::chan_send);
  return outcome == chan_waiter::outcome::delivered ? send_status::sent : send_status::closed;
}

send_status chan_core::try_send_locked(void* value) noexcept {
  wakeup due;
  spin_lock& held = lock_.lock(sched::this_turn());
  const send_status now = send_step(value, due);
  held.unlock();
  due.fire();
  return now;
}

recv_status chan_core::recv(void* out, cancel_node* cancel) noexcept {
  step("channel receive", this, made_in_);
  turn& here = sched::this_turn();
  if (cancel != nullptr && cancel->canceled()) return recv_status::canceled;
  spin_lock* const held = lock_.lock_alone(here);
  if (held == nullptr) [[unlikely]]
    return recv_shared(here, out, cancel);
  if (!has_short_way || !is_word_) return recv_held(here, out, cancel, *held);
  check_invariants();
  const std::size_t filled = count();
  chan_waiter* const giver = senders_.front();
  if (filled != 0) {
    if (giver != nullptr) return recv_held(here, out, cancel, *held);
    const std::size_t head = head_;
    std::memcpy(out, ring_ + head * word, word);
    head_ = after(head);
    count_to(filled - 1);
    held->unlock();
    return passed(here, recv_status::received);
  }
  if (giver == nullptr) {
    if (cancel != nullptr || closed()) return recv_held(here, out, cancel, *held);
    return recv_parked(out, *held);
  }
  if (giver->shared != nullptr) return recv_held(here, out, cancel, *held);
  EXEUNT_ASSERT(capacity_ == 0);  // I3
  const caller whom = end_wait(*giver);
  std::memcpy(out, giver->element, word);
  held->unlock();
  return wake_with(here, whom, recv_status::received);
}

[[gnu::noinline]] recv_status chan_core::recv_shared(turn& here, void* out,
                                                     cancel_node* cancel) noexcept {
  return recv_held(here, out, cancel, lock_.lock_shared(here));
}

recv_status chan_core::recv_held(turn& here, void* out, cancel_node* cancel,
                                 spin_lock& held) noexcept {
  const recv_status now = step_now<&chan_core::recv_step, recv_status::empty>(here, out, held);
  if (now != recv_status::empty) return now;
  if (cancel == nullptr) return recv_parked(out, held);
  switch (park_until(held, receivers_, out, wait_reason::chan_recv, *cancel)) {
    case chan_waiter::outcome::delivered:
      return recv_status::received;
    case chan_waiter::outcome::closed:
      return recv_status::closed;
    case chan_waiter::outcome::pending:
      break;
  }
  return recv_status::canceled;
}

recv_status chan_core::recv_parked(void* out, spin_lock& held) noexcept {
  const auto outcome = park_alone(held, receivers_, out, wait_reason::chan_recv);
  return outcome == chan_waiter::outcome::delivered ? recv_status::received : recv_status::closed;
}

recv_status chan_core::try_recv_locked(void* out) noexcept {
  wakeup due;
  spin_lock& held = lock_.lock(sched::this_turn());
  const recv_status now = recv_step(out, due);
  held.unlock();
  due.fire();
  return now;
}

bool chan_core::close() noexcept {
  step("channel close", this, made_in_);
  turn& here = sched::this_turn();
  spin_lock* held = &lock_.lock(here);
  race_write(&closed_);  // Also of a second close: which one is second is chance.
  if (closed()) {
    held->unlock();
    return false;
  }
  race_release(&closed_);
  closed_.store(1, memory_order_relaxed);
  // order: release, before those who wait are taken away: see Looks.
  std::atomic_thread_fence(memory_order_release);
  intrusive_list<chan_waiter> receivers;
  intrusive_list<chan_waiter> senders;
  receivers.append(receivers_);
  senders.append(senders_);
  check_invariants();
  // In batches, since a wake-up can be remembered only outside of the waiter it ends. The lock
  // guards the lists here, too: the owner of a stale waiter may be unlinking it. Between batches
  // those who are woken may drop the last handle.
  for (bool pinned = false;;) {
    std::array<wakeup, 32> due;
    std::size_t claimed = 0;
    bool more = true;
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
    if (more && !pinned) pin();
    if (!more && pinned) {
      unlock_unpinned(*held);
    } else {
      held->unlock();
    }
    for (std::size_t i = 0; i < claimed; ++i) due[i].fire();
    if (!more) return true;
    pinned = true;
    held = &lock_.lock(here);
  }
}

bool chan_core::discard() noexcept {
  if (count() == 0) return false;
  spin_lock& held = lock_.lock(sched::this_turn());
  EXEUNT_ASSERT(!has_live(senders_), "discard under a parked sender");
  const bool any = count() != 0;
  for (std::size_t left = count(); left != 0; --left) {
    enter_slot(races_, head_);
    ops_->destroy(slot(head_));
    leave_slot(races_, head_);
    head_ = after(head_);
  }
  count_to(0);
  held.unlock();
  return any;
}

std::size_t chan_core::size() const noexcept { return look_ == chan_look::plain ? count() : 0; }

std::size_t chan_core::capacity() const noexcept {
  return look_ == chan_look::plain ? capacity_ : 0;
}

send_status chan_core::send_now(void* value, wakeup& due) noexcept { return send_step(value, due); }
recv_status chan_core::recv_now(void* out, wakeup& due) noexcept { return recv_step(out, due); }

[[gnu::always_inline]] inline send_status chan_core::send_step(void* value, wakeup& due) noexcept {
  check_invariants();
  race_read(&closed_);
  if (closed()) return send_status::closed;

  if (chan_waiter* const taker = claim_next(receivers_, due)) {
    // I2: a parked receiver means an empty ring, so passing the ring by keeps the order.
    EXEUNT_ASSERT(count() == 0);
    taker->result = chan_waiter::outcome::delivered;
    if (!race_shown || capacity_ == 0) {
      meet(taker->passed);
      move_element(ops_->hand_over, taker->element, value);
      part(taker->passed);
      return send_status::sent;
    }
    // To the tool it goes through the ring.
    enter_slot(races_, tail_);
    {
      [[maybe_unused]] const race_hidden hidden;
      move_element(ops_->hand_over, taker->element, value);
    }
    leave_slot_for(races_, tail_, taker->passed);
    head_ = tail_ = after(tail_);
    return send_status::sent;
  }

  const std::size_t filled = count();
  if (filled == capacity_) return send_status::full;
  enter_slot(races_, tail_);
  move_element(ops_->store, slot(tail_), value);
  leave_slot(races_, tail_);
  tail_ = after(tail_);
  count_to(filled + 1);
  return send_status::sent;
}

[[gnu::always_inline]] inline recv_status chan_core::recv_step(void* out, wakeup& due) noexcept {
  check_invariants();
  if (const std::size_t filled = count(); filled != 0) {
    enter_slot(races_, head_);
    move_element(ops_->take, out, slot(head_));
    leave_slot(races_, head_);
    head_ = after(head_);
    chan_waiter* const giver = claim_next(senders_, due);
    if (giver == nullptr) {
      count_to(filled - 1);
      return recv_status::received;
    }
    // I3: the ring was full, so the slot just emptied is the tail; the first sender moves up.
    EXEUNT_ASSERT(filled == capacity_);
    giver->result = chan_waiter::outcome::delivered;
    {
      [[maybe_unused]] const race_hidden hidden;
      move_element(ops_->store, slot(tail_), giver->element);
    }
    leave_slot_for(races_, tail_, giver->passed);
    tail_ = after(tail_);
    return recv_status::received;
  }

  if (closed()) {
    race_acquire(&closed_);
    return recv_status::closed;
  }
  chan_waiter* const giver = claim_next(senders_, due);
  if (giver == nullptr) return recv_status::empty;
  // I3: a sender parks at an empty ring only if the ring has no room at all.
  EXEUNT_ASSERT(capacity_ == 0);
  giver->result = chan_waiter::outcome::delivered;
  meet(giver->passed);
  move_element(ops_->hand_over, out, giver->element);
  part(giver->passed);
  return recv_status::received;
}

[[gnu::always_inline]] inline chan_waiter::outcome chan_core::park_alone(
    spin_lock& held, intrusive_list<chan_waiter>& waiters, void* element,
    wait_reason why) noexcept {
  chan_waiter self{element};
  self.passed = leave_clock();
  waiters.push_back(self);
  check_invariants();
  park(held, self, why, this);  // Woken by: whoever claims self, in a send, a receive or a close.
  // From here on the channel may be gone.
  EXEUNT_ASSERT(self.result != chan_waiter::outcome::pending);
  resume_from(self.passed);
  return self.result;
}

// Returns `pending` if `cancel` ended the wait.
chan_waiter::outcome chan_core::park_until(spin_lock& held, intrusive_list<chan_waiter>& waiters,
                                           void* element, wait_reason why,
                                           cancel_node& cancel) noexcept {
  // The lock is taken once more afterwards, when others may have dropped their handles.
  pin();
  ticket several;
  chan_waiter self{several, element};
  waiter canceled{several};
  self.passed = leave_clock();
  waiters.push_back(self);
  check_invariants();
  held.unlock();
  if (cancel.add_waiter(canceled)) {
    park(several, why, this);  // Woken as above, or by cancel().
  } else if (wakeup none; several.claim(&canceled, none)) {
    none.fire();
  }
  {
    spin_lock& again = lock_.lock(sched::this_turn());
    unlink(self);
    unlock_unpinned(again);
  }
  cancel.remove_waiter(canceled);
  resume_from(self.passed);
  EXEUNT_ASSERT(self.won() == (self.result != chan_waiter::outcome::pending));
  return self.result;
}

void chan_core::unlink(chan_waiter& waiter) noexcept {
  if (waiter.linked()) intrusive_list<chan_waiter>::remove(waiter);
}

bool chan_core::can_send() noexcept {
  return closed() || count() < capacity_ || has_live(receivers_);
}

bool chan_core::can_recv() noexcept { return closed() || count() != 0 || has_live(senders_); }

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
  EXEUNT_DCHECK(!(receiving && (count() != 0 || closed())) || !has_live(receivers_), "I2");
  EXEUNT_DCHECK(!(sending && (count() != capacity_ || closed())) || !has_live(senders_), "I3");
#endif
}

void throw_send_on_closed() { throw closed_channel{"send on closed channel"}; }
void throw_close_of_closed() { throw closed_channel{"close of closed channel"}; }
void throw_close_of_nil() { throw closed_channel{"close of nil channel"}; }

}  // namespace exeunt::detail
