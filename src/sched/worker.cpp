// SPDX-License-Identifier: Apache-2.0
// A worker: its loop, and the switch from one fiber to the next.
//
// A fiber that parks goes on straight to the next ready one; the loop's own stack is only used
// when there is none at hand, and every 61st time, to look at timers, descriptors and the shared
// queue. What must happen to a fiber after it was left (releasing the lock that makes its waiter
// visible, queueing it again, freeing it) is done by whatever runs next, see finish_switch().
//
// Invariants:
//   I1  running_ is the fiber whose stack this thread is on, or null on the loop's stack.
//   I2  Between enter() and the switch nothing may throw, park or call out: the exception state
//       is already the next fiber's.
//   I3  After a switch, only the worker handed over as the message is this thread's; a pointer kept
//       from before may be another thread's worker.
//   I4  A fiber that others can see as parked is on no thread's stack.
// Locks: none held across a switch, but those that park() is to release.
// Tests: tests/sched/park_test.cpp, runtime_test.cpp, hazards_test.cpp, starvation_test.cpp.

#include "sched/worker.hpp"

#include <pthread.h>
#include <sys/prctl.h>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <utility>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/sched/boundary.hpp>

#include "arch/fault.hpp"
#include "arch/switch.hpp"
#include "sched/current.hpp"
#include "sched/runtime_core.hpp"
#include "sched/thread_mask.hpp"

namespace exeunt::sched {

using detail::memory_order_acquire;
using detail::memory_order_relaxed;
using detail::memory_order_release;

namespace {

// Go's number: prime, so that it does not beat with the program's own rhythm.
constexpr std::uint32_t look_around_every = 61;
// A pair that keeps handing over to one another gives way after so many turns.
constexpr std::uint32_t next_turns_max = 64;
// As tokio's budget: operations that succeed without parking before a fiber gives way.
constexpr std::uint32_t operations_max = 128;
// And this long without a look around ends its turn even if nobody is known to be ready.
constexpr clock::duration look_around_after = std::chrono::milliseconds{1};
constexpr std::uint32_t block_cache_max = 256;
// A signal handler and the C library's own frames need this much below the saved pointer.
constexpr std::ptrdiff_t unguarded_margin = 4096;

}  // namespace

worker::worker(runtime_core& home, unsigned index, unsigned procs, std::uint64_t seed)
    : home_{home},
      index_{index},
      alone_{procs == 1},
      is_plain_{home.seam().chooser == nullptr && !home.seam().migrate_always},
      random_{seed},
      stacks_{home.stacks()} {}

// --- the loop

void worker::loop() noexcept {
  this_thread().of_worker = this;
  char name[16];
  std::snprintf(name, sizeof name, "exeunt-%u", index_ % 10000);
  ::pthread_setname_np(::pthread_self(), name);
  ::prctl(PR_SET_TIMERSLACK, 1UL);  // The default of 50 µs would be added to every sleep.
  take_mask(home_.mask());
  arch::ensure_alt_stack();
  arch::san_adopt_thread(loop_san_);
  eh_globals_ = arch::eh_globals();
  last_look_ = home_.now();
  // Fibers acquire this at each switch: the thread's start, and with it the set-up of its
  // thread-locals (errno), happens before whatever runs on it. No order between fibers follows.
  detail::race_release(this);

  while (fiber* const next = find_ready()) run(*next);

  if (searching_) home_.stop_searching(*this, false);
  stacks_.flush();
  while (free_blocks_ != nullptr) {
    fiber* const block = free_blocks_;
    free_blocks_ = block->next;
    home_.slabs().put(*block);
  }
  arch::release_alt_stack();
  detail::race_acquire(&home_);  // The thread's end destroys thread-locals that fibers made.
  this_thread().of_worker = nullptr;
}

fiber* worker::find_ready() noexcept {
  for (;;) {
    if (home_.stopping()) return nullptr;
    fiber* found = nullptr;
    if (until_look_ == 0) {
      until_look_ = look_around_every;
      look_around(!has_backlog());
      // A chooser is asked about every fiber that is to run.
      if (home_.seam().chooser == nullptr) found = take_shared(queue_.room() / 2 + 1);
    }
    if (found == nullptr) found = take_local();
    if (found == nullptr) found = take_shared(run_queue::capacity / 2);
    if (found == nullptr && look_around(true)) continue;
    if (found == nullptr && (searching_ || (searching_ = home_.may_search()))) found = search();
    if (found != nullptr) {
      if (searching_) home_.stop_searching(*this, true);
      return found;
    }
    home_.sleep(*this);
    last_look_ = home_.now();
  }
}

// What was taken out of the shared queue and is not run at once. While it was in nobody's queue
// another worker may have looked at all of them and fallen asleep, so it is told of.
void worker::queue_rest(fiber* rest) noexcept {
  if (rest == nullptr) return;
  while (rest != nullptr) {
    fiber* const after = rest->next;
    push_last(*rest);
    rest = after;
  }
  if (!home_.single_worker()) home_.wake_one();
}

// A fair share of what no worker owns yet, but no more than `most`; one of them to run at once.
fiber* worker::take_shared(std::size_t most) noexcept {
  const std::size_t share = home_.injected().size() / home_.worker_count() + 1;
  fiber* const first = home_.injected().pop_list(std::min(share, most));
  if (first != nullptr) queue_rest(std::exchange(first->next, nullptr));
  return first;
}

// Ready descriptors wait in the kernel in the order in which they became ready. Taken sooner than
// they can be served, they would overflow the queue, whose older half then waits behind all that
// comes later: with 1000 busy connections the slowest of a hundred requests took 280 ms, not 17.
bool worker::has_backlog() noexcept {
  constexpr std::uint32_t looks_max = 8;  // But no longer than this, whatever else is ready.
  if (queue_.size() <= look_around_every || ++looks_without_poll_ == looks_max) {
    looks_without_poll_ = 0;
    return false;
  }
  return true;
}

bool worker::look_around(bool at_descriptors) noexcept {
  last_look_ = home_.now();
  const bool fired = home_.timers().fire_due(last_look_) > 0;
  return (at_descriptors && home_.poll_io(clock::time_point::min())) || fired;
}

fiber* worker::search() noexcept {
  constexpr int rounds = 4;  // As Go; each is a look at everybody's queue.
  for (int round = 0; round < rounds; ++round) {
    if (fiber* const stolen = home_.steal(*this, round == rounds - 1)) {
      steals.store(steals.load(memory_order_relaxed) + 1, memory_order_relaxed);
      return stolen;
    }
    if (!home_.injected().empty()) return home_.injected().pop_list(1);
  }
  return nullptr;
}

fiber* worker::steal_from(worker& victim, bool also_next) noexcept {
  if (fiber* const stolen = victim.queue_.steal_into(queue_)) return stolen;
  if (!also_next) return nullptr;
  fiber* candidate = victim.next_.load(memory_order_acquire);
  if (candidate == nullptr) return nullptr;
  // What was just made ready is most likely run by its waker's worker at once. Only a worker that
  // stays with one fiber for some microseconds loses it.
  if (!victim.stays()) return nullptr;
  if (!victim.next_.compare_exchange_strong(candidate, nullptr, detail::memory_order_acq_rel,
                                            memory_order_relaxed)) {
    return nullptr;
  }
  return candidate;
}

bool worker::stays() const noexcept {
  const std::uint32_t turn = turns_.load(memory_order_relaxed);
  constexpr int pauses = 100;
  for (int i = 0; i < pauses; ++i) detail::cpu_relax();
  return turns_.load(memory_order_relaxed) == turn;
}

bool worker::next_is_stuck() const noexcept {
  constexpr int looks = 4;  // A pair that hands over has somebody there half of the time.
  for (int i = 0; i < looks; ++i) {
    if (next_.load(memory_order_relaxed) == nullptr) return false;  // order: the caller fenced.
    if (stays()) return true;
  }
  return true;  // Who knows. To search once more is no harm.
}

// --- what is ready

fiber* worker::swap_next(fiber* with) noexcept {
  if (alone_) {
    fiber* const old = next_.load(memory_order_relaxed);  // order: nobody else looks.
    next_.store(with, memory_order_relaxed);
    return old;
  }
  // order: acq_rel; a thief may take the old one, or see the new one's saved stack.
  return next_.exchange(with, detail::memory_order_acq_rel);
}

void worker::push_next(fiber& ready) noexcept {
  if (fiber* const displaced = swap_next(&ready)) push_last(*displaced);
}

void worker::push_last(fiber& ready) noexcept {
  while (!queue_.push(ready)) [[unlikely]]
    make_room();
}

void worker::make_room() noexcept {
  fiber* first = nullptr;
  fiber* last = nullptr;
  const std::uint32_t count = queue_.take_half(first, last);
  if (count > 0) home_.injected().push_list(first, last, count);
}

void worker::push_yielded(fiber& ready) noexcept {
  if (!is_plain_) return home_.make_ready_last(ready);
  push_last(ready);
  if (!alone_) home_.wake_one();
}

void worker::push_mail(fiber& ready) noexcept {
  const detail::spin_guard guard{mail_lock_};
  ready.next = nullptr;
  (mail_last_ == nullptr ? mail_first_ : mail_last_->next) = &ready;
  mail_last_ = &ready;
  has_mail_.store(true, memory_order_relaxed);  // order: relaxed; the sender fences (idle.cpp).
}

fiber* worker::take_mail() noexcept {
  if (!has_mail_.load(memory_order_relaxed)) return nullptr;
  const detail::spin_guard guard{mail_lock_};
  fiber* const first = mail_first_;
  if (first == nullptr) return nullptr;
  mail_first_ = std::exchange(first->next, nullptr);
  if (mail_first_ == nullptr) {
    mail_last_ = nullptr;
    has_mail_.store(false, memory_order_relaxed);
  }
  return first;
}

fiber* worker::take_local() noexcept {
  if (until_look_ > 0) --until_look_;
  if (!is_plain_) [[unlikely]] {
    if (home_.seam().chooser != nullptr) return take_chosen();
    if (fiber* const mail = take_mail()) return mail;
  }
  if (next_.load(memory_order_relaxed) != nullptr) {
    fiber* const next = swap_next(nullptr);
    if (next != nullptr && ++next_turns_ <= next_turns_max) return next;
    if (next != nullptr) push_last(*next);
  }
  next_turns_ = 0;
  return alone_ ? queue_.pop_alone() : queue_.pop();
}

// Under simulation: any of the ready ones, as the chooser says.
fiber* worker::take_chosen() noexcept {
  fiber* list = nullptr;
  std::size_t count = 0;
  const auto collect = [&](fiber* ready) {
    for (; ready != nullptr; ++count) {
      fiber* const after = ready->next;
      ready->next = list;
      list = ready;
      ready = after;
    }
  };
  while (fiber* const mail = take_mail()) collect(mail);
  if (fiber* const next = swap_next(nullptr)) {
    next->next = nullptr;
    collect(next);
  }
  while (fiber* const queued = queue_.pop()) {
    queued->next = nullptr;
    collect(queued);
  }
  collect(home_.injected().pop_list(SIZE_MAX));
  if (count == 0) return nullptr;
  std::size_t index = home_.seam().chooser->choose(count);
  EXEUNT_ASSERT(index < count);
  fiber* chosen = nullptr;
  for (fiber** link = &list;; link = &(*link)->next) {
    if (index-- > 0) continue;
    chosen = std::exchange(*link, (*link)->next);
    chosen->next = nullptr;
    break;
  }
  queue_rest(list);
  return chosen;
}

bool worker::turn_is_over() noexcept {
  if (++operations_ < operations_max) return false;
  operations_ = 0;
  if (!queue_.empty() || next_.load(memory_order_relaxed) != nullptr ||
      has_mail_.load(memory_order_relaxed) || !home_.injected().empty() || home_.stopping()) {
    return true;
  }
  // A fiber that never parks keeps the worker from the clock and from the descriptors.
  const clock::time_point now = home_.now();
  if (now - last_look_ < look_around_after && now < home_.timers().next()) return false;
  until_look_ = 0;  // The switch goes by the loop, which then looks around.
  return true;
}

// --- the switch

// Makes `next` this thread's fiber, up to the switch itself (I2).
void* worker::enter(fiber& next) noexcept {
  if (next.sp == nullptr) bind_stack(next);
  // order: relaxed; dumps only.
  next.state.store(fiber_state::running, memory_order_relaxed);
  next.last_worker = static_cast<std::uint16_t>(index_);
  running_ = &next;
  operations_ = 0;
  turns_.store(turns_.load(memory_order_relaxed) + 1, memory_order_relaxed);
  arch::eh_load(eh_globals_, next.eh);
  return next.sp;
}

void worker::bind_stack(fiber& fresh) noexcept {
  fresh.stack = stacks_.get(std::size_t{fresh.stack_kib} * 1024);
  if (!fresh.stack) {
    detail::fatal(
        "no address space left for another fiber's stack; see `ulimit -v` and "
        "vm.overcommit_memory, or start fewer fibers");
  }
  fresh.sp = arch::make_frame(fresh.stack.top(), &worker::fiber_entry, &fresh);
  fresh.san.bottom = fresh.stack.base;
  fresh.san.size = fresh.stack.size;
}

void worker::finish_switch() noexcept {
  const detail::race_ignore own;
  const after_switch* const after = std::exchange(after_, nullptr);
  if (after != nullptr) after->act(*this, *left_, *after);
}

// From the loop's stack.
void worker::run(fiber& next) noexcept {
  arch::eh_save(eh_globals_, loop_eh_);
  void* const to = enter(next);
  arch::san_before_switch(loop_san_, next.san, false);
  exeunt_switch(&loop_sp_, to, this);
  arch::san_after_switch(loop_san_);
  finish_switch();
}

void worker::leave(worker* here, const after_switch& act) noexcept {
  fiber& self = *here->running_;
  if (!self.stack.guarded) check_unguarded(self);
  detail::race_release(&here->home_);  // Acquired by stop() only.
  here->after_ = &act;
  here->left_ = &self;
  arch::eh_save(here->eh_globals_, self.eh);
  arch::san_context* target = nullptr;
  void* to = nullptr;
  {
    const detail::race_ignore own;
    to = here->choose_target(target);
  }
  arch::san_before_switch(self.san, *target, false);
  auto* const now = static_cast<worker*>(exeunt_switch(&self.sp, to, here));
  arch::san_after_switch(self.san);
  detail::race_acquire(now);
  now->finish_switch();
}

void worker::leave_for_good(worker* here, const after_switch& act) noexcept {
  fiber& self = *here->running_;
  detail::race_release(&here->home_);
  here->after_ = &act;
  here->left_ = &self;
  arch::san_context* target = nullptr;
  void* to = nullptr;
  {
    const detail::race_ignore own;
    to = here->choose_target(target);
  }
  arch::san_before_switch(self.san, *target, true);
  exeunt_switch(&self.sp, to, here);
  EXEUNT_UNREACHABLE("a fiber that had ended was run again");
}

void* worker::choose_target(arch::san_context*& target) noexcept {
  fiber* next = nullptr;
  if (!home_.stopping() && until_look_ != 0) next = take_local();
  if (next != nullptr) {
    target = &next->san;
    return enter(*next);
  }
  running_ = nullptr;
  target = &loop_san_;
  arch::eh_load(eh_globals_, loop_eh_);
  return loop_sp_;
}

void worker::check_unguarded(const fiber& self) noexcept {
  const char here = 0;
  if (&here - static_cast<const char*>(self.stack.base) < unguarded_margin) {
    detail::fatal(
        "stack overflow in a fiber without a guard page (vm.max_map_count is too small "
        "for guards); start it with a larger stack_size");
  }
}

// --- a fiber's life

void worker::fiber_entry(void* block, void* message) {
  fiber& self = *static_cast<fiber*>(block);
  arch::san_after_switch(self.san);
  detail::race_acquire(message);  // The worker; see loop().
  static_cast<worker*>(message)->finish_switch();
  detail::race_acquire(&self);  // What came before go() is visible here.

  if (const auto failure = detail::call_caught(self.body)) detail::report_panic(*failure);
  self.body = nullptr;

  worker* const runs_here = this_worker();
  if (runs_here == nullptr) refuse_in_child("returns from the fiber that forked it");
  leave_for_good(runs_here, {.act = [](worker& here, fiber& ended, const after_switch&) noexcept {
                   here.stacks_.put(ended.stack);
                   arch::san_destroy(ended.san);
                   ended.stack = {};
                   ended.san = {};
                   ended.sp = nullptr;
                   ended.eh = {};
                   // order: release; a dump that sees `free` skips the block, see
                   // fiber_slabs::for_each().
                   ended.state.store(fiber_state::free, memory_order_release);
                   here.put_block(ended);
                   // order: release; whoever counts it counts its start, see alive().
                   here.ended.store(here.ended.load(memory_order_relaxed) + 1,
                                    memory_order_release);
                 }});
}

std::uint64_t worker::take_id() noexcept {
  constexpr std::uint64_t block = 64;
  if (next_id_ == ids_end_) {
    next_id_ = runtime_core::take_ids(block);
    ids_end_ = next_id_ + block;
  }
  return next_id_++;
}

fiber* worker::get_block() {
  if (free_blocks_ == nullptr) {
    free_blocks_ = home_.slabs().get_list(block_cache_max / 2);
    for (const fiber* block = free_blocks_; block != nullptr; block = block->next) ++free_count_;
  }
  fiber* const block = free_blocks_;
  free_blocks_ = std::exchange(block->next, nullptr);
  --free_count_;
  return block;
}

void worker::put_block(fiber& block) noexcept {
  block.next = free_blocks_;
  free_blocks_ = &block;
  if (++free_count_ < block_cache_max) return;
  fiber* last = free_blocks_;
  for (std::uint32_t i = 1; i < block_cache_max / 2; ++i) last = last->next;
  fiber* const first = std::exchange(free_blocks_, last->next);
  home_.slabs().put_list(first, last);
  free_count_ -= block_cache_max / 2;
}

}  // namespace exeunt::sched
