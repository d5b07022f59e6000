// SPDX-License-Identifier: Apache-2.0
// The way from one fiber to the next, inline: whoever parks or yields has it in its own frame, so
// that as few returns as possible follow a switch (see arch/switch.hpp). worker.cpp explains it.

#pragma once

#include <cstdint>
#include <utility>

#include <exeunt/base/race.hpp>

#include "sched/runtime_core.hpp"
#include "sched/switch_hooks.hpp"
#include "sched/worker.hpp"

namespace exeunt::sched {

// In a section of the queue.
[[gnu::always_inline]] inline fiber* worker::take_queued() noexcept {
  // A pair that keeps handing over to one another gives way after so many turns.
  constexpr std::uint32_t next_turns_max = 64;
  if (queue_.has_next()) {
    fiber* const next = queue_.exchange_next(nullptr);
    return ++next_turns_ <= next_turns_max ? next : give_way(*next);
  }
  next_turns_ = 0;
  return queue_.pop();
}

// A scheduling point. Returns: whether to go on to the next fiber at once, not by the loop.
[[gnu::always_inline]] inline bool worker::takes_turn() noexcept {
  // order: relaxed, both; see call_for().
  const std::uint32_t turn = turns_.load(detail::memory_order_relaxed) + 1;
  turns_.store(turn, detail::memory_order_relaxed);
  return static_cast<std::int32_t>(turn_limit_.load(detail::memory_order_relaxed) - turn) >= 0;
}

// After a fiber was queued. One alone is this worker's own, next in its turn.
[[gnu::always_inline]] inline void worker::share_if_idle() noexcept {
  light_fence();
  if (home_.somebody_idle() && queue_.count() > 1) [[unlikely]]
    home_.wake_one();
}

// The next one to run, at a switch; null: by the loop.
[[gnu::always_inline]] inline fiber* worker::pick() noexcept {
  if (!takes_turn()) [[unlikely]]
    return pick_slowly();
  const run_queue::section inside{queue_};
  return take_queued();
}

// Makes `next` this thread's fiber, but for the exception state.
[[gnu::always_inline]] inline void worker::mark_running(fiber& next) noexcept {
  next.on_stack.store(fiber_seat::taken,
                      detail::memory_order_relaxed);  // order: only leaving counts.
  running_ = &next;
  turn_->operations = 0;
}

// What is owed to whom this thread has just left.
[[gnu::always_inline]] inline void worker::finish_switch() noexcept {
  if (ended_ == nullptr) [[likely]] {
    // order: release, pairs with the acquire of who enters next.
    left_->store(fiber_seat::free, detail::memory_order_release);
  } else {
    bury();
  }
}

EXEUNT_NO_ASAN [[gnu::always_inline]] inline void worker::leave(worker* here, fiber& self,
                                                                fiber* next, bool dies) noexcept {
  if (self.unguarded) [[unlikely]]
    check_unguarded(self);
  detail::race_release(&here->home_);  // Acquired by stop() only.
  arch::eh_save(here->eh_globals_, self.eh);
  if (dies) {
    here->ended_ = &self;
  } else {
    here->left_ = &self.on_stack;
  }
  arch::san_context* target = &here->loop_san_;
  const arch::switch_context* to = &here->loop_;
  // order: acquire, as in run().
  if (next != nullptr && next->on_stack.load(detail::memory_order_acquire) != fiber_seat::free)
      [[unlikely]] {
    next = here->prepare(*next);
  }
  if (here->has_hooks_) [[unlikely]] {  // Those of one that dies have been called.
    if (!dies) run_leave_hooks(self, here->home_.options());
    if (next != nullptr) run_enter_hooks(*next, here->home_.options());
  }
  if (next != nullptr) {
    here->mark_running(*next);
    arch::eh_load(here->eh_globals_, next->eh);
    target = &next->san;
    to = &next->context;
  } else {
    here->running_ = nullptr;
    arch::eh_load(here->eh_globals_, here->loop_eh_);
  }
  arch::san_before_switch(self.san, *target, dies);
  auto* const now = static_cast<worker*>(arch::switch_to(self.context, *to, here));
  arch::san_after_switch(self.san);
  detail::race_acquire(now);
  now->finish_switch();
}

EXEUNT_NO_ASAN [[gnu::always_inline]] inline void worker::park(worker* here) noexcept {
  const detail::scheduler_section scheduling;
  fiber& self = *here->running_;
  fiber* next = nullptr;
  {
    const detail::race_ignore own;
    next = here->pick();
  }
  if (next == &self) {  // Woken meanwhile, and first in the queue.
    here->mark_running(self);
    return;
  }
  leave(here, self, next, false);
}

EXEUNT_NO_ASAN [[gnu::always_inline]] inline void worker::yield(worker* here) noexcept {
  const detail::scheduler_section scheduling;
  fiber& self = *here->running_;
  fiber* next = nullptr;
  {
    const detail::race_ignore own;
    if (!here->takes_turn()) [[unlikely]] {
      here->home_.make_ready_last(self);
      next = here->pick_slowly();
    } else {
      {
        const run_queue::section inside{here->queue_};
        if (!here->queue_.has_next()) [[likely]]
          next = here->queue_.rotate(self);
      }
      if (next != nullptr) [[likely]] {
        here->next_turns_ = 0;
      } else {
        next = here->pick_before(self);
      }
      here->share_if_idle();
    }
  }
  if (next == &self) {
    here->mark_running(self);
    return;
  }
  leave(here, self, next, false);
}

}  // namespace exeunt::sched
