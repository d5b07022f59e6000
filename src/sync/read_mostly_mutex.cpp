// SPDX-License-Identifier: Apache-2.0
// The readers-writer lock whose readers count themselves each on their own CPU's line.
//
// After the distributed counts of "BRAVO: Biased Locking for Reader-Writer Locks" (Dice and Kogan,
// 2019) and Linux's percpu-rwsem; here the lock below, turns_, only says who is next.
//
// A reader *enters* by adding to a count and then finding writer_ clear; if it is set, the reader
// takes the count back and queues at turns_. One that is let in there counts itself and lets go of
// turns_: whoever reads is in the counts, and in nothing else. A writer takes turns_ alone, sets
// writer_, and waits for the sum to be zero.
//
// Invariants:
//   I1  writer_ is set only by the writer that holds turns_ alone.
//   I2  Once writer_ is set, no reader enters, and each that reads is counted: it added before it
//       found writer_ clear, and all four accesses are sequentially consistent; or it held turns_.
//   I3  So a sum taken while writer_ is set misses no entry. It may count one that fails, before it
//       is taken back from the same count, never the taking back alone. A count that somebody else
//       takes down is in the sum with the entry that it undoes. Hence a sum of zero means that
//       nobody reads, and one below zero that somebody unlocked what it had not locked.
//   I4  Whoever takes a count down looks at writer_ afterwards, and if it is set, at the sum, under
//       queue_lock_. The writer looks at the sum under queue_lock_ before it waits. So the last
//       to leave is seen by the writer, or sees it.
// Locks: queue_lock_ is a leaf among locks of sources; the writer's ticket is claimed under it.
// Wake-ups: the waiting writer by the last reader to leave, after queue_lock_ is released; others
//   as turns_ has it.
// Tests: tests/sync/shared_mutex_test.cpp, locks_race_test.cpp, locks_stress_test.cpp;
//   tests/sim/covered_locks_test.cpp explores small worlds.

#include <exeunt/sync/read_mostly_mutex.hpp>

#include <sched.h>
#if __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#endif

#include <exeunt/base/assert.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/context/context.hpp>

#include "sync/lock_watch.hpp"
#include "sync/park_until.hpp"

namespace exeunt {

using detail::memory_order_release;
using detail::memory_order_seq_cst;
using detail::order_watch;
using detail::queued_waiter;
using detail::spin_guard;
using detail::wait_end;

namespace {

// The CPU that runs this thread, or a guess: whatever this says is right. Not inlined, since the
// thread may be another after a park, and the compiler takes its address for a constant.
[[gnu::noinline]] unsigned this_cpu() noexcept {
#if __has_include(<sys/rseq.h>)
  // The kernel keeps it up to date in the thread's own memory: 1 ns, where sched_getcpu(), which
  // asks the CPU, takes 5.
  if (__rseq_size != 0) {
    const auto* const own = reinterpret_cast<const volatile struct rseq*>(
        static_cast<const char*>(__builtin_thread_pointer()) + __rseq_offset);
    return own->cpu_id_start;
  }
#endif
  return static_cast<unsigned>(::sched_getcpu());
}

detail::lock_name name_of(const read_mostly_mutex* lock) noexcept {
  return {lock, detail::lock_form::read_mostly};
}

}  // namespace

read_mostly_mutex::shard& read_mostly_mutex::this_shard() noexcept {
  // A simulation repeats, and tries readers that unlock elsewhere.
  if (detail::any_simulation() && detail::is_simulated()) {
    return shards_[detail::choose_below(2)];
  }
  return shards_[this_cpu() % shards];
}

bool read_mostly_mutex::enter() noexcept {
  if (writer_.load(detail::memory_order_relaxed) != 0) return false;  // order: spares a failure.
  shard& here = this_shard();
  // order: seq_cst, with the store in acquire(), as I2 says; the second acquires the release of the
  // last writer in let_go().
  here.readers.fetch_add(1, memory_order_seq_cst);
  if (__builtin_expect(writer_.load(memory_order_seq_cst) == 0, 1)) return true;
  leave(here);
  return false;
}

void read_mostly_mutex::leave(shard& in) noexcept {
  // order: seq_cst, as I4 says; releases what the reader did, to the writer that takes the sum.
  in.readers.fetch_sub(1, memory_order_seq_cst);
  if (__builtin_expect(writer_.load(memory_order_seq_cst) == 0, 1)) return;
  spin_guard guard{queue_lock_};
  if (queue_.empty() || !all_left()) return;
  const queued_waiter* const writer = queue_.claim_first();
  if (writer == nullptr) return;  // It has given up.
  const detail::wakeup due = writer->due;
  guard.unlock();
  due.fire();
}

// From one that turns_ has let in to one that is counted.
void read_mostly_mutex::convert() noexcept {
  // order: relaxed would do; the writer has it from turns_.
  this_shard().readers.fetch_add(1, memory_order_seq_cst);
  turns_.let_go_shared();
}

bool read_mostly_mutex::all_left() const noexcept {
  std::int64_t sum = 0;
  // order: seq_cst, as I4 says; acquires what the readers did that have left.
  for (const shard& one : shards_) sum += one.readers.load(memory_order_seq_cst);
  if (sum < 0) detail::fatal("unlock_shared of unlocked read_mostly_mutex");
  return sum == 0;
}

void read_mostly_mutex::let_go(bool writer_first) noexcept {
  // order: release, pairs with the acquire in enter().
  writer_.store(0, memory_order_release);
  turns_.let_go(writer_first);
}

wait_end read_mostly_mutex::acquire(detail::cancel_node* cancel,
                                    clock::time_point deadline) noexcept {
  if (!turns_.take()) {
    const wait_end end = turns_.acquire(cancel, deadline);
    if (end != wait_end::claimed) return end;
  }
  writer_.store(1, memory_order_seq_cst);
  const wait_end end = wait_for_readers(cancel, deadline);
  if (end != wait_end::claimed) let_go(true);
  return end;
}

wait_end read_mostly_mutex::wait_for_readers(detail::cancel_node* cancel,
                                             clock::time_point deadline) noexcept {
  if (all_left()) return wait_end::claimed;
  detail::checkpoint();
  detail::ticket several;
  queued_waiter self{several};
  {
    const spin_guard guard{queue_lock_};
    if (all_left()) return wait_end::claimed;
    queue_.push_back(self);
  }
  const wait_end end =  // Woken by: leave(), the context, the timer.
      detail::park_until(several, self, cancel, deadline, detail::wait_reason::shared_mutex, this);
  const spin_guard guard{queue_lock_};
  if (self.linked()) queue_.remove(self);
  return end;
}

wait_end read_mostly_mutex::acquire_shared(detail::cancel_node* cancel,
                                           clock::time_point deadline) noexcept {
  if (enter()) return wait_end::claimed;
  if (!turns_.take_shared()) {
    const wait_end end = turns_.acquire_shared(cancel, deadline);
    if (end != wait_end::claimed) return end;
  }
  convert();
  return wait_end::claimed;
}

// What ThreadSanitizer is told, here and in the members below only: writers release this object and
// readers shards_; readers acquire this object, and writers both.
void read_mostly_mutex::told_to_writer() const noexcept {
  detail::race_acquire(this);
  detail::race_acquire(&shards_);
}

void read_mostly_mutex::lock() noexcept {
  const order_watch watch{"read_mostly_mutex lock", order_, name_of(this)};
  watch.may_wait();
  static_cast<void>(acquire(nullptr, no_deadline));
  told_to_writer();
  watch.took();
}

result<> read_mostly_mutex::lock(const context& ctx) noexcept {
  const order_watch watch{"read_mostly_mutex lock", order_, name_of(this)};
  const result<> locked = detail::acquire_until(ctx, [&](detail::cancel_node* cancel) {
    watch.may_wait();
    return acquire(cancel, no_deadline);
  });
  if (!locked) return locked;
  told_to_writer();
  watch.took();
  return locked;
}

bool read_mostly_mutex::try_lock() noexcept {
  const order_watch watch{"read_mostly_mutex lock", order_, name_of(this)};
  if (!turns_.take()) return false;
  writer_.store(1, memory_order_seq_cst);
  if (!all_left()) {
    let_go(true);
    return false;
  }
  told_to_writer();
  watch.took();
  return true;
}

bool read_mostly_mutex::try_lock_for(clock::duration d) noexcept {
  return d > clock::duration::zero() ? try_lock_until(deadline_after(d)) : try_lock();
}

bool read_mostly_mutex::try_lock_until(clock::time_point deadline) noexcept {
  if (deadline <= clock::now()) return try_lock();
  const order_watch watch{"read_mostly_mutex lock", order_, name_of(this)};
  watch.may_wait();
  if (acquire(nullptr, deadline) != wait_end::claimed) return false;
  told_to_writer();
  watch.took();
  return true;
}

void read_mostly_mutex::unlock() noexcept {
  if (detail::is_watched()) [[unlikely]]
    detail::watch_unlock("read_mostly_mutex unlock", this, order_);
  // order: relaxed; set by the caller's own lock(), if he keeps the rules.
  if (writer_.load(detail::memory_order_relaxed) == 0) {
    detail::fatal("unlock of a read_mostly_mutex that no writer holds");
  }
  detail::race_release(this);
  let_go();
}

void read_mostly_mutex::lock_shared() noexcept {
  const order_watch watch{"read_mostly_mutex lock_shared", order_, name_of(this), true};
  watch.may_wait();
  static_cast<void>(acquire_shared(nullptr, no_deadline));
  detail::race_acquire(this);
  watch.took();
}

result<> read_mostly_mutex::lock_shared(const context& ctx) noexcept {
  const order_watch watch{"read_mostly_mutex lock_shared", order_, name_of(this), true};
  const result<> locked = detail::acquire_until(ctx, [&](detail::cancel_node* cancel) {
    watch.may_wait();
    return acquire_shared(cancel, no_deadline);
  });
  if (!locked) return locked;
  detail::race_acquire(this);
  watch.took();
  return locked;
}

bool read_mostly_mutex::try_lock_shared() noexcept {
  const order_watch watch{"read_mostly_mutex lock_shared", order_, name_of(this), true};
  if (!enter()) {
    if (!turns_.take_shared()) return false;
    convert();
  }
  detail::race_acquire(this);
  watch.took();
  return true;
}

bool read_mostly_mutex::try_lock_shared_for(clock::duration d) noexcept {
  const order_watch watch{nullptr, order_, name_of(this), true};
  if (d > clock::duration::zero()) watch.may_wait();
  return try_lock_shared() ||
         (d > clock::duration::zero() && try_lock_shared_until(deadline_after(d)));
}

bool read_mostly_mutex::try_lock_shared_until(clock::time_point deadline) noexcept {
  const order_watch watch{nullptr, order_, name_of(this), true};
  watch.may_wait(deadline);
  if (try_lock_shared()) return true;
  if (deadline <= clock::now()) return false;
  if (acquire_shared(nullptr, deadline) != wait_end::claimed) return false;
  detail::race_acquire(this);
  watch.took();
  return true;
}

void read_mostly_mutex::unlock_shared() noexcept {
  if (detail::is_watched()) [[unlikely]]
    detail::watch_unlock("read_mostly_mutex unlock_shared", this, order_, true);
  detail::race_release(&shards_);
  leave(this_shard());
}

}  // namespace exeunt
