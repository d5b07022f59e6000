// SPDX-License-Identifier: Apache-2.0
// What a runtime tells of its fibers: lists, numbers, reports of failures and of those left behind.
//
// All are snapshots: a fiber may have gone on when it is read of. Nothing here changes a fiber.
// Locks: a slab's lock, by fibers(). Nothing is allocated in describe_overflow(), which the handler
//   of a fault calls.
// Tests: tests/sched/runtime_test.cpp, runtime_exit_test.cpp.

#include "sched/reports.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <utility>

#include <exeunt/base/log.hpp>
#include <exeunt/base/race.hpp>

#include "arch/thread_trace.hpp"
#include "arch/throw_trace.hpp"
#include "sched/current.hpp"
#include "sched/fiber.hpp"
#include "sched/runtime_core.hpp"
#include "sched/worker.hpp"

namespace exeunt::sched {

using detail::memory_order_acquire;
using detail::memory_order_relaxed;

namespace {

std::string place(const std::source_location& where) {
  return std::string{where.file_name()} + ":" + std::to_string(where.line());
}

fiber_info info_of(const fiber& block, clock::time_point now) {
  fiber_info info;
  info.id = block.id.load(memory_order_relaxed);
  info.name.assign(block.name, ::strnlen(block.name, sizeof block.name));
  info.started_at = block.started_at;
  switch (block.state.load(memory_order_relaxed)) {
    case fiber_state::parked:
      info.state = fiber_info::run_state::parked;
      info.waits_for = detail::to_string(block.waits_for);
      info.since = std::max(now - block.since, clock::duration::zero());
      break;
    case fiber_state::ready:
      // order: relaxed; a snapshot.
      if (block.on_stack.load(memory_order_relaxed) == fiber_seat::taken) {
        info.state = fiber_info::run_state::running;
      }
      break;
    case fiber_state::free:
      break;
  }
  return info;
}

}  // namespace

std::string describe(const fiber_info& info) {
  std::string text = "fiber " + std::to_string(info.id);
  if (!info.name.empty()) text += " \"" + info.name + "\"";
  switch (info.state) {
    case fiber_info::run_state::ready:
      text += " is ready";
      break;
    case fiber_info::run_state::running:
      text += " is running";
      break;
    case fiber_info::run_state::parked: {
      const auto seconds = std::chrono::duration<double>{info.since}.count();
      char since[32];
      std::snprintf(since, sizeof since, "%.1f", seconds);
      text += " waits for " + info.waits_for + " (" + since + " s)";
      break;
    }
  }
  return text + ", started at " + place(info.started_at);
}

void describe_running(char* buffer, unsigned long size) noexcept {
  const fiber* const running = this_fiber_block();
  if (running == nullptr) return;
  std::snprintf(buffer, size, "fiber %llu \"%s\", started at %s:%u",
                static_cast<unsigned long long>(running->id.load(memory_order_relaxed)),
                running->name, running->started_at.file_name(), running->started_at.line());
}

// Called in the handler of the fault: only what the running thread owns is read.
bool describe_overflow(void* address, char* buffer, std::size_t size) {
  const fiber* const running = this_fiber_block();
  if (running == nullptr || !running->stack.guard_contains(address)) return false;
  describe_running(buffer, size);
  return true;
}

std::size_t report_left(const std::vector<fiber_info>& left) noexcept {
  for (const fiber_info& info : left) log_line("exeunt: leaked fiber: " + describe(info));
  return left.size();
}

// Of a fiber that keeps its worker; empty if it has given it up, or its thread does not answer.
std::string runtime_core::stack_of_running(std::uint64_t id) {
  constexpr std::chrono::milliseconds patience{20};
  for (worker& w : workers_) {
    const fiber* const there = w.running();
    // order: relaxed; a fiber that stays where it is has been there for long.
    if (there == nullptr || there->id.load(memory_order_relaxed) != id) continue;
    void* pcs[32];
    return arch::format_trace(pcs, arch::trace_thread(w.thread_id(), pcs, 32, patience));
  }
  return {};
}

std::uint64_t runtime_core::alive() const noexcept {
  // The ended ones first: the start of each happened before its end, and so is counted then.
  std::uint64_t ended = 0;
  for (const worker& w : workers_) ended += w.ended.load(memory_order_acquire);
  return started() - ended;
}

std::uint64_t runtime_core::started() const noexcept {
  std::uint64_t count = started_outside_.load(memory_order_relaxed);
  for (const worker& w : workers_) count += w.started.load(memory_order_relaxed);
  return count;
}

std::vector<fiber_info> runtime_core::fibers() const {
  const detail::scheduler_section looking;
  const detail::race_ignore own;
  std::vector<fiber_info> list;
  list.reserve(alive() + 16);
  const clock::time_point now = clock::now();
  slabs_.for_each([&](fiber& block) { list.push_back(info_of(block, now)); });
  std::ranges::sort(list, {}, &fiber_info::id);
  return list;
}

runtime_stats runtime_core::stats() const noexcept {
  runtime_stats stats;
  stats.workers = procs();
  stats.threads = threads_.load(memory_order_relaxed);
  stats.fibers_started = started();
  stats.fibers_alive = alive();
  stats.panics = panics_.load(memory_order_relaxed);
  for (const worker& w : workers_) {
    stats.steals += w.steals.load(memory_order_relaxed);
    stats.parks += w.sleeps.load(memory_order_relaxed);
    stats.withdrawals += w.withdrawals.load(memory_order_relaxed);
  }
  const blocking_pool::counts side = blocking_.stats();
  stats.blocking_threads = side.threads;
  stats.blocking_threads_idle = side.idle;
  stats.blocking_queued = side.queued;
  stats.blocking_completed = side.completed;
  return stats;
}

void runtime_core::report_panic(const error& what) noexcept {
  panics_.fetch_add(1, memory_order_relaxed);  // order: a count.
  panic_report report{.what = what, .fiber = 0, .name = {}, .started_at = {}};
  if (const detail::fiber_origin* const origin = what.origin()) {
    report.fiber = origin->id;
    report.name = origin->name;
    report.started_at = origin->started_at;
  } else if (const fiber* const running = this_fiber_block()) {
    report.fiber = running->id.load(memory_order_relaxed);
    report.name = running->name;
    report.started_at = running->started_at;
  }
  if (options_.panic_handler) {
    options_.panic_handler(report);
    return;
  }
  std::string text = "exeunt: panic: " + what.message() + "\n";
  if (report.fiber != 0) {
    text += "  in fiber " + std::to_string(report.fiber);
    if (!report.name.empty()) text += " \"" + report.name + "\"";
    text += ", started at " + place(report.started_at) + " (" + report.started_at.function_name() +
            ")\n";
  }
  if (!what.stack().empty()) text += "  thrown at\n" + std::string{what.stack()};
  log_line(text);
  if (options_.on_panic == on_panic::terminate) std::terminate();
}

error error_of_catch(const arch::throw_trace& trace) {
  detail::fiber_origin origin;
  if (const fiber* const running = this_fiber_block()) {
    // order: relaxed; it is the fiber's own.
    origin = {running->id.load(memory_order_relaxed), running->name, running->started_at};
  }
  return error::from_exception(std::current_exception(),
                               arch::format_trace(trace.pcs(), trace.depth()), std::move(origin));
}

}  // namespace exeunt::sched
