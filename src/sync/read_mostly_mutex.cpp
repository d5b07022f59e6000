// SPDX-License-Identifier: Apache-2.0
// The readers-writer lock whose readers count themselves each on their own worker's line.
//
// After the distributed counts of "BRAVO: Biased Locking for Reader-Writer Locks" (Dice and Kogan,
// 2019) and Linux's percpu-rwsem, whose readers pay for no fence either; here the lock below,
// turns_, only says who is next.
//
// A reader *enters* by adding to a count and then finding that nobody writes; if somebody does, the
// reader takes the count back and queues at turns_. One that is let in there counts itself and lets
// go of turns_: whoever reads is in the counts, and in nothing else. A writer takes turns_ alone,
// sets mode_ to `writing`, and waits for the sum to be zero.
//
// Between the addition and the look there must be a fence. In mode `fenced` it is the addition, a
// locked instruction. In mode `unfenced` there is none on a worker, which alone adds to its count;
// the writer that ends this mode pays by heavy_fence() for all of them. A successful writer leaves
// the mode `fenced` behind, and readers open it again when they are worth a heavy fence.
//
// Invariants:
//   I1  Only the writer that holds turns_ alone sets the mode to `writing`, and to anything from
//       there. From `fenced` to `unfenced` a reader that is counted sets it.
//   I2  A reader has entered by finding `unfenced` after a plain addition, or not `writing` after a
//       fenced one. So once a writer has set `writing`, and fenced heavily if it was `unfenced`,
//       nobody enters, and each that reads is counted, where all can see it; or it held turns_.
//   I3  So a sum taken after that misses no entry. It may count one that fails, before it is taken
//       back from the same count, never the taking back alone. A count that somebody else takes
//       down is in the sum with the entry that it undoes. Hence a sum of zero means that nobody
//       reads, and one below zero that somebody unlocked what it had not locked.
//   I4  Whoever takes a count down looks at mode_ afterwards, and if it is `writing`, at the sum,
//       under queue_lock_. The writer looks at the sum under queue_lock_ before it waits. So the
//       last to leave is seen by the writer, or sees it: with a plain store as with a fenced one,
//       as I2 has it. Between that store, in mode `unfenced`, and the look the mode becomes
//       `fenced` only by a writer that has seen the store. A writer that gives up has not, maybe,
//       and so leaves the mode that it found.
//   I5  What a worker stores to its own count nobody else stores to; see turn_lease.
// Locks: queue_lock_ is a leaf among locks of sources; the writer's ticket is claimed under it.
// Wake-ups: the waiting writer by the last reader to leave, after queue_lock_ is released; others
//   as turns_ has it.
// Tests: tests/sync/shared_mutex_test.cpp, locks_race_test.cpp, locks_stress_test.cpp,
//   values_litmus_test.cpp; tests/sim/covered_locks_test.cpp explores small worlds;
//   models/read_mostly.pml proves I2 to I4 with store buffers.

#include <exeunt/sync/read_mostly_mutex.hpp>

#include <sched.h>
#include <algorithm>
#if __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#endif

#include <exeunt/base/assert.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/context/context.hpp>

#include "sched/fence.hpp"
#include "sync/lock_watch.hpp"
#include "sync/park_until.hpp"

namespace exeunt {

using detail::memory_order_relaxed;
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

// What is a fair price of a heavy fence. After a time so much longer than itself it is no matter,
// and the lock is open again for the next reader. Else as many readers as have paid as much open
// it, with what a reader saves by it (docs/decisions/0026).
constexpr int long_for = 4;
constexpr clock::duration saved_by_reader{8};
#ifdef EXEUNT_DCHECKS  // So that tests see both modes.
constexpr clock::rep patience_min = 2;
constexpr clock::rep patience_max = 8;
#else
constexpr clock::rep patience_min = 32;
constexpr clock::rep patience_max = 4096;
#endif

detail::lock_name name_of(const read_mostly_mutex* lock) noexcept {
  return {lock, detail::lock_form::read_mostly};
}

}  // namespace

// For a fenced addition: the own one of who has one, which only he may add to without a fence.
read_mostly_mutex::shard& read_mostly_mutex::any_shard() noexcept {
  const detail::turn* const me = detail::workers_turn();
  if (me == nullptr || me->number >= workers_max) {
    return shards_[workers_max + this_cpu() % shards_of_others];
  }
  // A simulation repeats, and tries readers that unlock elsewhere.
  if (detail::any_simulation() && detail::is_simulated() && detail::choose_below(2) == 1) {
    return shards_[workers_max];
  }
  return shards_[me->number];
}

bool read_mostly_mutex::enter() noexcept {
  if (enter_alone()) return true;
  if (mode_.load(memory_order_relaxed) == mode::writing) return false;  // order: spares a failure.
  shard& in = any_shard();
  // order: seq_cst, with the exchange in close(), as I2 says.
  in.readers.fetch_add(1, memory_order_seq_cst);
  return has_entered(in);
}

// Of who has added without a fence, and found the mode changed.
bool read_mostly_mutex::stays_after_fence(shard& in) noexcept {
  detail::atomic_fence();
  return has_entered(in);
}

// Of who has counted himself, and fenced.
bool read_mostly_mutex::has_entered(shard& in) noexcept {
  // order: seq_cst, as I2 says; acquires the release of the last writer.
  const mode now = mode_.load(memory_order_seq_cst);
  if (now == mode::writing) {
    leave(in);
    return false;
  }
  if (now == mode::fenced) note_fenced(in);
  return true;
}

// Opens the lock if the fences of those that were here were as dear as one heavy fence.
void read_mostly_mutex::note_fenced(shard& in) noexcept {
  // order: relaxed, all; the count is a hint where several write it, and the opening is seen or
  // not.
  const std::uint32_t count = in.fenced.load(memory_order_relaxed) + 1;
  in.fenced.store(count, memory_order_relaxed);
  if (count < patience_.load(memory_order_relaxed)) return;
  if (!sched::fences_are_asymmetric.load(memory_order_relaxed)) return;
  in.fenced.store(0, memory_order_relaxed);
  opened_at_.store(clock::now(), memory_order_relaxed);
  mode expected = mode::fenced;
  mode_.compare_exchange_strong(expected, mode::unfenced, memory_order_relaxed,
                                memory_order_relaxed);
}

void read_mostly_mutex::leave() noexcept { leave(any_shard()); }

void read_mostly_mutex::leave(shard& in) noexcept {
  // order: seq_cst, as I4 says; releases what the reader did, to the writer that takes the sum.
  in.readers.fetch_sub(1, memory_order_seq_cst);
  if (mode_.load(memory_order_seq_cst) == mode::writing) tell_writer();
}

// That a reader has left, who may be the last.
void read_mostly_mutex::tell_writer() noexcept {
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
  any_shard().readers.fetch_add(1, memory_order_seq_cst);
  turns_.let_go_shared();
}

bool read_mostly_mutex::all_left() const noexcept {
  std::int64_t sum = 0;
  // order: seq_cst, as I4 says; acquires what the readers did that have left.
  for (const shard& one : shards_) sum += one.readers.load(memory_order_seq_cst);
  if (sum < 0) detail::fatal("unlock_shared of unlocked read_mostly_mutex");
  return sum == 0;
}

// What a heavy fence took, and how long the lock had been open before: when to open it again.
void read_mostly_mutex::note_heavy(clock::duration took, clock::duration open_for) noexcept {
  const auto as_dear = std::clamp<clock::rep>(took / saved_by_reader, patience_min, patience_max);
  // order: relaxed; a hint.
  patience_.store(open_for >= long_for * took ? 1 : static_cast<std::uint32_t>(as_dear),
                  memory_order_relaxed);
}

// By the writer that holds turns_: nobody enters any more. Returns: the mode before.
read_mostly_mutex::mode read_mostly_mutex::close() noexcept {
  const mode before = mode_.exchange(mode::writing, memory_order_seq_cst);  // order: see enter().
  if (before == mode::unfenced) {
    const clock::time_point start = clock::now();
    sched::heavy_fence();
    // order: relaxed, both; hints.
    note_heavy(clock::now() - start, start - opened_at_.load(memory_order_relaxed));
  }
  return before;
}

// Of a writer that has closed the lock, and has not read or written.
void read_mostly_mutex::give_up(mode before) noexcept {
  mode_.store(before, memory_order_release);  // order: goes on with the last writer's release.
  turns_.let_go(true);
}

wait_end read_mostly_mutex::acquire(detail::cancel_node* cancel,
                                    clock::time_point deadline) noexcept {
  if (!turns_.take()) {
    const wait_end end = turns_.acquire(cancel, deadline);
    if (end != wait_end::claimed) return end;
  }
  const mode before = close();
  const wait_end end = wait_for_readers(cancel, deadline);
  if (end != wait_end::claimed) give_up(before);
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
  const mode before = close();
  if (!all_left()) {
    give_up(before);
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
  if (mode_.load(memory_order_relaxed) != mode::writing) {
    detail::fatal("unlock of a read_mostly_mutex that no writer holds");
  }
  detail::race_release(this);
  mode_.store(mode::fenced, memory_order_release);  // order: pairs with enter().
  turns_.let_go();
}

void read_mostly_mutex::lock_shared_slowly() noexcept {
  static_cast<void>(acquire_shared(nullptr, no_deadline));
}

void read_mostly_mutex::lock_shared_watched() noexcept {
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

}  // namespace exeunt
