// SPDX-License-Identifier: Apache-2.0
// Readers that count themselves by plain stores, and a writer that pays for their fences. Proves I2
// to I4 of read_mostly_mutex.cpp: nobody reads while somebody writes, and no wake-up is lost.
//
//   here                        src/sync/read_mostly_mutex.cpp, include/exeunt/sync/read_mostly_mutex.hpp
//   reader                      enter() and leave(), ROUNDS times, each with a count of its own
//   ELSEWHERE                   a reader's last leave() is by another thread, at a third count
//   writer                      acquire(), try_lock(), unlock() and give_up(), WRITES times
//   HEAVY_FENCE                 heavy_fence() of fence.cpp: membarrier(2)
//
// Memory. A thread's plain stores to its count wait in a buffer of two until they are flushed, at
// any time, one by one; its loads do not wait for them. Locked instructions, and the lock of the
// queue, flush the buffer of who executes them; a heavy fence flushes everybody's, as the kernel's
// interrupt does.
//
// Abstracted: turns_. There is one writer at a time, and a reader that does not get in comes again
// when nobody writes. Any fenced reader may open the lock. The writer gives up whenever it likes.
//
// Properties: never `inside` > 0 with `writing`; everybody comes to an end.
// States and mutations: models/run lists both; -DBREAK=n, see there.

#ifndef BREAK
#define BREAK 0
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef WRITES
#define WRITES 2
#endif
#define READERS 2
#define COUNTS 3            // One of each reader, and one for who leaves elsewhere.
#define NONE 9

#define FENCED 0
#define WRITING 1
#define UNFENCED 2

byte mode = FENCED;
short count[COUNTS];        // As others see it.
short older[COUNTS];        // In the buffer: values, or NONE.
short younger[COUNTS];
bit queue_lock;
bit waits;                  // The writer is in the queue.
bit woken;
byte inside;                // Ghosts.
bit writing;

inline flush_one(t) {
  if
  :: older[t] != NONE -> count[t] = older[t]; older[t] = younger[t]; younger[t] = NONE
  :: else
  fi
}

inline store_count(t, v) {
  atomic {
    younger[t] == NONE ->
    if
    :: older[t] == NONE -> older[t] = v
    :: else -> younger[t] = v
    fi
  }
}

// A locked addition; the result is `v`, as nobody else adds to this count.
inline locked_store(t, v) {
  d_step { flush_one(t); flush_one(t); count[t] = v }
}

inline HEAVY_FENCE() {
  d_step {
    u = 0;
    do
    :: u < COUNTS -> flush_one(u); flush_one(u); u++
    :: else -> break
    od;
    u = 0
  }
}

// By the thread of count t, or by the writer with t == COUNTS.
inline lock_queue(t) {
  atomic {
    queue_lock == 0 -> queue_lock = 1;
    if
    :: t < COUNTS -> flush_one(t); flush_one(t)
    :: else
    fi
  }
}

// The counts are looked at one after the other.
inline take_sum() {
  sum = 0;
  u = 0;
  do
  :: u < COUNTS -> sum = sum + count[u]; u++
  :: else -> break
  od;
  u = 0;
  assert(sum >= 0)
}

inline tell_writer(t) {
  lock_queue(t);
  if
  :: waits ->
     take_sum();
     if
     :: sum == 0 -> waits = 0; woken = 1
     :: else
     fi
  :: else
  fi;
  queue_lock = 0
}

// Leaves at count t, whose value becomes v. seen is the caller's.
inline leave_at(t, v) {
  inside--;
  seen = mode;
  if
  :: seen == UNFENCED ->
     store_count(t, v);
#if BREAK != 3
     seen = mode;
#endif
  :: else ->
     locked_store(t, v);
     seen = mode
  fi;
  if
  :: seen == WRITING -> tell_writer(t)
  :: else
  fi
}

chan to_other = [READERS] of { bit };

proctype reader(byte me) {
  byte round, u, seen;
  short sum;
  do
  :: round == ROUNDS -> break
  :: round < ROUNDS ->
     seen = mode;
     if
     :: seen == UNFENCED ->
        store_count(me, 1);
#if BREAK != 2
        seen = mode;
#endif
        if
        :: seen == UNFENCED -> goto entered
        :: else
        fi;
#if BREAK != 5
        d_step { flush_one(me); flush_one(me) }   // The fence of stays_after_fence().
#endif
     :: seen == WRITING -> mode != WRITING; goto next
     :: seen == FENCED -> locked_store(me, 1)
     fi;
     seen = mode;
     if
     :: seen == WRITING ->
        locked_store(me, 0);
        seen = mode;
        if
        :: seen == WRITING -> tell_writer(me)
        :: else
        fi;
        goto next
     :: seen == FENCED ->
        atomic {
          if
          :: mode == FENCED -> mode = UNFENCED; flush_one(me); flush_one(me)
          :: skip
          fi
        }
     :: else
     fi;
entered:
     inside++;
     assert(!writing);
     round++;
#ifdef ELSEWHERE
     if
     :: round == ROUNDS -> to_other!1; goto next
     :: else
     fi;
#endif
     leave_at(me, 0);
next:
     seen = 0
  od
}

#ifdef ELSEWHERE
proctype other() {
  byte left, u, seen;
  short sum;
  do
  :: left == READERS -> break
  :: left < READERS -> to_other?_; left++; leave_at(2, -left); seen = 0
  od
}
#endif

proctype writer() {
  byte round, u, before;
  bit is_patient;
  short sum;
  do
  :: round == WRITES -> break
  :: round < WRITES ->
     round++;
     if
     :: is_patient = 1
     :: is_patient = 0
     fi;
     atomic { before = mode; mode = WRITING }
#if BREAK != 1
     if
     :: before == UNFENCED -> HEAVY_FENCE()
     :: else
     fi;
#endif
     take_sum();
     if
     :: sum == 0 -> goto writes
     :: sum != 0 && !is_patient -> goto gives_up
     :: sum != 0
     fi;
     lock_queue(COUNTS);
#if BREAK != 6
     take_sum();
#endif
     if
     :: sum == 0 -> queue_lock = 0; goto writes
     :: else -> waits = 1; queue_lock = 0
     fi;
     if
     :: woken
     :: !is_patient ->
        lock_queue(COUNTS);
        if
        :: waits -> waits = 0; queue_lock = 0; goto gives_up
        :: else -> queue_lock = 0
        fi
     fi;
     woken = 0;
writes:
     writing = 1;
     assert(inside == 0);
     writing = 0;
     mode = FENCED;
     goto next;
gives_up:
#if BREAK == 4
     mode = FENCED;
#else
     mode = before;
#endif
next:
     before = 0; sum = 0; is_patient = 0
  od
}

proctype buffer(byte t) {
end:
  do
  :: atomic { older[t] != NONE -> flush_one(t) }
  od
}

init {
  byte t;
  atomic {
    do
    :: t < COUNTS -> older[t] = NONE; younger[t] = NONE; run buffer(t); t++
    :: else -> break
    od;
    t = 0;
    do
    :: t < READERS -> run reader(t); t++
    :: else -> break
    od;
#ifdef ELSEWHERE
    run other();
#endif
    run writer()
  }
}
