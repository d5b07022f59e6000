// SPDX-License-Identifier: Apache-2.0
// One simulation: a runtime of one worker whose time, chance and turns are ours.

#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/function.hpp>
#include <exeunt/sched/runtime.hpp>
#include <exeunt/sched/wait.hpp>
#include <exeunt/sim/bubble.hpp>

#include "poll/poller.hpp"
#include "sched/seam.hpp"
#include "sim/choices.hpp"
#include "sim/network_core.hpp"

namespace exeunt::sim {

/// What a schedule came to.
struct outcome {
  failure::reason why = failure::reason::check;
  std::string text;
  std::exception_ptr thrown;  ///< by the function itself
};

/// Whether the program's operators new and delete call count_bytes().
[[nodiscard]] bool bytes_are_counted();

/// Threads: made, used and destroyed by one thread; what is inside runs on its worker.
class world final : public detail::clock_source, public detail::fiber_chooser, public poll::poller {
 public:
  struct extras {
    bool traced = false;                       ///< events are written down
    bool checks_bytes = false;                 ///< see explore_options
    std::uint64_t turns = 0;                   ///< most in a schedule
    std::uint64_t turns_at_once = 10'000'000;  ///< most without time moving on
    /// Where the report has the function started.
    std::source_location started_at = std::source_location::current();
  };

  /// Of one that has abandoned fibers the memory is kept: what was made outside may still know
  /// them.
  struct ending {
    void operator()(world* over) const noexcept;
  };
  using owner = std::unique_ptr<world, ending>;
  /// `source` makes the choices, and outlives what runs.
  [[nodiscard]] static owner make(choices& source, extras with) {
    return owner{new world{source, with}};
  }
  world(const world&) = delete;
  world& operator=(const world&) = delete;

  /// Runs `f` once as the first fiber, then again as long as `again` says so. After each time
  /// `judge` is asked; it and `again` are called inside, between two schedules.
  /// Stops: when a schedule has failed, or has left something behind that only a new world is rid
  ///        of; `again` has been called for the next schedule then only if has_to_go_on().
  void run(function_ref<void()> f, function_ref<std::string()> judge, function_ref<bool()> again);

  /// How the last schedule failed, if it did.
  [[nodiscard]] const std::optional<outcome>& failed() const noexcept { return failed_; }
  /// Whether run() ended though `again` had said yes.
  [[nodiscard]] bool has_to_go_on() const noexcept { return has_to_go_on_; }
  /// One line for each event of the last schedule.
  [[nodiscard]] const std::string& trace() const noexcept { return trace_; }

  /// The one that the caller is a fiber of; null if it is none.
  [[nodiscard]] static world* current() noexcept;
  /// The one whose worker the calling thread is; null if it is none.
  [[nodiscard]] static world* of_this_thread() noexcept;
  /// By the worker's thread.
  void count_bytes(std::ptrdiff_t change) noexcept { bytes_ += change; }
  void settle();
  [[nodiscard]] network_core& sockets() noexcept { return sockets_; }

 private:
  world(choices& source, extras with);
  ~world() override = default;

  struct numbered {
    const void* what;
    std::size_t number;
  };

  // The scheduler's parts.
  clock::time_point now() noexcept override { return now_; }
  std::size_t choose(std::size_t ready_count) noexcept override;
  bool preempts(std::size_t others, const char* call, const void* on) noexcept override;
  bool breaks_off() noexcept override;
  bool nobody_ready(sched::runtime_core& home) noexcept override;
  std::uint32_t number() const noexcept override { return number_; }
  void uses_foreign(const char* call) noexcept override;
  void started(sched::fiber& fresh) noexcept override;
  void runs(sched::fiber& next) noexcept override;
  void woken_from_outside() noexcept override;
  std::uint32_t choose_below(std::uint32_t bound, std::uint32_t random) noexcept override;
  result<> add(int fd, std::uint64_t token) noexcept override;
  void remove(int fd) noexcept override;
  void close_own(int fd) noexcept override;
  std::size_t wait(poll::event* events, std::size_t room,
                   clock::time_point until) noexcept override;
  void wake() noexcept override;

  void drive(function_ref<void()> f, function_ref<std::string()> judge, function_ref<bool()> again);
  void run_once(function_ref<void()> f);
  [[nodiscard]] std::ptrdiff_t bytes_left() noexcept;
  void judge_end(std::string verdict);
  void judge_bytes(function_ref<void()> f, function_ref<std::string()> judge);
  void fail_with(failure::reason why, std::string text, std::exception_ptr thrown = {});
  void fail_by(const char* how, const error& escaped, std::exception_ptr thrown = {});
  [[nodiscard]] std::string dump();
  [[nodiscard]] std::string name_of(const sched::fiber& which);
  [[nodiscard]] std::string with_number(std::string what, const void* on);
  [[nodiscard]] std::size_t number_of(std::vector<numbered>& all, const void* what);
  void note(const std::string& event);
  void note_leaving();

  void count_turn() noexcept;

  choices& choices_;
  const extras with_;
  const std::uint32_t number_;
  std::uint64_t turns_ = 0;          // Of the schedule, and calls at which one could have begun;
  std::uint64_t turns_at_once_ = 0;  // of them since time moved on.
  std::ptrdiff_t bytes_ = 0;         // Allocated and not freed, by the worker's thread;
  std::ptrdiff_t bytes_before_ = 0;  // when the last schedule began.
  clock::time_point now_ = epoch;
  bool main_over_ = false;
  bool preempted_ = false;  // The next choice has been made, by preempts().
  std::uint32_t preempted_for_ = 0;
  bool was_preempted_ = false;
  std::string preempted_before_;  // What; if traced.
  bool has_to_go_on_ = false;
  std::optional<outcome> failed_;
  bool broken_off_ = false;           // Nobody runs any more but the driver.
  detail::ticket* driver_ = nullptr;  // Of the fiber that drives, while it waits.
  std::vector<detail::ticket*> settling_;
  sched::runtime_core* home_ = nullptr;

  std::string trace_;
  std::vector<numbered> fibers_;
  std::vector<numbered> things_;
  const sched::fiber* last_ = nullptr;
  const sched::fiber* driver_block_ = nullptr;

  detail::atomic<std::uint32_t> sealed_{0};
  detail::atomic<std::uint32_t> woken_{0};  // Of the poller: a futex.
  detail::atomic<std::uint32_t> done_{0};   // A futex, too.
  network_core sockets_;
  detail::seam parts_;
  std::optional<runtime> runtime_;
};

}  // namespace exeunt::sim
