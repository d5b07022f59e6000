// SPDX-License-Identifier: Apache-2.0
// One thread's loop: run what is ready, steal, look at timers and descriptors, sleep.

#pragma once

#include <cstddef>
#include <cstdint>
#include <thread>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/clock.hpp>
#include <exeunt/base/intrusive_list.hpp>
#include <exeunt/base/random.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/wait.hpp>

#include "arch/eh_state.hpp"
#include "arch/sanitizer.hpp"
#include "arch/stack.hpp"
#include "sched/fiber.hpp"
#include "sched/run_queue.hpp"

namespace exeunt::sched {

class runtime_core;
class worker;

struct idle_tag;

/// What is done for a fiber that was just left, on the stack that runs next: only then may others
/// see it as parked. It lies on the stack that was left: once `act` has let others see the fiber,
/// the fiber may run, and nothing of this may be read.
struct after_switch {
  void (*act)(worker& here, fiber& left, const after_switch& after) noexcept = nullptr;
  void* argument = nullptr;
  void* argument_2 = nullptr;
  void (*release)(void*) noexcept = nullptr;
};

class worker : public detail::list_hook<idle_tag> {
 public:
  worker(runtime_core& home, unsigned index, unsigned procs, std::uint64_t seed);
  worker(const worker&) = delete;
  worker& operator=(const worker&) = delete;

  /// The thread's whole life.
  void loop() noexcept;

  /// Leaves the running fiber and goes on with the next ready one, or with the loop. `act` is then
  /// called off the fiber's stack.
  /// Returns: when the fiber is run again, possibly by another worker.
  static void leave(worker* here, const after_switch& act) noexcept;
  /// As leave(), for good.
  [[noreturn]] static void leave_for_good(worker* here, const after_switch& act) noexcept;

  /// Owner only: makes `ready` the next to run; what was next goes to the queue.
  void push_next(fiber& ready) noexcept;
  /// Owner only: to the end of the queue, or to the shared one if that is full.
  void push_last(fiber& ready) noexcept;
  /// Owner only: the same for the fiber that was just left by a yield.
  void push_yielded(fiber& ready) noexcept;
  /// Any thread, for forced migration: a queue only this worker takes from.
  void push_mail(fiber& ready) noexcept;

  /// True if the running fiber's turn is over, and somebody else is ready or may be.
  bool turn_is_over() noexcept;
  /// Any thread: true if a fiber is next to run here, and this worker stays with the one it runs.
  /// False: there was none at a moment during the call.
  bool next_is_stuck() const noexcept;

  fiber* running() const noexcept { return running_; }
  runtime_core& home() const noexcept { return home_; }
  unsigned index() const noexcept { return index_; }
  detail::random_source& random() noexcept { return random_; }
  clock::time_point last_look() const noexcept { return last_look_; }

  /// Owner only: a control block from the worker's cache.
  fiber* get_block();
  void put_block(fiber& block) noexcept;

  arch::stack_cache& stacks() noexcept { return stacks_; }

  /// Owner only: an id that no other fiber of the process has had.
  std::uint64_t take_id() noexcept;

 private:
  friend class runtime_core;

  fiber* take_local() noexcept;
  fiber* take_chosen() noexcept;
  fiber* find_ready() noexcept;
  fiber* search() noexcept;
  void queue_rest(fiber* rest) noexcept;
  fiber* take_shared(std::size_t most) noexcept;
  bool has_backlog() noexcept;
  bool look_around(bool at_descriptors) noexcept;
  fiber* take_mail() noexcept;
  fiber* steal_from(worker& victim, bool also_next) noexcept;
  fiber* swap_next(fiber* with) noexcept;
  void make_room() noexcept;
  bool stays() const noexcept;
  void bind_stack(fiber& fresh) noexcept;
  void run(fiber& next) noexcept;
  void* choose_target(arch::san_context*& target) noexcept;
  static void check_unguarded(const fiber& self) noexcept;
  void finish_switch() noexcept;
  void* enter(fiber& next) noexcept;
  static void fiber_entry(void* block, void* message);

  runtime_core& home_;
  const unsigned index_;
  const bool alone_;     // The runtime's only worker: nobody steals.
  const bool is_plain_;  // Neither a chooser nor forced migration.
  detail::random_source random_;

  // The switch.
  fiber* running_ = nullptr;
  void* loop_sp_ = nullptr;
  const after_switch* after_ = nullptr;
  fiber* left_ = nullptr;  // Of after_.
  void* eh_globals_ = nullptr;
  arch::eh_state loop_eh_;
  arch::san_context loop_san_;

  // What is ready.
  detail::atomic<fiber*> next_{nullptr};
  detail::atomic<std::uint32_t> turns_{0};  // Switches so far: tells thieves who is stuck.
  run_queue queue_;
  std::uint32_t until_look_ = 0;  // So many turns until the next look around.
  std::uint32_t looks_without_poll_ = 0;
  std::uint32_t next_turns_ = 0;  // Runs from next_ in a row.
  std::uint32_t operations_ = 0;  // Checkpoints since the last switch.
  clock::time_point last_look_{};
  detail::spin_lock mail_lock_;
  fiber* mail_first_ = nullptr;
  fiber* mail_last_ = nullptr;
  detail::atomic<bool> has_mail_{false};

  // Caches.
  arch::stack_cache stacks_;
  std::uint64_t next_id_ = 0;  // Fibers' ids are taken in blocks.
  std::uint64_t ids_end_ = 0;
  fiber* free_blocks_ = nullptr;
  std::uint32_t free_count_ = 0;

  // Sleep. idle_ is under the runtime's idle lock.
  bool searching_ = false;
  bool idle_ = false;
  detail::atomic<std::uint32_t> woken_{0};

  std::thread thread_;

 public:
  // Counters, written by the owner alone.
  detail::atomic<std::uint64_t> started{0};  ///< fibers
  detail::atomic<std::uint64_t> ended{0};
  detail::atomic<std::uint64_t> steals{0};
  detail::atomic<std::uint64_t> sleeps{0};
};

}  // namespace exeunt::sched
