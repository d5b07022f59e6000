// SPDX-License-Identifier: Apache-2.0
// Which threads run fibers: as many as procs at a time, not counting those whose fiber does not
// come back.
//
//   vacant --fill_places()--> active <--report_back()-- stuck <--give_up_on()-- active
//   retired --fill_places()--> active        stuck, active --report_back()--> retired
//   retired --report_back()--> leaving --> vacant
//   active, stuck --bind()--> bound --unbind()--> stuck
//
// Everything that a stuck worker has is within others' reach at any time: its queue can be stolen
// from, timers and descriptors belong to the runtime. So to fill its place is only to have one
// more thread that looks for work. When the stuck fiber comes to a scheduling point its worker
// reports back: if there is a place it is active again, else it hands over what is in its queue
// and retires; a retired worker's thread ends after a while.
//
// Places are filled only when no active worker is idle: an idle one takes over what waits.
//
// Invariants, whenever idle_lock_ is free:
//   I1  active_ is the number of active workers; but for a change of procs not yet carried out,
//       active_ <= procs_.
//   I2  in_service_ is the number of workers that are active or stuck, or bound with work.
//   I3  A retired, leaving or vacant worker is in no list of idle ones.
//   I4  Only the monitor's thread starts threads, once the runtime has begun.
// Wake-ups: a retired worker by fill_places() and stop(); a bound one by mail and stop().
// Tests: tests/sched/monitor_test.cpp, lock_os_thread_test.cpp, staffing_test.cpp;
//        models/monitor.pml.

#include <exeunt/sched/os_thread.hpp>

#include <sched.h>
#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/log.hpp>
#include <exeunt/base/race.hpp>

#include "sched/cpu_limit.hpp"
#include "sched/current.hpp"
#include "sched/futex.hpp"
#include "sched/runtime_core.hpp"

namespace exeunt::sched {

using detail::memory_order_acq_rel;
using detail::memory_order_relaxed;
using detail::memory_order_release;
using detail::memory_order_seq_cst;

namespace {
// A spare thread is kept for so long: to start one takes 33 µs.
constexpr clock::duration spare_kept = std::chrono::milliseconds{500};
}  // namespace

void runtime_core::start_thread(worker& w) {
  detail::race_acquire(&threads_);
  threads_.fetch_add(1, memory_order_relaxed);
  try {
    std::thread started{[&w] {
      w.loop();
      runtime_core& home = w.home();
      if (w.standing_.load(memory_order_relaxed) == standing::leaving) {
        const detail::spin_guard guard{home.idle_lock_};
        w.standing_.store(standing::vacant, memory_order_relaxed);
      }
      detail::race_release(&home.threads_);  // Acquired by stop(), and by who takes its place.
      // order: release, pairs with stop(), which may return at once: then only the address is left.
      home.threads_.fetch_sub(1, memory_order_release);
      futex_wake(home.threads_, INT32_MAX);
    }};
    const detail::spin_guard guard{idle_lock_};
    w.thread_ = std::move(started);
  } catch (...) {
    threads_.fetch_sub(1, memory_order_relaxed);
    throw;
  }
}

// Under idle_lock_, or before there are threads.
void runtime_core::put_in_place(worker& w) noexcept {
  w.standing_.store(standing::active, memory_order_relaxed);
  ++active_;
  in_service_.fetch_add(1, memory_order_seq_cst);
}

void runtime_core::give_up_on(worker& w, std::uint32_t turns) noexcept {
  {
    const detail::spin_guard guard{idle_lock_};
    if (!w.is_busy() || w.turns() != turns) return;
    w.standing_.store(standing::stuck, memory_order_relaxed);
    --active_;
    w.call_for(attention::report);
  }
  return_stray_mail(w);
}

void runtime_core::share_queue_of(worker& w) noexcept {
  std::array<fiber*, run_queue::theft_max> taken;
  bool any = false;
  while (const std::uint32_t count = w.queue_.steal(taken)) {
    for (std::uint32_t i = 0; i < count; ++i) injected_.push(*taken[i]);
    any = true;
  }
  if (any) wake_one();
}

// Under forced migration. Who mails looks at the standing afterwards, and who changes the standing
// at the mail: of the two at least one sees the other. Goes to who has not run the fiber last, so
// that it migrates all the same.
void runtime_core::return_stray_mail(worker& w) noexcept {
  detail::atomic_fence();
  while (fiber* const stray = w.take_mail(worker::mail_for::strays)) {
    worker* heir = nullptr;
    for (worker& other : workers_) {
      if (&other == &w || other.index() == stray->last_worker) continue;
      if (other.standing_.load(memory_order_relaxed) != standing::active) continue;
      if (heir == nullptr || other.idle_.load(memory_order_relaxed)) heir = &other;
    }
    if (heir == nullptr) {
      injected_.push(*stray);
      wake_one();
      continue;
    }
    heir->push_mail(*stray);
    wake_worker(*heir);
    if (heir->standing_.load(memory_order_relaxed) != standing::active) return_stray_mail(*heir);
  }
}

void runtime_core::fill_places() noexcept {
  for (;;) {
    worker* starts = nullptr;
    {
      const detail::spin_guard guard{idle_lock_};
      if (stopping() || active_ >= procs() || idle_count_.load(memory_order_relaxed) != 0) {
        return;
      }
      worker* retired = nullptr;
      for (worker& w : workers_) {
        const standing now = w.standing_.load(memory_order_relaxed);
        if (now == standing::retired) retired = &w;
        if (now == standing::vacant) starts = &w;
      }
      if (retired != nullptr) {
        put_in_place(*retired);
        retired->woken_.store(1, memory_order_release);
        futex_wake(retired->woken_, 1);
        continue;
      }
      if (starts != nullptr) put_in_place(*starts);
    }
    const detail::race_ignore own;
    try {
      if (starts == nullptr) {  // Made without the lock: by then the stuck one may be back.
        const std::uint32_t index = workers_.size();
        if (index == worker_list::capacity) return;
        workers_.add(std::make_unique<worker>(*this, index, seed_of(index)));
        continue;
      }
      start_thread(*starts);
      short_of_threads_ = false;
    } catch (const std::exception& refused) {
      if (starts != nullptr) {
        const detail::spin_guard guard{idle_lock_};
        starts->standing_.store(standing::vacant, memory_order_relaxed);
        --active_;
        in_service_.fetch_sub(1, memory_order_seq_cst);
      }
      if (std::exchange(short_of_threads_, true)) return;  // Said once, tried at each tick.
      log_line(std::string{"exeunt: fibers block the worker threads, and another one cannot be "
                           "started: "} +
               refused.what() + "; others wait until one is back (see `ulimit -u`)");
      return;
    }
  }
}

bool runtime_core::report_back(worker& w) noexcept {
  {
    const detail::spin_guard guard{idle_lock_};
    w.attention_.fetch_and(~attention::report, memory_order_relaxed);
    const standing was = w.standing_.load(memory_order_relaxed);
    if (was == standing::bound) return true;
    if (was == standing::stuck && active_ < procs()) {
      w.standing_.store(standing::active, memory_order_relaxed);
      ++active_;
      return true;
    }
    if (was == standing::active) {
      if (active_ <= procs()) return true;
      --active_;
    }
    w.standing_.store(standing::retired, memory_order_relaxed);
    w.woken_.store(0, memory_order_relaxed);
    in_service_.fetch_sub(1, memory_order_seq_cst);
  }
  if (w.searching_) stop_searching(w, false);
  w.hand_over_queue();
  tell_quiet();
  const clock::time_point until = clock::now() + spare_kept;
  for (;;) {
    const clock::duration left = until - clock::now();
    if (left > clock::duration::zero() && !stopping()) futex_wait_for(w.woken_, 0, left);
    const detail::spin_guard guard{idle_lock_};
    if (w.standing_.load(memory_order_relaxed) == standing::active) return true;
    if (stopping()) return false;
    if (left > clock::duration::zero() || !w.thread_.joinable()) continue;  // Hardly started.
    w.thread_.detach();
    w.standing_.store(standing::leaving, memory_order_relaxed);
    return false;
  }
}

namespace {
constexpr unsigned procs_max = 1024;
}

unsigned procs_allowed() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  const unsigned allowed = ::sched_getaffinity(0, sizeof mask, &mask) == 0
                               ? static_cast<unsigned>(CPU_COUNT(&mask))
                               : std::thread::hardware_concurrency();
  return std::clamp(std::min(allowed, cgroup_cpu_limit()), 1U, procs_max);
}

procs_choice procs_wanted(unsigned asked) {
  if (asked != 0) return {.count = std::min(asked, procs_max)};
  if (const char* const text = std::getenv("EXEUNT_PROCS"); text != nullptr && *text != '\0') {
    unsigned value = 0;
    const char* const last = text + std::strlen(text);
    const auto [end, problem] = std::from_chars(text, last, value);
    if (problem == std::errc{} && end == last && value >= 1 && value <= procs_max) {
      return {.count = value};
    }
    log_line(std::string{"exeunt: EXEUNT_PROCS="} + text +
             " ignored: it must be a whole number from 1 to 1024");
  }
  return {.count = procs_allowed(), .follows = true};
}

void runtime_core::set_procs(unsigned asked) noexcept {
  const procs_choice choice = procs_wanted(asked);
  const detail::spin_guard guard{idle_lock_};
  procs_follow_.store(choice.follows, memory_order_relaxed);
  change_procs(choice.count);
}

void runtime_core::follow_procs_allowed() noexcept {
  if (!procs_follow_.load(memory_order_relaxed)) return;  // order: looked at again under the lock.
  try {
    const unsigned allowed = procs_allowed();
    const detail::spin_guard guard{idle_lock_};
    if (procs_follow_.load(memory_order_relaxed) && allowed != procs()) change_procs(allowed);
  } catch (const std::exception&) {  // No memory, for example. It is looked at again.
  }
}

// Under idle_lock_.
void runtime_core::change_procs(unsigned count) noexcept {
  procs_.store(count, memory_order_relaxed);
  // Whoever is one too many retires; if there are too few the monitor sees it when all are busy.
  for (worker& w : workers_) {
    if (w.standing_.load(memory_order_relaxed) != standing::active) continue;
    w.call_for(attention::report);
    if (active_ > count && w.idle_.load(memory_order_relaxed)) wake_idle(w);
  }
}

void runtime_core::bind(fiber& running) noexcept {
  running.has_extras = true;
  if (running.thread_locks++ > 0) return;
  worker& here = *this_worker();
  running.bound_to = static_cast<std::uint16_t>(here.index() + 1);
  {
    const detail::spin_guard guard{idle_lock_};
    if (here.standing_.load(memory_order_relaxed) == standing::active) --active_;
    here.standing_.store(standing::bound, memory_order_relaxed);
  }
  here.call_for(attention::bound);
  here.hand_over_queue();
}

void runtime_core::unbind(fiber& running) noexcept {
  if (running.thread_locks == 0 || --running.thread_locks > 0) return;
  worker& here = *this_worker();
  running.bound_to = 0;
  const detail::spin_guard guard{idle_lock_};
  here.standing_.store(standing::stuck, memory_order_relaxed);
  here.attention_.fetch_and(~attention::bound, memory_order_relaxed);
  here.call_for(attention::report);
}

void runtime_core::out_of_service() noexcept {
  in_service_.fetch_sub(1, memory_order_seq_cst);
  tell_quiet();
}

void runtime_core::back_in_service() noexcept {
  in_service_.fetch_add(1, memory_order_seq_cst);
  monitor_.somebody_is_busy();
}

}  // namespace exeunt::sched

namespace exeunt {

lock_os_thread::lock_os_thread() noexcept {
  if (sched::fiber* const running = sched::this_fiber_block()) running->home->bind(*running);
}

lock_os_thread::~lock_os_thread() {
  if (sched::fiber* const running = sched::this_fiber_block()) running->home->unbind(*running);
}

}  // namespace exeunt
