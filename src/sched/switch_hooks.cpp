// SPDX-License-Identifier: Apache-2.0
// Switch hooks: state of other libraries' thread-locals, kept by each fiber while it does not run.
//
// Invariants:
//   I1  A fiber's calls are: start, then enter and leave in turn, then end; no two at a time. What
//       one of them wrote the next one sees, whatever thread it is on: they are part of the switch.
//   I2  Between a leave and the next enter on a thread, the thread's state is nobody's.
//   I3  The enter hooks are called in order, the others' order is the reverse.
// A hook that waits comes back here by the switch that it asks for, and is fatal.
// Tests: tests/sched/switch_hooks_test.cpp.

#include "sched/switch_hooks.hpp"

#include <cstddef>
#include <utility>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/race.hpp>

#include "sched/current.hpp"
#include "sched/fiber.hpp"
#include "sched/runtime_core.hpp"

namespace exeunt::sched {

namespace {

std::size_t room_for(const switch_hook& hook) noexcept {
  constexpr std::size_t unit = alignof(std::max_align_t);
  return (hook.state_bytes + unit - 1) / unit * unit;
}

// Fibers share the thread's state, in turn; ThreadSanitizer knows of no order between them.
class [[nodiscard]] inside_hook {
 public:
  inside_hook() noexcept {
    if (std::exchange(here_.in_hook, true)) detail::fatal("a switch hook made a call that waits");
  }
  ~inside_hook() { here_.in_hook = false; }
  inside_hook(const inside_hook&) = delete;
  inside_hook& operator=(const inside_hook&) = delete;

 private:
  thread_state& here_ = this_thread();  // A hook stays on its thread.
  const detail::race_ignore own_;
};

using hook_function = void (*switch_hook::*)(void*) noexcept;

void call_in_order(fiber_locals& of, const runtime_options& options, hook_function which) noexcept {
  std::byte* state = of.hook_state();
  for (const switch_hook& hook : options.on_switch) {
    if (hook.*which != nullptr) (hook.*which)(state);
    state += room_for(hook);
  }
}

void call_in_reverse(fiber_locals& of, const runtime_options& options,
                     hook_function which) noexcept {
  std::byte* state = of.hook_state();
  for (const switch_hook& hook : options.on_switch) state += room_for(hook);
  for (auto hook = options.on_switch.rbegin(); hook != options.on_switch.rend(); ++hook) {
    state -= room_for(*hook);
    if ((*hook).*which != nullptr) ((*hook).*which)(state);
  }
}

}  // namespace

fiber_locals_ptr start_hooks(const runtime_options& options) {
  if (options.on_switch.empty()) return nullptr;
  std::size_t bytes = 0;
  for (const switch_hook& hook : options.on_switch) bytes += room_for(hook);
  fiber_locals_ptr made{fiber_locals::make(bytes)};
  made->has_hook_state = true;  // Though it may be of no bytes.
  const inside_hook guard;
  call_in_order(*made, options, &switch_hook::start);
  return made;
}

void run_enter_hooks(fiber& next, const runtime_options& options) noexcept {
  const inside_hook guard;
  call_in_order(*next.locals, options, &switch_hook::enter);
}

void run_leave_hooks(fiber& self, const runtime_options& options) noexcept {
  const inside_hook guard;
  call_in_reverse(*self.locals, options, &switch_hook::leave);
}

void end_hooks(fiber& self) noexcept {
  run_leave_hooks(self, self.home->options());
  const inside_hook guard;
  call_in_reverse(*self.locals, self.home->options(), &switch_hook::end);
}

void drop_hooks(fiber& never_run) noexcept {
  {
    const inside_hook guard;
    call_in_reverse(*never_run.locals, never_run.home->options(), &switch_hook::end);
  }
  fiber_locals::free(std::exchange(never_run.locals, nullptr));
}

}  // namespace exeunt::sched
