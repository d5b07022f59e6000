// SPDX-License-Identifier: Apache-2.0
// A runtime's start and stop, and the default one. What it tells of its fibers: reports.cpp.
//
// Invariants:
//   I1  A fiber's home never changes; only its home's workers run it.
//   I2  The default runtime is started once, by whoever needs it first, and never destroyed.
//   I3  After stop() no worker of this runtime runs anything, except a bounded stop that says so.
//       The fiber that called for that one is none from then on, but part of a plain thread.
//   I4  A core lives until no thread is inside make_ready_last() or has a runtime_hold, and for
//       good if it has abandoned a fiber: wakers may still find the fiber's waiters, and its home.
// Locks: registry_lock guards the list of runtimes; it is taken before a slab's lock.
// Wake-ups: run_body() is woken by its fiber's end; stop() by the last worker that falls idle and
//   by each worker's end. stop() wakes those that wait from outside for what it has abandoned, by
//   cancelling end().
// Tests: tests/sched/runtime_test.cpp, runtime_exit_test.cpp, abandoned_test.cpp (I4).

#include <exeunt/sched/runtime.hpp>

#include <cxxabi.h>
#include <sched.h>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <system_error>
#include <utility>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/log.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/sched/boundary.hpp>

#include "arch/fault.hpp"
#include "sched/current.hpp"
#include "sched/fence.hpp"
#include "sched/futex.hpp"
#include "sched/reports.hpp"
#include "sched/runtime_core.hpp"
#include "sched/switch_hooks.hpp"

namespace exeunt::sched {
namespace {
// Never destroyed, but within reach, so that leak checkers see what is meant.
void keep(runtime_core& core) noexcept {
  static detail::atomic<runtime_core*> kept{nullptr};
  core.next_kept = kept.exchange(&core, detail::memory_order_acq_rel);
}
}  // namespace
}  // namespace exeunt::sched

namespace exeunt::detail {

/// The public class's private part: the core, alone in its allocation so that it can be leaked.
class runtime_impl {
 public:
  explicit runtime_impl(runtime_options&& options)
      : core{new sched::runtime_core{std::move(options)}} {}
  ~runtime_impl() {
    static_cast<void>(core->stop(false));
    // In a forked child its threads cannot be joined, and what it has of the kernel is the
    // parent's.
    if (!sched::forked_without_exec() && core->retire()) {
      delete core;
    } else {
      sched::keep(*core);
    }
  }
  runtime_impl(const runtime_impl&) = delete;
  runtime_impl& operator=(const runtime_impl&) = delete;

  static sched::runtime_core& core_of(runtime& of) noexcept { return *of.impl_->core; }
  /// Leaves the core to the process's end: somebody still runs on it.
  static void leak(runtime& of) noexcept { static_cast<void>(of.impl_.release()); }
  static runtime& default_runtime();

  sched::runtime_core* core;
};

}  // namespace exeunt::detail

namespace exeunt::sched {

using detail::memory_order_acq_rel;
using detail::memory_order_acquire;
using detail::memory_order_relaxed;
using detail::memory_order_release;
using detail::memory_order_seq_cst;

namespace {

detail::spin_lock registry_lock;
// Null before the first runtime; outlives static destructors. tools/gdb/exeunt.py finds it by its
// name, and from here everything else.
[[gnu::used]] std::vector<runtime_core*>* runtimes = nullptr;

// Under registry_lock.
std::vector<runtime_core*>& registry() {
  if (runtimes == nullptr) runtimes = new std::vector<runtime_core*>;
  return *runtimes;
}

detail::atomic<std::uint64_t> fiber_ids{1};

detail::clock_source* clock_of_worker() noexcept {
  const worker* const here = this_worker();
  return here == nullptr ? nullptr : here->home().seam().clock;
}

}  // namespace

std::uint64_t runtime_core::seed_of(unsigned index) const noexcept {
  return (seam_.seed != 0 ? seam_.seed : detail::random_seed()) + 0x9e3779b97f4a7c15U * (index + 1);
}

runtime_core::runtime_core(runtime_options&& options)
    : options_{std::move(options)}, stacks_{options_.stack_size} {
  if (forked_without_exec()) refuse_in_child("makes a runtime");
  if (options_.seam != nullptr) seam_ = *options_.seam;
  settle_fences();
  watch_forks();
#ifdef EXEUNT_FORCE_MIGRATION
  seam_.migrate_always = !seam_.migrate_never;
#endif
  if (seam_.poller == nullptr) own_poller_ = poll::make_epoll_poller();
  poller_ = seam_.poller != nullptr ? seam_.poller : own_poller_.get();
  detail::set_describe_running(&describe_running);
  if (seam_.clock != nullptr) detail::set_find_clock(&clock_of_worker);

  const procs_choice procs = procs_wanted(options_.procs);
  procs_.store(procs.count, memory_order_relaxed);
  procs_follow_.store(procs.follows, memory_order_relaxed);
  for (unsigned i = 0; i < procs.count; ++i) {
    workers_.add(std::make_unique<worker>(*this, i, seed_of(i)));
    put_in_place(workers_[i]);
  }
  {
    const detail::spin_guard guard{registry_lock};
    const detail::race_ignore own;  // The lock, which orders, is not shown.
    registry().push_back(this);
  }
  if (options_.signal_dumps) arch::install_fault_handler(&describe_overflow);
  try {
    for (worker& w : workers_) start_thread(w);
    // A simulated runtime is left alone with its own time and choices.
    const bool simulated =
        seam_.clock != nullptr || seam_.chooser != nullptr || seam_.poller != nullptr;
    if (!simulated) monitor_.start();
  } catch (...) {
    stopping_.store(true, memory_order_seq_cst);
    call_all_in();
    for (worker& w : workers_) {
      if (w.thread_.joinable()) w.thread_.join();
    }
    if (options_.signal_dumps) arch::uninstall_fault_handler();
    const detail::spin_guard guard{registry_lock};
    const detail::race_ignore own;  // The lock, which orders, is not shown.
    std::erase(registry(), this);
    throw;
  }
}

runtime_core::~runtime_core() {
  static_cast<void>(stop(false));
  static_cast<void>(retire());
}

bool runtime_core::retire() noexcept {
  if (std::exchange(retired_, true)) return true;
  detail::race_acquire(this);
  timers_.queue.close();
  wait_for_outsiders();  // Who found us by a descriptor or a timer may be about to start a fiber.
  // Abandoned fibers are never unwound, and what they own is theirs for ever. Bodies that never ran
  // are destroyed, here and not with their blocks: they may wake fibers, of this runtime, too.
  std::vector<unique_function<void()>> never_ran;
  never_ran.reserve(alive());
  std::vector<fiber*> hooked;
  if (!options_.on_switch.empty()) hooked.reserve(alive());
  bool abandoned = false;
  slabs_.for_each([&](fiber& left) {
    if (left.on_stack.load(memory_order_relaxed) == fiber_seat::none) {
      never_ran.push_back(std::move(left.body));
      if (left.locals != nullptr) hooked.push_back(&left);
    } else {
      abandoned = true;
    }
    arch::san_destroy(left.san);
  });
  never_ran.clear();
  for (fiber* const left : hooked) drop_hooks(*left);
  wait_for_outsiders();  // Who made the last of our fibers ready may not be done yet.
  if (!abandoned) return true;
  stacks_.trim();
  own_poller_.reset();  // Descriptors are orphaned, and no worker sleeps: nobody asks for it.
  return false;
}

void runtime_core::wait_for_outsiders() noexcept {
  // order: acquire, pairs with the release of each that left.
  while (outsiders_.load(memory_order_acquire) != 0) ::sched_yield();
}

runtime_hold::runtime_hold(runtime_core* found) noexcept {
  const worker* const here = this_worker();
  if (found == nullptr || (here != nullptr && &here->home() == found)) return;
  // order: relaxed; published by the lock that the caller holds.
  found->outsiders_.fetch_add(1, memory_order_relaxed);
  held_ = found;
}

runtime_hold::~runtime_hold() {
  // order: release, pairs with wait_for_outsiders().
  if (held_ != nullptr) held_->outsiders_.fetch_sub(1, memory_order_release);
}

runtime_core& runtime_core::current_or_fatal() noexcept {
  try {
    return current();
  } catch (const std::exception& refused) {
    char text[320];
    std::snprintf(
        text, sizeof text,
        "the default runtime cannot start: %s; raise the limit that was met (`ulimit -n`, "
        "`ulimit -u`, `ulimit -v`), or make a runtime before it is",
        refused.what());
    detail::fatal(text);
  }
}

runtime_core& runtime_core::current() {
  if (worker* const here = this_worker()) return here->home();
  if (forked_without_exec()) refuse_in_child("needs a runtime");
  return detail::runtime_impl::core_of(detail::runtime_impl::default_runtime());
}

clock::time_point runtime_core::now() const noexcept {
  return seam_.clock != nullptr ? seam_.clock->now() : clock::now();
}

// --- starting and readying

void runtime_core::start(const fiber_options& options, unique_function<void()> body) {
  if (forked_without_exec()) refuse_in_child("starts a fiber");
  const detail::scheduler_section scheduling;
  worker* const here = this_worker();
  const bool local = here != nullptr && &here->home() == this;
  fiber& fresh = [&]() -> fiber& {
    const detail::race_ignore own;
    return local ? *here->get_block() : *slabs_.get();
  }();
  if (!options_.on_switch.empty()) [[unlikely]] {
    try {
      fresh.locals = start_hooks(options_).release();
      fresh.has_extras = true;
    } catch (...) {
      local ? here->put_block(fresh) : slabs_.put(fresh);
      throw;
    }
  }
  fresh.home = this;
  fresh.body = std::move(body);
  fresh.started_at = options.started_at;
  if (!options.name.empty() || options.stack_size != 0) {
    const detail::race_ignore own;
    fresh.has_extras = true;
    const std::size_t length = std::min(options.name.size(), sizeof fresh.name - 1);
    options.name.copy(fresh.name, length);
    fresh.name[length] = '\0';
    // Up to 4 TiB; what no system grants is refused when the stack is bound.
    fresh.stack_kib =
        static_cast<std::uint32_t>(std::min<std::size_t>((options.stack_size + 1023) / 1024, ~0U));
  }
  fresh.waits_for = detail::wait_reason::none;
  fresh.id.store(local ? here->take_id() : take_ids(1), memory_order_relaxed);
  // Under forced migration new fibers go round the workers.
  fresh.last_worker =
      static_cast<std::uint16_t>(seam_.migrate_always ? fresh.id.load(memory_order_relaxed)
                                 : local              ? here->index()
                                                      : 0);
  arch::san_create(fresh.san, fresh.name);
  detail::race_release(&fresh);
  if (seam_.chooser != nullptr) [[unlikely]]
    seam_.chooser->started(fresh);
  if (local) {
    // order: relaxed; published with the fiber.
    here->started.store(here->started.load(memory_order_relaxed) + 1, memory_order_relaxed);
  } else {
    started_outside_.fetch_add(1, memory_order_relaxed);  // order: as above.
  }
  // Started fibers queue up in order; only a woken one takes the place of the next to run.
  make_ready_last(fresh);
}

void runtime_core::make_ready(fiber& ready) noexcept {
  const detail::scheduler_section scheduling;
  worker* const here = this_worker();
  if (here == nullptr || &here->home() != this || here->running() == nullptr ||
      !here->takes_what_it_wakes() || ready.bound_to != 0) {
    make_ready_last(ready);
    return;
  }
  // order: release; a dump that sees the state sees the block's description.
  ready.state.store(fiber_state::ready, memory_order_release);
  here->push_next(ready);
}

void runtime_core::make_ready_last(fiber& ready) noexcept {
  const detail::scheduler_section scheduling;
  // order: release; as above.
  ready.state.store(fiber_state::ready, memory_order_release);
  worker* const here = this_worker();
  const bool outside = here == nullptr || &here->home() != this;
  if (outside && forked_without_exec()) return;  // The fiber is the parent's.
  if (outside && seam_.chooser != nullptr) [[unlikely]]
    seam_.chooser->woken_from_outside();
  // Once it is in a queue the fiber may run, and all of the runtime end, before we are done here.
  // order: relaxed, published by the queue's lock; the release below is for retire().
  if (outside) outsiders_.fetch_add(1, memory_order_relaxed);
  if (ready.bound_to != 0) {
    worker& own = workers_[ready.bound_to - 1U];
    own.push_mail(ready);
    futex_wake(own.mailed_, 1);
  } else if (seam_.migrate_always && workers_.size() > 1) {
    worker& other = workers_[(ready.last_worker + 1U) % workers_.size()];
    other.push_mail(ready);
    wake_worker(other);
    if (other.standing_.load(memory_order_relaxed) != standing::active) return_stray_mail(other);
  } else if (outside || here->is_bound()) {
    injected_.push(ready);
    wake_one();
  } else {
    here->push_last(ready);
  }
  if (outside) outsiders_.fetch_sub(1, memory_order_release);
}

void runtime_core::wait_for_stack(fiber& fresh) noexcept {
  stackless_.push(fresh);
  // One that was given back before this is for the monitor to find.
  if (told_of_stackless_.exchange(true, memory_order_relaxed)) return;
  log_line(
      "exeunt: no address space is left for another fiber's stack; new fibers begin when others "
      "have ended; see `ulimit -v` and vm.overcommit_memory, or start fewer fibers\n");
}

void runtime_core::retry_stackless() noexcept {
  if (fiber* const one = stackless_.pop_list(1)) make_ready_last(*one);
}

std::uint64_t runtime_core::take_ids(std::uint64_t count) noexcept {
  return fiber_ids.fetch_add(count, memory_order_relaxed);  // order: only uniqueness counts.
}

// --- stopping

// Every worker passes by its loop, and sees that the runtime stops.
void runtime_core::call_all_in() noexcept {
  for (worker& w : workers_) {
    w.call_for(attention::stop);
    wake_worker(w);
    w.mailed_.fetch_add(1, memory_order_release);
    futex_wake(w.mailed_, 1);
    const detail::spin_guard guard{idle_lock_};
    if (w.standing_.load(memory_order_relaxed) != standing::retired) continue;
    w.woken_.store(1, memory_order_release);
    futex_wake(w.woken_, 1);
  }
}

runtime_core::stop_result runtime_core::stop(bool bounded) noexcept {
  stop_result outcome;
  if (forked_without_exec()) return outcome;  // Its workers are the parent's.
  if (std::exchange(stopped_, true)) return outcome;
  const worker* const here = this_worker();
  const bool inside = here != nullptr && &here->home() == this;
  EXEUNT_ASSERT(bounded || !inside, "a runtime cannot be stopped by one of its own fibers");
  const std::uint32_t own_threads = inside ? 1 : 0;
  constexpr std::chrono::milliseconds patience{100};
  // A bounded stop takes no longer than that in all.
  const clock::time_point quiet_limit = clock::now() + (bounded ? patience / 2 : patience);
  // A simulation that has broken off is over, whoever is ready.
  if (seam_.chooser == nullptr || !seam_.chooser->breaks_off()) {
    wait_until_quiet(inside, quiet_limit);
    blocking_.wait_until_quiet(quiet_limit);
    wait_until_quiet(inside, quiet_limit);  // For what the end of a blocking call made ready.
  }
  stopping_.store(true, memory_order_seq_cst);
  monitor_.stop();
  call_all_in();

  const clock::time_point limit = bounded ? quiet_limit + patience / 2 : clock::now() + patience;
  bool told = false;
  for (;;) {
    // order: acquire, pairs with the release of each that ended.
    const std::uint32_t threads = threads_.load(memory_order_acquire);
    if (threads == own_threads) break;
    const auto left = limit - clock::now();
    if (left > clock::duration::zero()) {
      futex_wait_for(threads_, threads, left);
      continue;
    }
    if (!std::exchange(told, true)) {
      for (const fiber_info& info : fibers()) {
        if (info.state != fiber_info::run_state::running) continue;
        if (inside && info.id == this_fiber::id()) continue;
        log_line("exeunt: the runtime stops, but " + describe(info) +
                 ", and does not reach a scheduling point\n" + stack_of_running(info.id));
      }
    }
    if (bounded) {
      outcome.all_workers_ended = false;
      break;
    }
    futex_wait(threads_, threads);
  }
  const bool nobody_runs = outcome.all_workers_ended;
  if (inside) outcome.all_workers_ended = false;
  for (worker& w : workers_) {
    if (!w.thread_.joinable()) continue;
    if (outcome.all_workers_ended) {
      w.thread_.join();
    } else {
      w.thread_.detach();
    }
  }
  detail::race_acquire(&threads_);
  detail::race_acquire(this);  // What the fibers did is visible now.
  outcome.left = fibers();
  if (inside) std::erase_if(outcome.left, [](const auto& i) { return i.id == this_fiber::id(); });
  // After the look at who is left: it makes those ready that nobody will run.
  if (nobody_runs) io_.orphan();
  blocking_.close();  // What it refuses becomes ready, too.
  // A fiber that calls exit() goes on with the static destructors. There is no loop any more that
  // it could leave its worker for, so from now on it waits as the plain thread that it runs on.
  if (inside) become(nullptr, nullptr);
  if (options_.signal_dumps) arch::uninstall_fault_handler();
  // Not after a bounded one: at the process's end a start goes unnoticed rather than aborts it.
  if (!bounded) over_.store(true, memory_order_release);
  {
    const detail::spin_guard guard{registry_lock};
    const detail::race_ignore own;  // The lock, which orders, is not shown.
    std::erase(registry(), this);
  }
  end().cancel(errc::shutting_down, error{errc::shutting_down});
  return outcome;
}

std::string dump_all() {
  std::string text;
  std::vector<fiber_info> list;
  {
    const detail::spin_guard guard{registry_lock};
    for (const runtime_core* const core : registry()) {
      auto part = core->fibers();
      list.insert(list.end(), std::make_move_iterator(part.begin()),
                  std::make_move_iterator(part.end()));
    }
  }
  for (const fiber_info& info : list) text += describe(info) + "\n";
  return text;
}

}  // namespace exeunt::sched

namespace exeunt::detail {

using sched::runtime_core;

runtime& runtime_impl::default_runtime() {
  // Never destroyed: other static objects may use it until the very end. Stopped by atexit().
  static runtime* const instance = [] {
    auto* const made = new runtime{runtime::default_tag{0}};
    std::atexit([] {
      if (sched::forked_without_exec()) return;
      const auto outcome = core_of(default_runtime()).stop(true);
      sched::report_left(outcome.left);
    });
    return made;
  }();
  return *instance;
}

timer_queue* home_of_caller() noexcept {
  sched::worker* const here = sched::this_worker();
  return here == nullptr ? nullptr : &here->home().timers();
}

void start_fiber_in(timer_queue* home, const fiber_options& options, unique_function<void()> body) {
  sched::runtime_hold hold;
  runtime_core* const there = home == nullptr ? nullptr : home->find_home(hold);
  if (there != nullptr) {
    there->start(options, std::move(body));
  } else {
    start_fiber(options, std::move(body));
  }
}

cancel_node& end_of_runtime() { return runtime_core::current().end(); }

bool shares_runtime(const cancel_node& end) noexcept {
  sched::worker* const here = sched::this_worker();
  return here != nullptr && &here->home().end() == &end;
}

void start_fiber(const fiber_options& options, unique_function<void()> body) {
  const race_frame frame{__builtin_return_address(0)};
  runtime_core::current().start(options, std::move(body));
}

int run_main(function_ref<int()> body, runtime_options&& options, std::source_location where) {
  const race_frame frame{__builtin_return_address(0)};
  runtime owner{std::move(options)};
  int code = 1;
  // runtime::run() would pass an exception on; here it ends as a report, with the stack of its
  // throw.
  std::optional<error> failure;
  const auto main_fiber = [&] { failure = call_caught([&] { code = body(); }); };
  owner.run(main_fiber, where);
  if (failure) {
    std::string text = "exeunt: panic: " + failure->message() + "\n  in main\n";
    if (!failure->stack().empty()) text += "  thrown at\n" + std::string{failure->stack()};
    log_line(text);
    code = 1;
  }
  const auto outcome = runtime_impl::core_of(owner).stop(true);
  sched::report_left(outcome.left);
  if (!outcome.all_workers_ended) runtime_impl::leak(owner);
  return code;
}

}  // namespace exeunt::detail

namespace exeunt {

runtime::runtime(runtime_options options)
    : impl_{std::make_unique<detail::runtime_impl>(std::move(options))} {
  impl_->core->face = this;
}

runtime::runtime(default_tag /*tag*/) : runtime{runtime_options{}} {}

runtime::~runtime() {
  if (impl_ != nullptr) stop();
}

void runtime::start(const fiber_options& options, unique_function<void()> body) {
  if (impl_->core->over()) {
    detail::fatal("a fiber was started on a runtime that has been stopped; make another one");
  }
  const detail::race_frame frame{__builtin_return_address(0)};
  impl_->core->start(options, std::move(body));
}

void runtime::run_body(const fiber_options& options, function_ref<void()> body) {
  const detail::race_frame frame{__builtin_return_address(0)};
  std::exception_ptr failure;
  detail::ticket done;
  detail::race_release(&done);
  start(options, [&] {
    detail::race_acquire(&done);
    try {
      body();
    } catch (const abi::__forced_unwind&) {
      throw;
    } catch (...) {
      failure = std::current_exception();
    }
    detail::end_fiber_locals();
    detail::race_release(&done);
    detail::wakeup due;
    if (done.claim(&done, due)) due.fire();
  });
  detail::park(done, detail::wait_reason::join, nullptr);  // Woken by: the end of the body.
  detail::race_acquire(&done);
  if (failure) std::rethrow_exception(failure);
}

std::size_t runtime::stop() noexcept { return sched::report_left(impl_->core->stop(false).left); }

std::vector<fiber_info> runtime::fibers() const { return impl_->core->fibers(); }

runtime_stats runtime::stats() const noexcept { return impl_->core->stats(); }

unsigned runtime::procs() const noexcept { return impl_->core->procs(); }

void runtime::set_procs(unsigned count) noexcept { impl_->core->set_procs(count); }

runtime& runtime::current() { return *sched::runtime_core::current().face; }

bool runtime::on_fiber() noexcept { return sched::this_fiber_block() != nullptr; }

std::string dump_fibers() { return sched::dump_all(); }

namespace this_fiber {

std::uint64_t id() noexcept {
  const sched::fiber* const running = sched::this_fiber_block();
  return running == nullptr ? 0 : running->id.load(detail::memory_order_relaxed);
}

std::string_view name() noexcept {
  const sched::fiber* const running = sched::this_fiber_block();
  if (running == nullptr) return {};
  const detail::race_ignore own;
  return running->name;
}

}  // namespace this_fiber

}  // namespace exeunt
