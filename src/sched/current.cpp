// SPDX-License-Identifier: Apache-2.0
// The thread-local state's one definition. Compilers take the address of a thread-local for a
// constant of the function; the empty asm makes each call look as if it could answer anew. What is
// read most is read in line, by base/thread_word.hpp.
// Tests: tests/sched/hazards_test.cpp, thread_local_test.cpp, fiber_local_test.cpp.

#include "sched/current.hpp"

#include <cxxabi.h>
#include <pthread.h>
#include <csignal>
#include <cstdio>
#include <new>

#include <exeunt/base/assert.hpp>

#include "sched/fiber_locals.hpp"
#include "sched/worker.hpp"

namespace exeunt::detail {
// `used`, since only assembly reads it, which the compiler does not look into; as the two below.
extern "C" {
[[gnu::used]] constinit thread_local turn* exeunt_this_turn = nullptr;
}
}  // namespace exeunt::detail

namespace exeunt::sched {

namespace {
thread_local thread_state state;
}  // namespace

detail::atomic<bool> forked{false};

thread_state& this_thread() noexcept {
  thread_state* here = &state;
  asm volatile("" : "+r"(here) : : "memory");
  return *here;
}

extern "C" {
[[gnu::used]] constinit thread_local worker* exeunt_this_worker = nullptr;
[[gnu::used]] constinit thread_local detail::snapshot_slot* exeunt_this_slot = nullptr;
}

[[gnu::noinline]] void become(worker* here, detail::turn* turn) noexcept {
  exeunt_this_worker = here;
  detail::exeunt_this_turn = turn;
}

[[gnu::noinline]] void keep_slot(detail::snapshot_slot* slot, void (*end)(void* slot) noexcept) {
  // The last argument tells which library must stay; this one stays anyway.
  if (slot != nullptr && abi::__cxa_thread_atexit(end, slot, &forked) != 0) throw std::bad_alloc{};
  exeunt_this_slot = slot;
}

void watch_forks() {
  [[maybe_unused]] static const int once = ::pthread_atfork(nullptr, nullptr, [] {
    const thread_state& here = this_thread();
    become(nullptr, nullptr);
    if (here.hides_broken_pipes) {
      sigset_t broken_pipe;
      sigemptyset(&broken_pipe);
      sigaddset(&broken_pipe, SIGPIPE);
      ::pthread_sigmask(SIG_UNBLOCK, &broken_pipe, nullptr);
    }
    forked.store(true, detail::memory_order_relaxed);  // order: see forked_without_exec().
  });
}

void refuse_in_child(const char* asks) noexcept {
  char text[160];
  std::snprintf(text, sizeof text, "a forked child %s; only exec is allowed after fork", asks);
  detail::fatal(text);
}

fiber* this_fiber_block() noexcept {
  const worker* const here = this_worker();
  return here == nullptr ? nullptr : here->running();
}

// For inlining here only, where the address has just been asked for.
static fiber_locals*& locals_at(thread_state& here) noexcept {
  const worker* const mine = this_worker();
  fiber* const running = mine == nullptr ? nullptr : mine->running();
  return running == nullptr ? here.locals : running->locals;
}

fiber_locals*& locals_of_caller() noexcept {
  thread_state* here = &state;
  asm volatile("" : "+r"(here) : : "memory");
  if (fiber* const running = this_fiber_block()) running->has_extras = true;
  return locals_at(*here);
}

held_locks*& held_of_caller() noexcept {
  thread_state* here = &state;
  asm volatile("" : "+r"(here) : : "memory");
  fiber* const running = this_fiber_block();
  if (running == nullptr) return here->held;
  running->has_extras = true;
  return running->held;
}

}  // namespace exeunt::sched

namespace exeunt::detail {

// Here, and not inlined either, since it is one call then for each use of a variable.
[[gnu::noinline]] local_value* local_key::find() const noexcept {
  sched::thread_state* here = &sched::state;
  asm volatile("" : "+r"(here) : : "memory");
  const sched::fiber_locals* const table = sched::locals_at(*here);
  // order: relaxed; nothing is reached by it but the caller's own table.
  return table == nullptr ? nullptr : table->find(word_.load(memory_order_relaxed));
}

turn& this_turn() noexcept {
  turn* here = exeunt_this_turn;
  if (here == nullptr) [[unlikely]]
    here = &sched::state.own_turn;
  asm volatile("" : "+r"(here) : : "memory");
  return *here;
}

}  // namespace exeunt::detail
