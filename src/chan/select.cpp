// SPDX-License-Identifier: Apache-2.0
// Select: one communication out of several, decided in one instant.
//
// A case is *ready* if its part could be done now. First all channels are looked at without their
// locks. Of those that may be ready one is chosen evenly, and is done under its own lock alone:
// that is the instant. A case that was passed by had not been ready a moment before, or has not
// been chosen; either is allowed.
//
// That no case is ready takes all locks, for it is to be true of one instant. (With one channel it
// is so without: was_full() and was_empty() in core.cpp.) If some case is ready under them, one of
// the ready is chosen evenly and done. Else, without otherwise(), a waiter goes to every channel
// before any lock is released, so that there is no moment at which a partner could miss the select.
// Ends of contexts and time-outs are joined after that; they may come a moment late, which nobody
// can tell from their having happened later.
//
// Invariants, besides those of core.cpp:
//   I1  All waiters of one select share a ticket; who claims it decides the select. No other case
//       has an effect.
//   I2  A select that parks has found, with all its channels locked, no case ready.
//   I3  A select never meets itself: it chooses before it has any waiter linked, and others that
//       claim one of its waiters are others.
//
// Locks: the channels' locks, in the order of their ids, each once. Under them neither a
//   context's nor the timers' lock is taken: timers take channels' locks under their own.
// Wake-ups: as in core.cpp; the channel of the winning case is unlocked last, because from then
//   on a partner may drop the last handles of the others. A select that parks pins each of its
//   channels.
// Tests: tests/chan/select_test.cpp, select_blocked_test.cpp, allocation_test.cpp,
//   select_stress_test.cpp (no loss when cases race), series_stress_test.cpp.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <utility>

#include <exeunt/base/assert.hpp>
#include <exeunt/chan/core.hpp>
#include <exeunt/sched/timer_node.hpp>

#include "chan/race_clock.hpp"
#include "sched/current.hpp"

namespace exeunt::detail {

/// One execution of select_among(). A friend of the channels it works on.
class select_run {
 public:
  select_run(select_case* cases, std::size_t count, const select_memory& memory) noexcept
      : cases_{cases},
        count_{static_cast<std::uint32_t>(count)},
        waiters_{static_cast<chan_waiter*>(memory.waiters)},
        locks_{memory.locks},
        ready_{memory.ready} {}

  std::size_t run() noexcept {
    if (any_simulation()) [[unlikely]]
      check_all_made_here();
    const std::uint32_t seen = look_around();
    if (seen != 0) {
      const std::uint32_t pick = ready_[seen == 1 ? 0 : choose_below(seen)];
      if (try_alone(cases_[pick])) return pick;
    } else if (otherwise_ != none && channel_cases_ <= 1) {
      if (!show_all(sched::this_turn()) || look_around() == 0) return otherwise_;
    }
    return run_locked();
  }

 private:
  static constexpr std::uint32_t none = static_cast<std::uint32_t>(-1);

  static bool is_channel(const select_case& one) noexcept {
    return one.what <= select_case::kind::recv;
  }
  static chan_core& channel_of(const select_case& one) noexcept {
    return *static_cast<chan_core*>(one.source);
  }
  static cancel_node& node_of(const select_case& one) noexcept {
    return *static_cast<cancel_node*>(one.source);
  }

  // Learns what there is, and without locks what may be ready. Writes the indexes of the cases that
  // may be to ready_. Returns: how many.
  std::uint32_t look_around() noexcept {
    std::uint32_t seen = 0;
    channel_cases_ = 0;
    for (std::uint32_t i = 0; i < count_; ++i) {
      const select_case& one = cases_[i];
      bool ready = false;
      if (is_channel(one)) [[likely]] {
        ++channel_cases_;
        ready = may_be_ready(one);
      } else {
        ready = look_at_other(i);
      }
      ready_[seen] = i;
      seen += ready ? 1 : 0;
    }
    return seen;
  }

  void check_all_made_here() const noexcept {
    for (std::uint32_t i = 0; i < count_; ++i) {
      if (is_channel(cases_[i])) check_made_here("select", channel_of(cases_[i]).made_in_);
    }
  }

  static bool may_be_ready(const select_case& one) noexcept {
    return one.what == select_case::kind::recv ? !channel_of(one).looks_empty()
                                               : !channel_of(one).looks_full();
  }

  bool look_at_other(std::uint32_t i) noexcept {
    const select_case& one = cases_[i];
    switch (one.what) {
      case select_case::kind::done:
        can_end_ = true;
        break;
      case select_case::kind::after:
        can_end_ = true;
        if (soonest_ == none || one.delay < cases_[soonest_].delay) soonest_ = i;
        break;
      case select_case::kind::otherwise:
        otherwise_ = i;
        break;
      default:
        break;
    }
    return is_ready(one);
  }

  // Does `one` if it is ready still.
  bool try_alone(select_case& one) noexcept {
    turn& here = sched::this_turn();
    wakeup due;
    if (is_channel(one)) {
      spin_lock& held = channel_of(one).lock_.lock(here);
      const bool done = communicate(one, due);
      held.unlock();
      if (!done) return false;
    } else {
      communicate(one, due);
    }
    finish(due, here);
    return true;
  }

  void finish(const wakeup& due, turn& here) noexcept {
    due.fire();
    if (otherwise_ == none) checkpoint(here);  // With otherwise() it never waits: no turn ends.
  }

  // With all channels locked.
  std::uint32_t run_locked() noexcept {
    gather_locks();
    lock_all();
    wakeup due;
    std::uint32_t winner = none;
    while (winner == none) {
      const std::uint32_t ready = list_ready();
      if (ready == 0) break;
      const std::uint32_t pick = ready_[ready == 1 ? 0 : choose_below(ready)];
      // A partner may have been claimed elsewhere since: then look again.
      if (communicate(cases_[pick], due)) winner = pick;
    }
    if (winner == none && otherwise_ != none) winner = otherwise_;
    if (winner == none) return wait();

    unlock_all(is_channel(cases_[winner]) ? &channel_of(cases_[winner]) : nullptr);
    finish(due, sched::this_turn());
    return winner;
  }

  // The channels, each once, by their ids.
  void gather_locks() noexcept {
    for (std::uint32_t i = 0; i < count_; ++i) {
      if (!is_channel(cases_[i])) continue;
      locks_[lock_count_].channel = &channel_of(cases_[i]);
      locks_[lock_count_++].index = i;
    }
    if (lock_count_ < 2) return;
    if (lock_count_ > 2) return sort_locks();
    if (locks_[0].channel == locks_[1].channel) {
      repeats_ = true;
      lock_count_ = 1;
    } else if (locks_[0].channel->id() > locks_[1].channel->id()) {
      std::swap(locks_[0], locks_[1]);
    }
  }

  void sort_locks() noexcept {
    const auto by_id = [](const select_lock& a, const select_lock& b) noexcept {
      return a.channel->id() < b.channel->id();
    };
    if (lock_count_ <= 16) {
      for (std::uint32_t i = 1; i < lock_count_; ++i) {
        const select_lock moved = locks_[i];
        std::uint32_t place = i;
        for (; place != 0 && by_id(moved, locks_[place - 1]); --place) {
          locks_[place] = locks_[place - 1];
        }
        locks_[place] = moved;
      }
    } else {
      std::sort(locks_, locks_ + lock_count_, by_id);
    }
    std::uint32_t kept = 1;
    for (std::uint32_t i = 1; i < lock_count_; ++i) {
      if (locks_[kept - 1].channel != locks_[i].channel) locks_[kept++] = locks_[i];
    }
    repeats_ = kept != lock_count_;
    lock_count_ = kept;
  }

  void lock_all() noexcept {
    turn& here = sched::this_turn();
    for (std::uint32_t i = 0; i < lock_count_; ++i) {
      locks_[i].held = &locks_[i].channel->lock_.lock(here, i);
    }
  }

  void unlock_all(const chan_core* last) noexcept {
    spin_lock* of_last = nullptr;
    for (std::uint32_t i = 0; i < lock_count_; ++i) {
      if (locks_[i].channel != last) {
        locks_[i].held->unlock();
      } else {
        of_last = locks_[i].held;
      }
    }
    if (of_last != nullptr) of_last->unlock();
  }

  // As look_around(), but for sure.
  std::uint32_t list_ready() noexcept {
    std::uint32_t found = 0;
    for (std::uint32_t i = 0; i < count_; ++i) {
      if (is_ready(cases_[i])) ready_[found++] = i;
    }
    return found;
  }

  static bool is_ready(const select_case& one) noexcept {
    if (is_channel(one) && !may_be_ready(one)) return false;  // Which is exact under the lock.
    switch (one.what) {
      case select_case::kind::send:
        return channel_of(one).can_send();
      case select_case::kind::recv:
        return channel_of(one).can_recv();
      case select_case::kind::done:
        return node_of(one).peek();
      case select_case::kind::after:
        return one.delay <= clock::duration::zero();
      case select_case::kind::otherwise:
      case select_case::kind::never:
        break;
    }
    return false;
  }

  // Under the channel's lock. False if the case has ceased to be ready.
  static bool communicate(select_case& one, wakeup& due) noexcept {
    if (one.what == select_case::kind::send) {
      const send_status now = channel_of(one).send_now(one.element, due);
      one.closed = now == send_status::closed;
      return now != send_status::full;
    }
    if (one.what == select_case::kind::recv) {
      const recv_status now = channel_of(one).recv_now(one.element, due);
      one.closed = now == recv_status::closed;
      return now != recv_status::empty;
    }
    if (one.what == select_case::kind::done) race_acquire(&node_of(one));
    return true;
  }

  // Nothing is ready: waits until something is. Called with the locks held.
  std::uint32_t wait() noexcept {
    if (lock_count_ == 0 && !can_end_) {
      park_forever(count_ == 0 ? wait_reason::select_none : wait_reason::chan_nil);
    }
    return can_end_ ? wait_for_more() : wait_for_channels();
  }

  // Woken by: whoever claims the ticket, in a send, a receive or a close.
  std::uint32_t wait_for_channels() noexcept {
    ticket several{named_by_park{}};
    race_clock* const left = leave_clock();
    link_all(several, left);
    const auto unlock = [](void* self) noexcept {
      static_cast<select_run*>(self)->unlock_all(nullptr);
    };
    park(several, wait_reason::select, locks_[0].channel, unlock, this);
    unlink_all();
    resume_from(left);
    return winner_of(several);
  }

  // Woken by: the same, or an end or the timer claiming the ticket.
  std::uint32_t wait_for_more() noexcept {
    ticket several;
    race_clock* const left = leave_clock();
    link_all(several, left);
    const void* const on = lock_count_ == 0 ? nullptr : locks_[0].channel;
    unlock_all(nullptr);
    const std::uint32_t joined = join_contexts(several);
    {
      std::optional<timeout_waiter> timeout;
      if (soonest_ != none) timeout.emplace(several, deadline_after(cases_[soonest_].delay));
      park(several, wait_reason::select, on);
      timed_out_ = timeout.has_value() && timeout->won();
    }
    leave_contexts(joined);
    unlink_all();
    resume_from(left);
    return winner_of(several);
  }

  void link_all(ticket& several, race_clock* left) noexcept {
    if (repeats_) shuffle();
    for (std::uint32_t place = 0; place < count_; ++place) {
      const std::uint32_t i = repeats_ ? ready_[place] : place;
      const select_case& one = cases_[i];
      if (!is_channel(one)) continue;
      chan_core& channel = channel_of(one);
      auto* const waits =
          ::new (static_cast<void*>(waiters_ + i)) chan_waiter{several, one.element};
      waits->passed = left;
      (one.what == select_case::kind::send ? channel.senders_ : channel.receivers_)
          .push_back(*waits);
    }
    for (std::uint32_t i = 0; i < lock_count_; ++i) locks_[i].channel->pin();
  }

  // Also from the winner: its waker must have let go of the waiter.
  void unlink_all() noexcept {
    turn& here = sched::this_turn();
    for (std::uint32_t i = 0; i < lock_count_; ++i) {
      chan_core& channel = *locks_[i].channel;
      spin_lock& held = channel.lock_.lock(here);
      chan_core::unlink(waiters_[locks_[i].index]);
      if (repeats_) {
        for (std::uint32_t other = 0; other < count_; ++other) {
          if (is_channel(cases_[other]) && &channel_of(cases_[other]) == &channel) {
            chan_core::unlink(waiters_[other]);
          }
        }
      }
      channel.unlock_unpinned(held);
    }
  }

  // Writes all cases to ready_ in a random order. A partner takes the first in a channel's queue,
  // so that cases of one channel have equal chances only if their waiters queue in such an order.
  void shuffle() noexcept {
    for (std::uint32_t i = 0; i < count_; ++i) {
      const std::uint32_t place = choose_below(i + 1);
      ready_[i] = ready_[place];
      ready_[place] = i;
    }
  }

  // Returns: how many cases have been looked at; those of contexts among them are joined.
  std::uint32_t join_contexts(ticket& several) noexcept {
    for (std::uint32_t i = 0; i < count_; ++i) {
      if (cases_[i].what != select_case::kind::done) continue;
      auto* const waits = ::new (static_cast<void*>(waiters_ + i)) chan_waiter{several, nullptr};
      if (node_of(cases_[i]).add_waiter(*waits)) continue;
      // Ended meanwhile. The caller is not parked, so the claim owes nobody a wake-up.
      wakeup due;
      if (several.claim(waits, due)) {
        due.fire();
        race_acquire(&node_of(cases_[i]));
      }
      return i;
    }
    return count_;
  }

  void leave_contexts(std::uint32_t joined) noexcept {
    for (std::uint32_t i = 0; i < joined; ++i) {
      if (cases_[i].what != select_case::kind::done) continue;
      node_of(cases_[i]).remove_waiter(waiters_[i]);
    }
  }

  std::uint32_t winner_of(const ticket& several) noexcept {
    if (timed_out_) return soonest_;
    const auto* const won =
        static_cast<const chan_waiter*>(static_cast<const waiter*>(several.winner()));
    EXEUNT_ASSERT(won >= waiters_ && won < waiters_ + count_, "a select nobody ended");
    const auto winner = static_cast<std::uint32_t>(won - waiters_);
    select_case& one = cases_[winner];
    if (is_channel(one)) {
      EXEUNT_ASSERT(won->result != chan_waiter::outcome::pending);
      one.closed = won->result == chan_waiter::outcome::closed;
    }
    return winner;
  }

  select_case* const cases_;
  const std::uint32_t count_;
  chan_waiter* const waiters_;
  select_lock* const locks_;
  std::uint32_t* const ready_;
  std::uint32_t channel_cases_ = 0;
  std::uint32_t lock_count_ = 0;
  std::uint32_t otherwise_ = none;
  std::uint32_t soonest_ = none;  // The time-out that can win.
  bool repeats_ = false;          // A channel is in more than one case.
  bool can_end_ = false;          // Something beside channels can.
  bool timed_out_ = false;
};

std::size_t select_among(select_case* cases, std::size_t count,
                         const select_memory& memory) noexcept {
  return select_run{cases, count, memory}.run();
}

namespace {

// Waits for contexts only, of which null ones never end.
std::size_t wait_for_ends(select_case* cases, std::size_t count) noexcept {
  alignas(chan_waiter) std::byte waiters[2 * sizeof(chan_waiter)];
  select_lock locks[2];
  std::uint32_t ready[2];
  return select_among(cases, count, {waiters, locks, ready});
}

select_case end_of(cancel_node* node) noexcept {
  if (node == nullptr) return {};
  return {.what = select_case::kind::done, .source = node};
}

}  // namespace

send_status send_on_nil(cancel_node* cancel) noexcept {
  select_case end = end_of(cancel);
  wait_for_ends(&end, 1);
  return send_status::canceled;
}

recv_status recv_on_nil(cancel_node* cancel) noexcept {
  select_case end = end_of(cancel);
  wait_for_ends(&end, 1);
  return recv_status::canceled;
}

bool wait_for_either(cancel_node& node, cancel_node* cancel) noexcept {
  if (cancel != nullptr && cancel->canceled()) return false;
  select_case ends[2] = {end_of(&node), end_of(cancel)};
  return wait_for_ends(ends, 2) == 0;
}

}  // namespace exeunt::detail
