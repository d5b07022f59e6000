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
#include <exeunt/base/spin_lock.hpp>
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

std::uint32_t next_number() noexcept {
  static detail::atomic<std::uint32_t> last{0};
  return last.fetch_add(1, memory_order_relaxed) + 1;  // order: only uniqueness counts.
}

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
    : choices_{source}, with_{with}, number_{next_number()}, sockets_{source} {
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
  detail::watchers.fetch_add(detail::one_simulation, memory_order_relaxed);
  runtime_.emplace(std::move(options));
}

void world::ending::operator()(world* over) const noexcept {
  over->sealed_.store(0, memory_order_relaxed);
  // Not by the runtime's own stop(), which would tell of each fiber that is left.
  if (over->home_ != nullptr) static_cast<void>(over->home_->stop(false));
  const bool abandons = over->home_ != nullptr && over->home_->alive() > 0;
  over->runtime_.reset();
  if (!abandons) {
    delete over;
    return;
  }
  static detail::spin_lock lock;
  static auto& kept = *new std::vector<world*>;  // Leak checkers are to find them.
  const detail::spin_guard guard{lock};
  kept.push_back(over);
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
    judge_end(judge());
    if (!failed_ && with_.checks_bytes) judge_bytes(f, judge);
    if (failed_) return;
    has_to_go_on_ = again();
  } while (has_to_go_on_);
}

// What the schedule has left behind makes it fail, also if it was to be judged otherwise.
void world::judge_end(std::string verdict) {
  std::string left;
  if (home_->alive() > 1) {
    left = (main_over_ ? "the function has returned, but these wait for good:\n"
                       : "all fibers wait, and nothing can wake them:\n") +
           dump();
  }
  if (failed_) {  // Not by the verdict, which may be the cause.
    if (!verdict.empty()) failed_->text += "\n" + verdict;
    return;
  }
  if (!verdict.empty()) {
    if (!left.empty()) verdict += (verdict.ends_with('\n') ? "" : "\n") + ("besides, " + left);
    return fail_with(failure::reason::check, std::move(verdict));
  }
  if (!left.empty()) {
    return fail_with(main_over_ ? failure::reason::left : failure::reason::deadlock,
                     std::move(left));
  }
  if (const std::string open = sockets_.describe_open(); !open.empty()) {
    return fail_with(failure::reason::left, "these sockets are open still:\n" + open);
  }
  if (const clock::time_point next = home_->timers().next(); next != no_deadline) {
    fail_with(failure::reason::left,
              "timers are pending still, of which the next would fire after " +
                  seconds_of(next - now_) + ": a timer or a context is left that nobody ended");
  }
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
  turns_ = 0;
  turns_at_once_ = 0;
  settling_.clear();
  main_over_ = false;
  failed_.reset();
  broken_off_ = false;
  trace_.clear();
  fibers_.clear();
  things_.clear();
  sockets_.reset();
  last_ = nullptr;
  preempted_ = false;
  bytes_before_ = bytes_;
  ticket until_quiet;
  driver_ = &until_quiet;
  go({.name = "main", .stack_size = stack_bytes, .started_at = with_.started_at}, [this, f] {
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
  if (with_.traced) note("failed: " + text);
  failed_.emplace(why, std::move(text), std::move(thrown));
#ifndef EXEUNT_CORE_MODEL
  // Nothing more is done in this schedule. In core_model a fiber may have been left in the middle
  // of a critical section, which what comes next might want to enter.
  broken_off_ = true;
#endif
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
  if (broken_off_) return ready_count - 1;  // The driver, whom nobody_ready() has woken.
  count_turn();
  was_preempted_ = std::exchange(preempted_, false);
  if (was_preempted_) return preempted_for_;
  return choices_.decide(choice_of::next, static_cast<std::uint32_t>(ready_count));
}

bool world::preempts(std::size_t others, const char* call, const void* on) noexcept {
  const detail::race_ignore own;
  if (sched::this_fiber_block() == driver_block_) return false;
  count_turn();
  if (broken_off_) return true;
  const std::uint32_t taken =
      others == 0 ? 0
                  : choices_.decide(choice_of::preemption, static_cast<std::uint32_t>(others) + 1);
  if (taken == 0) {
    if (with_.traced && on != nullptr) {
      note(name_of(*sched::this_fiber_block()) + ": " + with_number(call, on));
    }
    return false;
  }
  // It yields now, and waits behind all others.
  preempted_ = true;
  preempted_for_ = taken - 1;
  if (with_.traced) preempted_before_ = with_number(call, on);
  return true;
}

bool world::breaks_off() noexcept { return broken_off_; }

void world::count_turn() noexcept {
  ++turns_;
  ++turns_at_once_;
  const bool too_many = with_.turns != 0 && turns_ > with_.turns;
  if (broken_off_ || (!too_many && turns_at_once_ <= with_.turns_at_once)) return;
  const detail::race_ignore own;
  broken_off_ = true;
  fail_with(
      failure::reason::endless,
      "it has not ended after " + std::to_string(turns_) + " turns and calls" +
          (too_many ? ""
                    : ", of which time stood still for " + std::to_string(with_.turns_at_once)) +
          "; there were:\n" + dump());
}

void world::uses_foreign(const char* call) noexcept {
  const sched::fiber* const running = sched::this_fiber_block();
  if (running == driver_block_) return;
  {
    const detail::race_ignore own;
    broken_off_ = true;
    fail_with(
        failure::reason::foreign,
        std::string{call} + " on a channel that was made outside of this simulation" +
            (running == nullptr ? std::string{}
                                : ", by the fiber started at " + place_of(running->started_at)) +
            "; what a simulation uses must be made and used inside only");
  }
  if (running != nullptr) yield();  // For good.
}

bool world::nobody_ready(sched::runtime_core& home) noexcept {
  const detail::race_ignore own;
  if (broken_off_) {
    if (driver_ == nullptr) return false;
    claim_and_wake(*std::exchange(driver_, nullptr));
    return true;
  }
  if (!settling_.empty()) {
    const std::vector<ticket*> all = std::exchange(settling_, {});
    for (ticket* const one : all) claim_and_wake(*one);
    return true;
  }
  const clock::time_point next = home.timers().next();
  if (!main_over_ && next != no_deadline) {
    if (with_.traced && next > now_) {
      note_leaving();
      note("time moves on by " + seconds_of(next - now_));
    }
    now_ = std::max(now_, next);
    turns_at_once_ = 0;
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
  if (!with_.traced || driver_block_ == nullptr) return;
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
  if (!with_.traced) return;
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
  std::vector<const sched::fiber*> all;
  home_->slabs().for_each([&](const sched::fiber& block) {
    if (&block != driver_block_) all.push_back(&block);
  });
  // order: relaxed, here and below; nobody else runs.
  std::ranges::sort(all, {}, [](const auto* one) { return one->id.load(memory_order_relaxed); });
  std::string text;
  for (const sched::fiber* const one : all) {
    text += "  ";
    text += one->name[0] == '\0' ? "fiber" : "\"" + std::string{one->name} + "\"";
    text += " started at " + place_of(one->started_at);
    if (one->state.load(memory_order_relaxed) == sched::fiber_state::parked) {
      text += " waits for " + with_number(detail::to_string(one->waits_for), one->waits_on) + "\n";
    } else {
      text += " is ready\n";
    }
  }
  return text;
}

}  // namespace exeunt::sim
