// SPDX-License-Identifier: Apache-2.0
// A lock that belongs to the thread that uses it alone, until another one comes. Proves I3 of
// biased_lock.cpp: two are never inside.
//
//   here                        src/sched/biased_lock.cpp, include/exeunt/sched/biased_lock.hpp
//   thread                      biased_lock::lock() and the unlocking, ROUNDS times
//   the part under `shared`     lock_shared()
//   held[t]                     a hold of t's turn that names this lock
//   HEAVY_FENCE                 heavy_fence() of fence.cpp: membarrier(2)
//
// Memory. A thread's stores to its hold wait in a buffer of two until they are flushed, at any time,
// one by one; its loads do not wait for them. What changes under `shared` only needs no buffer: the
// exchange that takes `shared` flushes it, and so does the fence that follows the erasure of an
// owner. A heavy fence flushes everybody's, as the kernel's interrupt does.
//
// Abstracted: who takes it twice in a row becomes the owner. A hold's two words are one: whoever
// waits for a hold that is of another lock by now looks again.
//
// Properties: `inside` is at most 1; everybody comes to an end.
// States and mutations: models/run lists both; -DBREAK=n, see there.

#ifndef BREAK
#define BREAK 0
#endif
#ifndef ROUNDS
#define ROUNDS 3
#endif
#define THREADS 3
#define NOBODY 255
#define NONE 2

#if BREAK == 4
#define HOLD(t) held[0]     // One hold in the lock, for whoever is the owner.
#else
#define HOLD(t) held[t]
#endif

bit shared;
byte owner = NOBODY;
byte candidate = NOBODY;
bit held[THREADS];          // As others see it.
byte older[THREADS];        // In the buffer: values, or NONE.
byte younger[THREADS];
byte inside;                // A ghost.

inline flush_one(t) {
  if
  :: older[t] != NONE -> HOLD(t) = older[t]; older[t] = younger[t]; younger[t] = NONE
  :: else
  fi
}

inline store_hold(v) {
  atomic {
    younger[me] == NONE ->
    if
    :: older[me] == NONE -> older[me] = v
    :: else -> younger[me] = v
    fi
  }
}

inline HEAVY_FENCE() {
  d_step {
    u = 0;
    do
    :: u < THREADS -> flush_one(u); flush_one(u); u++
    :: else -> break
    od;
    u = 0
  }
}

inline critical() {
  inside++;
  assert(inside == 1);
  inside--
}

proctype thread(byte me) {
  byte round, u, seen;
  do
  :: round == ROUNDS -> break
  :: round < ROUNDS ->
     round++;
     seen = owner;
     if
     :: seen == me ->
        store_hold(1);
#if BREAK != 2
        seen = owner;
#endif
        if
        :: seen == me ->
           critical();
           store_hold(0);
           goto next
        :: else -> store_hold(0)
        fi
     :: else
     fi;
     atomic { shared == 0 -> shared = 1; flush_one(me); flush_one(me) }
     if
     :: owner != NOBODY && owner != me ->
        seen = owner;
        owner = NOBODY;
#if BREAK != 1
        HEAVY_FENCE();
#endif
#if BREAK != 3
        HOLD(seen) == 0;    // Waits.
#endif
        candidate = me
     :: owner == me
     :: owner == NOBODY && candidate == me -> owner = me
     :: owner == NOBODY && candidate != me -> candidate = me
     fi;
     critical();
     shared = 0;
next:
     seen = 0
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
    :: t < THREADS -> older[t] = NONE; younger[t] = NONE; run thread(t); run buffer(t); t++
    :: else -> break
    od
  }
}
