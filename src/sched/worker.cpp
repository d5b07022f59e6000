// SPDX-License-Identifier: Apache-2.0
// A worker: its loop, and the switch from one fiber to the next.
//
// A fiber that parks goes on straight to the next ready one; the loop's own stack is only used
// when there is none at hand, when the worker is called for (attention), and every 61st time, to
// look at timers, descriptors and the shared queue.
//
// A fiber may be woken, and be in some queue, while its thread has not left its stack yet. It is
// the flag on_stack that keeps others out until then: who runs next on the left worker clears it,
// and who is about to enter waits for that. Only a loop waits: were two workers to wait each on
// the stack of the fiber that the other one is to enter, they would wait for ever.
//
// Invariants:
//   I1  running_ is the fiber whose stack this thread is on, or null on the loop's stack.
//   I2  Between mark_running() and the switch nothing may throw, park or call out: the exception
//       state is already the next fiber's.
//   I3  After a switch, only the worker handed over as the message is this thread's; a pointer kept
//       from before may be another thread's worker.
//   I4  on_stack is set from before a thread enters a fiber's stack until after it has left.
//   I5  A worker that waits for an on_stack is on its loop's stack, and its own fiber's is clear.
// Locks: none held across a switch.
// Tests: tests/sched/park_test.cpp, runtime_test.cpp, hazards_test.cpp, starvation_test.cpp;
//   models/park.pml (I4, I5, no wake-up lost).

#include "sched/worker.hpp"

#include <cxxabi.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <exception>
#include <utility>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/sched/boundary.hpp>

#include "arch/fault.hpp"
#include "arch/switch.hpp"
#include "arch/throw_trace.hpp"
#include "sched/current.hpp"
#include "sched/fiber_locals.hpp"
#include "sched/futex.hpp"
#include "sched/reports.hpp"
#include "sched/runtime_core.hpp"
#include "sched/switch_hooks.hpp"
#include "sched/switching.hpp"
#include "sched/thread_mask.hpp"

namespace exeunt::sched {

using detail::memory_order_acquire;
using detail::memory_order_relaxed;
using detail::memory_order_release;

namespace {

// Go's number: prime, so that it does not beat with the program's own rhythm.
constexpr std::uint32_t look_around_every = 61;
// And this long without a look around ends its turn even if nobody is known to be ready.
constexpr clock::duration look_around_after = std::chrono::milliseconds{1};
// While fibers take turns of some nanoseconds, a system call at each look around would be a quarter
// of all time. So late may a ready descriptor be seen by a worker that has other work.
constexpr clock::duration poll_every = std::chrono::microseconds{50};
constexpr std::uint32_t block_cache_max = 256;
// A signal handler and the C library's own frames need this much below the saved pointer.
constexpr std::ptrdiff_t unguarded_margin = 4096;

}  // namespace

worker::worker(runtime_core& home, unsigned index, std::uint64_t seed)
    : home_{home},
      index_{index},
      has_hooks_{!home.options().on_switch.empty()},
      random_{seed},
      attention_{home.seam().chooser != nullptr || home.seam().migrate_always ? attention::seam
                                                                              : 0},
      stacks_{home.stacks()} {}

// --- the loop

void worker::loop() noexcept {
  const detail::scheduler_section scheduling;
  become(this, turn_.get());
  char name[16];
  std::snprintf(name, sizeof name, "exeunt-%u", index_ % 10000);
  ::pthread_setname_np(::pthread_self(), name);
  ::prctl(PR_SET_TIMERSLACK, 1UL);  // The default of 50 µs would be added to every sleep.
  take_mask(home_.mask());
  arch::ensure_alt_stack();
  arch::san_adopt_thread(loop_san_);
  eh_globals_ = arch::eh_globals();
  clockid_t cpu_clock = 0;
  // order: relaxed; the monitor's, which waits for a value.
  if (::pthread_getcpuclockid(::pthread_self(), &cpu_clock) == 0) {
    cpu_clock_.store(cpu_clock, memory_order_relaxed);
  }
  thread_id_.store(::gettid(), memory_order_relaxed);
  last_look_ = home_.now();
  watched_since_ = last_look_;
  turn_->waited = 0;  // Of who had the turn before.
  // Fibers acquire this at each switch: the thread's start, and with it the set-up of its
  // thread-locals (errno), happens before whatever runs on it. No order between fibers follows.
  detail::race_release(this);

  while (fiber* const next = find_ready()) run(*next);

  if (searching_) home_.stop_searching(*this, false);
  cpu_clock_.store(0, memory_order_relaxed);  // order: as above.
  stacks_.flush();
  while (free_blocks_ != nullptr) {
    fiber* const block = free_blocks_;
    free_blocks_ = block->next;
    home_.slabs().put(*block);
  }
  free_count_ = 0;
  arch::release_alt_stack();
  detail::race_acquire(&home_);  // The thread's end destroys thread-locals that fibers made.
  become(nullptr, nullptr);
}

fiber* worker::find_ready() noexcept {
  for (;;) {
    if (home_.stopping()) return nullptr;
    const unsigned called = attention_.load(memory_order_relaxed);  // order: see call_for().
    if ((called & attention::report) != 0 && !home_.report_back(*this)) return nullptr;
    if ((called & attention::bound) != 0) return wait_for_mail();
    fiber* found = std::exchange(candidate_, nullptr);
    if (found == nullptr && static_cast<std::int32_t>(look_at_ - turns()) <= 0) {
      look_at_ = turns() + look_around_every;
      look_around(true);
      if (leaves_entangled()) continue;
      // A chooser is asked about every fiber that is to run.
      if (home_.seam().chooser == nullptr) found = take_in_turn();
    }
    if (found == nullptr) found = take_local();
    if (found == nullptr) found = take_shared(SIZE_MAX);
    if (found == nullptr && look_around(false)) continue;
    if (found == nullptr && (leaves_entangled() || leaves_reluctant())) continue;
    if (found == nullptr && (searching_ || (searching_ = home_.may_search()))) found = search();
    if (found != nullptr) {
      if (searching_) home_.stop_searching(*this, true);
      renew_limit();
      return found;
    }
    queue_.shrink();
    home_.sleep(*this);
    last_look_ = home_.now();
  }
}

void worker::renew_limit() noexcept {
  turn_limit_.store(look_at_, memory_order_relaxed);
  detail::atomic_fence();  // Between the limit and the look; see call_for().
  if (attention_.load(memory_order_relaxed) != 0) turn_limit_.store(turns(), memory_order_relaxed);
}

// A bound worker has nothing to do but for its fiber.
fiber* worker::wait_for_mail() noexcept {
  if (searching_) home_.stop_searching(*this, false);
  for (;;) {
    // order: acquire, before the looks at the stop and the mail, whose senders do the reverse.
    const std::uint32_t mailed = mailed_.load(memory_order_acquire);
    if (home_.stopping()) return nullptr;
    if (fiber* const own = take_mail(mail_for::bound)) return own;
    home_.out_of_service();
    futex_wait(mailed_, mailed);
    home_.back_in_service();
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
  home_.wake_one();
}

// Those who might wait for ever while others are ready: fibers from outside, and the oldest of
// those that wait apart.
fiber* worker::take_in_turn() noexcept {
  {
    const run_queue::section inside{queue_};
    queue_.admit_oldest();
  }
  return take_shared(SIZE_MAX);
}

// A fair share of what no worker owns yet, but no more than `most`; one of them to run at once.
fiber* worker::take_shared(std::size_t most) noexcept {
  const std::size_t share = home_.injected().size() / home_.procs() + 1;
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

bool worker::look_around(bool in_passing) noexcept {
  last_look_ = home_.now();
#ifdef EXEUNT_CORE_MODEL
  // A source's lock may be a preempted fiber's; see model_steps.cpp.
  if (home_.seam().chooser != nullptr) return false;
#endif
  const bool fired = home_.timers().fire_due(last_look_) > 0;
  if (in_passing && (last_look_ - last_poll_ < poll_every || has_backlog())) return fired;
  last_poll_ = last_look_;
  return home_.poll_io(clock::time_point::min()) || fired;
}

// --- what is ready

void worker::push_next(fiber& ready) noexcept {
  ready.prefetch_stack();  // Its turn comes as soon as the caller waits.
  bool full = false;
  fiber* displaced = nullptr;
  {
    const run_queue::section inside{queue_};
    displaced = queue_.exchange_next(&ready);
    if (displaced != nullptr) full = !queue_.push(*displaced);
  }
  if (full) [[unlikely]]
    home_.injected().push(*displaced);
  if (displaced != nullptr) home_.wake_if_idle();
}

void worker::push_last(fiber& ready) noexcept {
  const bool is_fresh = ready.on_stack.load(memory_order_relaxed) == fiber_seat::none;
  bool pushed = false;
  {
    const run_queue::section inside{queue_};
    pushed = is_fresh ? queue_.push_fresh(ready) : queue_.push(ready);
  }
  if (!pushed) [[unlikely]] {
    home_.injected().push(ready);
    home_.wake_one();
    return;
  }
  share_if_idle();
}

// All of it, to whoever may run fibers.
void worker::hand_over_queue() noexcept {
  if (candidate_ != nullptr) home_.injected().push(*std::exchange(candidate_, nullptr));
  home_.return_stray_mail(*this);
  for (;;) {
    fiber* ready = nullptr;
    {
      const run_queue::section inside{queue_};
      ready = queue_.exchange_next(nullptr);
      if (ready == nullptr) ready = queue_.pop();
    }
    if (ready == nullptr) break;
    home_.injected().push(*ready);
  }
  home_.wake_one();
}

void worker::push_mail(fiber& ready) noexcept {
  const detail::spin_guard guard{mail_lock_};
  ready.next = nullptr;
  (mail_last_ == nullptr ? mail_first_ : mail_last_->next) = &ready;
  mail_last_ = &ready;
  has_mail_.store(true, memory_order_relaxed);  // order: relaxed; the sender fences (idle.cpp).
  mailed_.fetch_add(1, memory_order_release);   // order: release, pairs with wait_for_mail().
}

fiber* worker::take_mail(mail_for whom) noexcept {
  if (!has_mail_.load(memory_order_relaxed)) return nullptr;
  const detail::spin_guard guard{mail_lock_};
  fiber* before = nullptr;
  for (fiber** link = &mail_first_; *link != nullptr; link = &before->next) {
    fiber* const letter = *link;
    if (whom == mail_for::anybody || (whom == mail_for::bound) == (letter->bound_to != 0)) {
      *link = std::exchange(letter->next, nullptr);
      if (mail_last_ == letter) mail_last_ = before;
      if (mail_first_ == nullptr) has_mail_.store(false, memory_order_relaxed);
      return letter;
    }
    before = letter;
  }
  return nullptr;
}

fiber* worker::take_local() noexcept {
  if (home_.seam().chooser != nullptr) return take_chosen();
  if (fiber* const mail = take_mail(mail_for::anybody)) return mail;
  const run_queue::section inside{queue_};
  return take_queued();
}

// In a section of the queue: a pair has handed over to one another often enough.
[[gnu::noinline]] fiber* worker::give_way(fiber& next) noexcept {
  if (!queue_.push(next)) return &next;
  next_turns_ = 0;
  return queue_.pop();
}

// Who goes before `self`, which yields, and to the end of the queue; `self` if nobody does.
[[gnu::noinline]] fiber* worker::pick_before(fiber& self) noexcept {
  const run_queue::section inside{queue_};
  fiber* const next = take_queued();
  if (next == nullptr) return &self;
  if (queue_.push(self)) [[likely]]
    return next;
  queue_.exchange_next(next);  // No memory: it goes on a little longer.
  return &self;
}

fiber* worker::pick_slowly() noexcept {
  if (static_cast<std::int32_t>(look_at_ - turns()) <= 0) return nullptr;
  // Simulated and forced schedules, too, switch straight from fiber to fiber.
  if (attention_.load(memory_order_relaxed) != attention::seam) return nullptr;
  fiber* const next = take_local();
  if (next != nullptr) next->last_worker = static_cast<std::uint16_t>(index_);
  return next;
}

// Under simulation: any of the ready ones, as the chooser says. A turn among 1000 takes 1 us, and
// among 10 000, whose line is long to close up, 7 us (explore_bench).
fiber* worker::take_chosen() noexcept {
  detail::fiber_chooser& chooser = *home_.seam().chooser;
  const auto gather = [this] {
    while (fiber* const mail = take_mail(mail_for::anybody)) push_last(*mail);
    queue_rest(home_.injected().pop_list(SIZE_MAX));
  };
  for (;;) {
    gather();
    if (chooser.breaks_off()) {
      if (running_ != nullptr || !chooser.nobody_ready(home_)) return nullptr;
      gather();  // Whom it woke comes last.
    }
    fiber* chosen = nullptr;
    std::uint32_t count = 0;
    {
      // The choice is made in the section, since a thief would change the line; it gives up.
      const run_queue::section inside{queue_};
      count = queue_.line_up();
      if (count > 0) {
        const std::size_t before = chooser.choose(count);
        EXEUNT_ASSERT(before < count);
        chosen = &queue_.take_from_line(static_cast<std::uint32_t>(before));
      }
    }
    if (chosen != nullptr) {
      chooser.runs(*chosen);
      if (count > 1) home_.wake_one();
      return chosen;
    }
    if (running_ != nullptr || !chooser.nobody_ready(home_)) return nullptr;
  }
}

// How many would be asked about, if the running one gave way.
std::size_t worker::count_ready() const noexcept {
  std::size_t count = queue_.count() + home_.injected().size();
  const detail::spin_guard guard{mail_lock_};
  for (const fiber* letter = mail_first_; letter != nullptr; letter = letter->next) ++count;
  return count;
}

bool worker::turn_is_over() noexcept {
  constexpr unsigned urgent = attention::stop | attention::report;
  if (queue_.count() > 0 || has_mail_.load(memory_order_relaxed) || !home_.injected().empty() ||
      (attention_.load(memory_order_relaxed) & urgent) != 0) {
    return true;
  }
  // A fiber that never parks keeps the worker from the clock and from the descriptors.
  const clock::time_point now = home_.now();
  if (now - last_look_ < look_around_after && now < home_.timers().next()) return false;
  look_at_ = turns();  // The switch goes by the loop, which then looks around.
  turn_limit_.store(look_at_, memory_order_relaxed);
  return true;
}

// --- the switch

// False if the system has no memory for a stack.
bool worker::bind_stack(fiber& fresh) noexcept {
  fresh.stack = stacks_.get(std::size_t{fresh.wanted_kib()} * 1024);
  if (!fresh.stack) [[unlikely]]
    return false;
  fresh.context = arch::make_frame(fresh.stack.top(), &worker::fiber_entry, &fresh);
  fresh.unguarded = !fresh.stack.guarded;
  arch::san_bind(fresh.san, fresh.stack.base, fresh.stack.size);
  return true;
}

// From the loop's stack.
EXEUNT_NO_ASAN void worker::run(fiber& next) noexcept {
  constexpr int patience = 100;  // The switch away from it takes some nanoseconds.
  // order: acquire, pairs with the release of who left it: its saved state is visible.
  for (int i = 0; next.on_stack.load(memory_order_acquire) == fiber_seat::taken; ++i) {
    if (i < patience) {
      detail::cpu_relax();
    } else {
      ::sched_yield();
    }
  }
  if (next.on_stack.load(memory_order_relaxed) == fiber_seat::none && !bind_stack(next)) {
    return home_.wait_for_stack(next);
  }
  arch::eh_save(eh_globals_, loop_eh_);
  turns_.store(turns() + 1, memory_order_relaxed);
  next.last_worker = static_cast<std::uint16_t>(index_);
  mark_running(next);
  if (has_hooks_) [[unlikely]]
    run_enter_hooks(next, home_.options());
  arch::eh_load(eh_globals_, next.eh);
  left_ = &loop_seat_;
  arch::san_before_switch(loop_san_, next.san, false);
  arch::switch_to(loop_, next.context, this);
  arch::san_after_switch(loop_san_);
  finish_switch();
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

// Of whom was to be entered at a switch, but is not as others: it has no stack yet, or another
// worker is still on it, for which only the loop may wait (I5); as for a stack, if there is none.
// Returns: the fiber if it can be entered now.
fiber* worker::prepare(fiber& next) noexcept {
  if (next.on_stack.load(memory_order_relaxed) == fiber_seat::none) {
    if (bind_stack(next)) [[likely]]
      return &next;
  }
  candidate_ = &next;
  return nullptr;
}

// A fiber has ended, and its stack was left.
void worker::bury() noexcept {
  const detail::race_ignore own;
  fiber& over = *std::exchange(ended_, nullptr);
  stacks_.put(over.stack);
  retire_block(over);
  home_.stack_came_back();
}

// The block of a fiber that has ended goes back; its stack is somebody else's by now.
void worker::retire_block(fiber& over) noexcept {
  arch::san_destroy(over.san);
  over.stack = {};
  over.san = {};
  over.context = {};
  over.eh = {};
  over.bound_to = 0;
  if (over.has_extras) [[unlikely]] {
    over.name[0] = '\0';
    over.stack_kib = 0;
    over.has_extras = false;
  }
  over.on_stack.store(fiber_seat::none, memory_order_relaxed);  // order: published with the state.
  // order: release; a dump that sees `free` skips the block, see fiber_slabs::for_each().
  over.state.store(fiber_state::free, memory_order_release);
  put_block(over);
  // order: release; whoever counts it counts its start, see alive().
  ended.store(ended.load(memory_order_relaxed) + 1, memory_order_release);
}

// Whether `next` can go on with the stack on which `over` has ended, without a switch: it has not
// run yet, and wants one like it.
bool worker::lend_stack(fiber& over, fiber* next) noexcept {
#if EXEUNT_SAN_ADDRESS || EXEUNT_SAN_THREAD
  static_cast<void>(over);
  static_cast<void>(next);
  return false;  // The tools know one fiber by one stack.
#else
  // A stack that goes from fiber to fiber gives up what deep calls have touched now and then.
  constexpr std::uint32_t lends_per_trim = 1024;
  if (next == nullptr || next->on_stack.load(memory_order_relaxed) != fiber_seat::none ||
      next->wanted_kib() != over.wanted_kib() || has_hooks_ || ++lends_ % lends_per_trim == 0) {
    return false;
  }
  next->stack = over.stack;
  next->unguarded = over.unguarded;
  retire_block(over);
  mark_running(*next);
  return true;
#endif
}

namespace {

// As detail::call_caught(), but with all of it in the frame at the bottom of the stack, which lies
// with the first of the body's own in one or two lines of the cache.
inline void call_body(fiber& self) noexcept {
  arch::throw_trace trace;
  try {
    arch::call_tracing([](void* body) { (*static_cast<unique_function<void()>*>(body))(); },
                       &self.body, &trace);
  } catch (const abi::__forced_unwind&) {
    std::terminate();  // Somebody has cancelled the worker's thread.
  } catch (...) {
    detail::report_panic(error_of_catch(trace));
  }
}

inline void run_body(fiber& self) noexcept {
  const detail::fiber_section running;
  detail::race_acquire(&self);  // What came before go() is visible here.
  call_body(self);
  self.body = nullptr;
  if (self.has_extras) [[unlikely]] {
    if (self.locals != nullptr) destroy_locals(self);
    if (self.held != nullptr) drop_held(self.held);
  }
#if EXEUNT_TSAN
  // The driver of a simulation goes on when all have ended.
  if (self.home->seam().chooser != nullptr) detail::race_release(self.home);
#endif
}

}  // namespace

EXEUNT_NO_ASAN void worker::fiber_entry(void* block, void* message) {
  auto* self = static_cast<fiber*>(block);
  arch::san_after_switch(self->san);
  detail::race_acquire(message);  // The worker; see loop().
  static_cast<worker*>(message)->finish_switch();
  for (;;) {
    run_body(*self);
    worker* const here = this_worker();
    if (here == nullptr) refuse_in_child("returns from the fiber that forked it");
    while (self->bound_to != 0) [[unlikely]]
      here->home_.unbind(*self);  // A scope that leaked.
    fiber* next = nullptr;
    {
      const detail::race_ignore own;
      next = here->pick();
    }
    if (here->lend_stack(*self, next)) {
      self = next;
      continue;
    }
    leave(here, *self, next, true);
    EXEUNT_UNREACHABLE("a fiber that had ended was run again");
  }
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
