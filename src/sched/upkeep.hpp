// SPDX-License-Identifier: Apache-2.0
// What keeps things that may be needed again, and gives them back when they were not.

#pragma once

#include <exeunt/base/clock.hpp>
#include <exeunt/base/intrusive_list.hpp>

namespace exeunt::sched {

class blocking_pool;

/// Is called once in a while by whichever runtime there is, on a thread of its side pool, as long
/// as it has something. Without a runtime nobody calls it; nor one that began in a simulation.
/// Whether it has something is asked while a worker is busy, and when the last one begins to idle.
///
/// Threads:  begin() and end() are the owner's.
/// Ordering: a call happens before the next one, and before the return of end().
class upkeep : public detail::list_hook<struct upkeep_tag> {
 public:
  explicit upkeep(clock::duration every) noexcept : every_{every} {}
  upkeep(const upkeep&) = delete;
  upkeep& operator=(const upkeep&) = delete;

  /// From now on it is called. Once. Throws: std::bad_alloc.
  void begin();
  /// No more. To be called before the derived part goes.
  /// Blocks: while a call is under way.
  void end() noexcept;

 protected:
  ~upkeep() = default;

  /// Whether there is something to give back. Cheap; under a lock that is a leaf.
  [[nodiscard]] virtual bool has_some() const noexcept = 0;
  /// Never two at once.
  virtual void call() noexcept = 0;

 private:
  struct job;
  friend clock::time_point keep_up(clock::time_point now, blocking_pool& threads) noexcept;

  const clock::duration every_;
  // Under the list's lock:
  clock::time_point due_ = no_deadline;
  job* job_ = nullptr;  // Null: not begun.
};

/// Has those called that are due, by `threads`.
/// Returns: when the next one is; no_deadline if none has anything.
clock::time_point keep_up(clock::time_point now, blocking_pool& threads) noexcept;

}  // namespace exeunt::sched
