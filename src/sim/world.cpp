// SPDX-License-Identifier: Apache-2.0
// The scheduler's parts as a simulation has them.
//
// Who drives. One fiber, the driver, starts the function as another one and waits until nobody
// else can run; then it judges, makes the next plan and starts again, in the same runtime, since
// that is a hundred times faster than a new one. It is no part of the simulation: it is ready only
// when nobody else is, it has no number, and nothing that it does is a choice.
//
// When nobody is ready, in this order: those who settle() go on; time moves to the next timer, if
// the function has not returned; the driver goes on. If fibers are left then, it is a failure:
// nothing can wake them any more.
//
// What a schedule leaves behind, fibers that wait for good or timers, goes with its world: run()
// ends, and the caller makes a new one. The fibers are abandoned.
//
// Tests: tests/sim/bubble_test.cpp, explore_test.cpp.

#include "sim/world.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <source_location>
#include <system_error>
#include <utility>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/error.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/sched/boundary.hpp>
#include <exeunt/sched/go.hpp>

#include "sched/current.hpp"
#include "sched/fiber.hpp"
#include "sched/futex.hpp"
#include "sched/model_steps.hpp"
#include "sched/runtime_core.hpp"
#include "sched/timers.hpp"
#include "sched/worker.hpp"

namespace exeunt::sim {

using detail::memory_order_acquire;
using detail::memory_order_relaxed;
using detail::memory_order_release;
using detail::ticket;
using detail::wait_reason;
using detail::wakeup;

namespace {

// Tests print, and test libraries print much.
constexpr std::size_t stack_bytes = std::size_t{256} * 1024;

void claim_and_wake(ticket& whose) noexcept {
  wakeup due;
  if (whose.claim(&whose, due)) due.fire();
}

std::string seconds_of(clock::duration d) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g s", std::chrono::duration<double>(d).count());
  return text;
}

std::string place_of(const std::source_location& at) {
  const std::string_view file = at.file_name();
  return std::string{file.substr(file.rfind('/') + 1)} + ":" + std::to_string(at.line());
}

}  // namespace

world::world(choices& source, extras with)
    : choices_{source},
      traced_{with.traced},
      checks_bytes_{with.checks_bytes},
      started_at_{with.started_at},
      sockets_{source} {
  sched::install_model_steps();
  parts_.clock = this;
  parts_.chooser = this;
  parts_.poller = this;
  parts_.sockets = &sockets_;
  parts_.seed = 1;
  parts_.blocking_in_line = true;
  runtime_options options;
  options.procs = 1;
  options.stack_size = stack_bytes;
  options.seam = &parts_;
  options.panic_handler = [this](const panic_report& panic) {
    fail_by("an exception left a fiber: ", panic.what);
  };
  // order: relaxed; what is simulated is started after this.
  detail::simulations.fetch_add(1, memory_order_relaxed);
  runtime_.emplace(std::move(options));
}

world::~world() {
  sealed_.store(0, memory_order_relaxed);
  // Not by the runtime's own stop(), which would tell of each fiber that is left.
  if (home_ != nullptr) static_cast<void>(home_->stop(false));
  runtime_.reset();
  detail::simulations.fetch_sub(1, memory_order_relaxed);
}

void world::run(function_ref<void()> f, function_ref<std::string()> judge,
                function_ref<bool()> again) {
  done_.store(0, memory_order_relaxed);
  runtime_->go({.name = "sim driver", .stack_size = stack_bytes}, [&] {
    // order: relaxed; only who looks from another thread later is to see it.
    sealed_.store(1, memory_order_relaxed);
    drive(f, judge, again);
    sealed_.store(0, memory_order_relaxed);
    detail::race_release(&done_);
    done_.store(1, memory_order_release);
    sched::futex_wake(done_, 1);
  });
  while (done_.load(memory_order_acquire) == 0) sched::futex_wait(done_, 0);
  detail::race_acquire(&done_);
}

// --- inside

void world::drive(function_ref<void()> f, function_ref<std::string()> judge,
                  function_ref<bool()> again) {
  driver_block_ = sched::this_fiber_block();
  home_ = &sched::this_worker()->home();
  sockets_.belong_to(*home_);
  do {
    has_to_go_on_ = false;
    run_once(f);
    detail::race_acquire(home_);  // What its fibers did; see run_body() in worker.cpp.
    const bool left = home_->alive() > 1;
    if (left && !failed_) {
      fail_with(main_over_ ? failure::reason::left : failure::reason::deadlock,
                (main_over_ ? "the function has returned, but these wait for good:\n"
                            : "all fibers wait, and nothing can wake them:\n") +
                    dump());
    }
    if (std::string verdict = judge(); !failed_ && !verdict.empty()) {
      fail_with(failure::reason::check, std::move(verdict));
    }
    if (const std::string open = sockets_.describe_open(); !failed_ && !open.empty()) {
      fail_with(failure::reason::left, "these sockets are open still:\n" + open);
    }
    if (failed_ || left) return;
    // Timers that are left would fire in the next one.
    const bool leaves_timers = home_->timers().next() != no_deadline;
    if (checks_bytes_ && !leaves_timers) judge_bytes(f, judge);
    if (failed_) return;
    has_to_go_on_ = again();
    if (leaves_timers) return;
  } while (has_to_go_on_);
}

// The same schedule again: what a cache keeps of it is there by now, and what leaks does so again.
void world::judge_bytes(function_ref<void()> f, function_ref<std::string()> judge) {
  constexpr int repeats = 3;
  std::ptrdiff_t least = bytes_left();
  if (least <= 0) return;
  const choices made = choices_;
  std::vector<std::uint32_t> taken;
  for (const choice& one : made.made()) taken.push_back(one.taken);
  for (int i = 0; i < repeats && least > 0; ++i) {
    choices_.plan_replay(taken);
    run_once(f);
    std::string verdict = judge();
    const bool same =
        !failed_ && home_->alive() == 1 && verdict.empty() && home_->timers().next() == no_deadline;
    if (!same) {
      fail_with(failure::reason::divergent, "it did not do the same when run again");
      break;
    }
    least = std::min(least, bytes_left());
  }
  choices_ = made;
  if (least > 0) {  // No second failure, if there is one.
    fail_with(failure::reason::left, std::to_string(least) +
                                         " bytes that were allocated inside are not freed, each "
                                         "time that this is run");
  }
}

// By the last schedule.
std::ptrdiff_t world::bytes_left() noexcept {
  sockets_.reset();  // All are closed.
  return bytes_ - bytes_before_;
}

void world::run_once(function_ref<void()> f) {
  now_ = epoch;
  main_over_ = false;
  failed_.reset();
  trace_.clear();
  fibers_.clear();
  things_.clear();
  sockets_.reset();
  last_ = nullptr;
  preempted_ = false;
  bytes_before_ = bytes_;
  ticket until_quiet;
  driver_ = &until_quiet;
  go({.name = "main", .stack_size = stack_bytes, .started_at = started_at_}, [this, f] {
    std::exception_ptr thrown;
    if (const auto escaped = detail::call_caught([&] {
          try {
            f();
          } catch (...) {
            thrown = std::current_exception();
            throw;
          }
        })) {
      fail_by("an exception left the function: ", *escaped, thrown);
    }
    main_over_ = true;
  });
  detail::park(until_quiet, wait_reason::simulation, nullptr);  // Woken by: nobody_ready().
}

void world::fail_with(failure::reason why, std::string text, std::exception_ptr thrown) {
  const detail::race_ignore own;
  if (failed_) return;  // The first is the cause.
  if (traced_) note("failed: " + text);
  failed_.emplace(why, std::move(text), std::move(thrown));
}

// A failure of a check() says all itself.
void world::fail_by(const char* how, const error& escaped, std::exception_ptr thrown) {
  try {
    escaped.rethrow();
  } catch (const failure& failed) {
    fail_with(failed.why(), failed.what(), std::move(thrown));
  } catch (...) {
    fail_with(failure::reason::exception, how + escaped.message(), std::move(thrown));
  }
}

world* world::current() noexcept {
  const sched::worker* const here = sched::this_worker();
  return here == nullptr || here->running() == nullptr ? nullptr : of_this_thread();
}

world* world::of_this_thread() noexcept {
  const sched::worker* const here = sched::this_worker();
  return here == nullptr ? nullptr : dynamic_cast<world*>(here->home().seam().chooser);
}

void world::settle() {
  ticket others_wait;
  {
    const detail::race_ignore own;
    settling_.push_back(&others_wait);
  }
  detail::park(others_wait, wait_reason::simulation, nullptr);  // Woken by: nobody_ready().
}

// --- what the scheduler asks

std::size_t world::choose(std::size_t ready_count) noexcept {
  const detail::race_ignore own;
  was_preempted_ = std::exchange(preempted_, false);
  if (was_preempted_) return preempted_for_;
  return choices_.decide(choice_of::next, static_cast<std::uint32_t>(ready_count));
}

bool world::preempts(std::size_t others, const char* call, const void* on) noexcept {
  const detail::race_ignore own;
  if (sched::this_fiber_block() == driver_block_ || others == 0) return false;
  const std::uint32_t taken =
      choices_.decide(choice_of::preemption, static_cast<std::uint32_t>(others) + 1);
  if (taken == 0) return false;
  // It yields now, and waits behind all others.
  preempted_ = true;
  preempted_for_ = taken - 1;
  if (traced_) preempted_before_ = with_number(call, on);
  return true;
}

bool world::nobody_ready(sched::runtime_core& home) noexcept {
  const detail::race_ignore own;
  if (!settling_.empty()) {
    const std::vector<ticket*> all = std::exchange(settling_, {});
    for (ticket* const one : all) claim_and_wake(*one);
    return true;
  }
  const clock::time_point next = home.timers().next();
  if (!main_over_ && next != no_deadline) {
    if (traced_ && next > now_) {
      note_leaving();
      note("time moves on by " + seconds_of(next - now_));
    }
    now_ = std::max(now_, next);
    home.timers().fire_due(now_);
    return true;
  }
  if (driver_ == nullptr) return false;
  claim_and_wake(*std::exchange(driver_, nullptr));
  return true;
}

std::uint32_t world::choose_below(std::uint32_t bound, std::uint32_t /*random*/) noexcept {
  const detail::race_ignore own;
  return choices_.decide(choice_of::number, bound);
}

void world::woken_from_outside() noexcept {
  if (sealed_.load(memory_order_relaxed) == 0) return;
  detail::fatal(
      "a fiber of a simulation was woken by a thread outside of it; what a simulation uses must be "
      "made and used inside only");
}

result<> world::add(int fd, std::uint64_t token) noexcept {
  if (fd < first_own) return fail(std::make_error_code(std::errc::operation_not_supported));
  sockets_.watch(fd, token);
  return {};
}
void world::remove(int fd) noexcept { sockets_.unwatch(fd); }
void world::close_own(int fd) noexcept { sockets_.close(fd); }

std::size_t world::wait(poll::event* /*events*/, std::size_t /*room*/,
                        clock::time_point until) noexcept {
  if (until == clock::time_point::min()) return 0;
  // Nothing comes but the next start, or the stop, from outside.
  while (woken_.load(memory_order_acquire) == 0) sched::futex_wait(woken_, 0);
  woken_.store(0, memory_order_relaxed);
  return 0;
}

void world::wake() noexcept {
  woken_.store(1, memory_order_release);
  sched::futex_wake(woken_, 1);
}

// --- telling

void world::note(const std::string& event) { trace_ += "  " + event + "\n"; }

std::size_t world::number_of(std::vector<numbered>& all, const void* what) {
  for (const numbered& one : all) {
    if (one.what == what) return one.number;
  }
  all.push_back({what, all.size() + 1});
  return all.size();
}

std::string world::with_number(std::string what, const void* on) {
  if (on != nullptr) what += " " + std::to_string(number_of(things_, on));
  return what;
}

std::string world::name_of(const sched::fiber& which) {
  return "fiber " + std::to_string(number_of(fibers_, &which));
}

void world::started(sched::fiber& fresh) noexcept {
  const detail::race_ignore own;
  if (!traced_ || driver_block_ == nullptr) return;
  // The block may have been another's, which keeps its number.
  if (last_ == &fresh) {
    note(name_of(fresh) + " ends");
    last_ = nullptr;
  }
  for (numbered& one : fibers_) {
    if (one.what == &fresh) one.what = nullptr;
  }
  note(name_of(fresh) + " is started" +
       (fresh.name[0] != '\0' ? " as \"" + std::string{fresh.name} + "\"" : std::string{}) +
       " at " + place_of(fresh.started_at));
}

void world::runs(sched::fiber& next) noexcept {
  const detail::race_ignore own;
  if (!traced_) return;
  if (last_ == &next && last_->state.load(memory_order_relaxed) != sched::fiber_state::parked) {
    return;  // It gave way, and goes on.
  }
  note_leaving();
  last_ = &next;
  if (&next != driver_block_) note(name_of(next) + " runs");
}

// What the fiber that ran last has come to.
void world::note_leaving() {
  const sched::fiber* const before = std::exchange(last_, nullptr);
  if (before == nullptr || before == driver_block_) return;
  std::string what = " gives way";
  if (before->state.load(memory_order_relaxed) == sched::fiber_state::parked) {
    what = " waits: " + with_number(detail::to_string(before->waits_for), before->waits_on);
  } else if (!before->body) {
    what = " ends";
  } else if (was_preempted_) {
    what = " is preempted before " + preempted_before_;
  }
  note(name_of(*before) + what);
}

std::string world::dump() {
  const detail::race_ignore own;
  std::string text;
  for (const fiber_info& one : home_->fibers()) {
    if (one.id == driver_block_->id.load(memory_order_relaxed)) continue;
    text += "  ";
    text += one.name.empty() ? "fiber" : "\"" + one.name + "\"";
    text += " started at " + place_of(one.started_at) + " waits for " + one.waits_for + "\n";
  }
  return text;
}

}  // namespace exeunt::sim
