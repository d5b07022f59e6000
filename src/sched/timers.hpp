// SPDX-License-Identifier: Apache-2.0
// A runtime's deadlines, in order.

#pragma once

#include <cstddef>
#include <cstdint>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/clock.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/cancel.hpp>
#include <exeunt/sched/timer_node.hpp>

namespace exeunt::sched {
class runtime_core;
class runtime_hold;
}  // namespace exeunt::sched

namespace exeunt::detail {

/// Nodes know their places: nothing is left behind by a stop.
///
/// Most timers are stopped before they are due, so a fresh one is only noted down, and joins the
/// others in their order, a 4-ary heap, when many have come after it or one is due.
///
/// Cost:    start and stop of a fresh node do not depend on how many there are; else O(log n).
/// Threads: all members, any thread.
class timer_queue {
 public:
  /// A queue for `home`. Queues are never freed, nor given to another runtime (300 bytes for each
  /// runtime that has been, with its end): a node keeps the address of the one that started it
  /// first, and may outlive that runtime.
  /// Throws: std::bad_alloc.
  [[nodiscard]] static timer_queue& open(sched::runtime_core& home);
  /// Forgets the nodes that are left: their owners find them stopped. Again: nothing.
  void close() noexcept;
  timer_queue(const timer_queue&) = delete;
  timer_queue& operator=(const timer_queue&) = delete;

  struct started {
    bool closed = false;      ///< the queue is: nothing was done
    bool was_queued = false;  ///< the node was started before
    /// If it fires before all others: its runtime, to be told; not destroyed before `hold`.
    sched::runtime_core* earliest_of = nullptr;
  };
  started start(timer_node& node, clock::time_point when, sched::runtime_hold& hold) noexcept;
  bool stop(timer_node& node) noexcept;

  /// What is cancelled when the queue's runtime has stopped. Lives as long as the queue: for ever.
  [[nodiscard]] cancel_node& end() const noexcept { return *end_; }

  /// The runtime, which is not destroyed before `hold`; null if it has stopped.
  [[nodiscard]] sched::runtime_core* find_home(sched::runtime_hold& hold) noexcept;

  /// When the first is due; no_deadline if there is none. Cost: one load.
  [[nodiscard]] clock::time_point next() const noexcept {
    // order: seq_cst, the sleeper's half of the handshake with start() (see idle.cpp).
    return clock::time_point{clock::duration{next_.load(memory_order_seq_cst)}};
  }

  /// Fires all that are due at `now`. Returns: how many.
  std::size_t fire_due(clock::time_point now) noexcept;

 private:
  // With the deadline at hand, so that to compare two of them is not to look into their nodes.
  struct entry {
    clock::time_point when;
    timer_node* node;
  };

  void resize(std::size_t capacity) noexcept;
  void add(timer_node& node, clock::time_point when) noexcept;
  void remove(timer_node& node) noexcept;
  void sort_in() noexcept;
  void place(std::size_t index, const entry& placed) noexcept;
  void up(std::size_t index, const entry& placed) noexcept;
  void down(std::size_t index, const entry& placed) noexcept;
  void put_in_order(std::size_t index, const entry& placed) noexcept;
  [[nodiscard]] clock::time_point first() const noexcept;
  [[nodiscard]] clock::time_point next_unordered() const noexcept;
  void move_next_back() noexcept;
  void fire_some(clock::time_point now, std::size_t& fired) noexcept;
  static bool before(const entry& a, const entry& b) noexcept;

  timer_queue() = default;
  ~timer_queue() = default;

  const ref_ptr<cancel_node> end_ = cancel_node::make(nullptr);
  sched::runtime_core* home_ = nullptr;  // Under lock_; null once closed.
  timer_queue* next_closed_ = nullptr;
  spin_lock lock_;
  entry* entries_ = nullptr;
  std::size_t size_ = 0;
  std::size_t sorted_ = 0;  // So many entries are the heap; the others are fresh.
  std::size_t capacity_ = 0;
  std::uint64_t order_ = 0;
  atomic<clock::rep> next_{no_deadline.time_since_epoch().count()};
};

}  // namespace exeunt::detail
