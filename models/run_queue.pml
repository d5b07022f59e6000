// SPDX-License-Identifier: Apache-2.0
// The biased lock of a worker's run queue: one owner, two thieves. Proves I3 of run_queue.cpp, and
// that no fiber is lost or run twice because of it.
//
//   here                        src/sched
//   owner: enter, leave         run_queue::enter(), enter_slowly(), leave()
//   thief                       run_queue::steal()
//   HEAVY_FENCE                 heavy_fence() of fence.cpp: membarrier(2)
//   FENCED                      the bit `fenced` of claimed_: a kernel without membarrier
//
// Memory. The owner's stores wait in a buffer until they are flushed, at any time, one by one; its
// loads do not wait for them. As on x86 the order among them stays (one channel), or with -DWEAK as
// on ARM a relaxed store passes others and only the release in leave() waits for those before it.
// A heavy fence flushes all of it, as the kernel's interrupt does. A thief has no buffer: its claim
// flushes it, and a later flush of its other stores is as good as executing them later.
//
// Abstracted: the rings and the next slot are a set of fibers that is read, and written back; how
// long a thief waits for the owner, and how many thefts there are (ROUNDS each). Who loses a claim
// gives up, as in steal().
//
// Properties: `inside` is at most 1; each fiber is taken once; everybody comes to an end, so that
// the owner never waits for ever for thieves, of which a finite number come.
// States and mutations: models/run lists both; -DBREAK=n, see there.

#ifndef BREAK
#define BREAK 0
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define FIBERS 3            // Bits 1, 2, 4 of a set.
#define SECTIONS 4

#define THIEF 1
#define FENCED_BIT 2

byte busy;                  // As others see it.
#ifdef FENCED
byte claimed = FENCED_BIT;
#else
byte claimed;
#endif
byte items;                 // The set of queued fibers, as others see it.

#ifdef WEAK
chan busy_stores = [3] of { byte };
#define STORE_BUSY(v) busy_stores ! v
#else
#define STORE_BUSY(v) stores ! 0, v
#endif
chan stores = [5] of { byte, byte };   // Variable: 0 busy, 1 items; and value.
byte unseen_items;          // Of the entries in the buffer, those of items.
byte own_items;             // What the owner reads while there are any.

byte inside;                // Ghosts.
byte taken[5];              // By fiber, as a bit.
byte made;
byte done;

inline flush_one() {        // Nobody but the owner fills the buffer.
  atomic {
    stores ? f_var, f_val;
    if
    :: f_var == 0 -> busy = f_val
    :: else -> items = f_val; unseen_items--
    fi;
    f_var = 0; f_val = 0
  }
}

#ifdef WEAK
// Release: the 0 of leave() stays until the stores of its section are seen.
#if BREAK == 6
#define FLUSHABLE_BUSY nempty(busy_stores)        // leave() does not release.
#else
#define FLUSHABLE_BUSY (busy_stores ? [1] || (busy_stores ? [0] && empty(stores)))
#endif
#define ALL_SEEN (empty(stores) && empty(busy_stores))
inline flush_all() {
  d_step {
    do
    :: nempty(stores) -> stores ? f_var, f_val; items = f_val; unseen_items--
    :: empty(stores) -> break
    od;
    do
    :: nempty(busy_stores) -> busy_stores ? busy
    :: empty(busy_stores) -> break
    od;
    f_var = 0; f_val = 0
  }
}
#else
#define ALL_SEEN empty(stores)
inline flush_all() {
  d_step {
    do
    :: nempty(stores) ->
       stores ? f_var, f_val;
       if
       :: f_var == 0 -> busy = f_val
       :: else -> items = f_val; unseen_items--
       fi
    :: empty(stores) -> break
    od;
    f_var = 0; f_val = 0
  }
}
#endif

active proctype buffer() {
  byte f_var, f_val;
end:
  do
  :: flush_one()
#ifdef WEAK
  :: atomic { FLUSHABLE_BUSY -> busy_stores ? busy }
#endif
  od
}

inline read_items(to) {
  if
  :: unseen_items > 0 -> to = own_items
  :: else -> to = items
  fi
}

inline write_items(from) {
  atomic { own_items = from; unseen_items++; stores ! 1, from }
}

inline take(f) {
  taken[f]++;
  assert(taken[f] == 1)
}

active proctype owner() {
  byte section, set, seen;
  do
  :: section == SECTIONS -> break
  :: section < SECTIONS ->
     section++;
     // enter()
#if BREAK == 2
     seen = claimed;        // Looks, and marks only then.
     STORE_BUSY(1);
#else
     STORE_BUSY(1);
     seen = claimed;
#endif
     if
     :: seen == 0
     :: seen != 0 ->
        do                  // enter_slowly()
#if BREAK != 5
        :: atomic { ALL_SEEN -> skip };   // The full fence.
#else
        :: true ->
#endif
           if
           :: (claimed & THIEF) == 0 -> break
           :: else
           fi;
           STORE_BUSY(0);   // leave()
           (claimed & THIEF) == 0;        // Spins.
           STORE_BUSY(1);
#if BREAK == 4
           break            // Does not look again.
#endif
        od
     fi;
     inside++;
     assert(inside == 1);
     atomic { read_items(set) };
     if
     :: made < FIBERS -> set = set | (1 << made); made++; write_items(set)
     :: set & 1 -> set = set - 1; atomic { write_items(set); take(1) }
     :: set & 2 -> set = set - 2; atomic { write_items(set); take(2) }
     :: set & 4 -> set = set - 4; atomic { write_items(set); take(4) }
     :: set == 0 && made == FIBERS
     fi;
     inside--;
     STORE_BUSY(0);         // leave()
     set = 0; seen = 0
  od;
  done++
}

proctype thief() {
  byte round, set, f_var, f_val, expected;
  do
  :: round == ROUNDS -> break
  :: round < ROUNDS ->
     round++;
     expected = claimed & FENCED_BIT;
     if
     :: atomic { claimed == expected -> claimed = expected | THIEF };
        // heavy_fence()
#if BREAK != 1 && !defined(FENCED)
        flush_all();
#endif
        do
#if BREAK == 3
        :: true ->
#else
        :: busy == 0 ->
#endif
           inside++;
           assert(inside == 1);
           set = items;
           if
           :: set & 1 -> items = set - 1; take(1)
           :: set & 2 -> items = set - 2; take(2)
           :: set & 4 -> items = set - 4; take(4)
           :: set == 0
           fi;
           set = 0;
           inside--;
           break
        :: true -> break    // Out of patience.
        od;
        claimed = expected
     :: claimed != expected // Lost.
     fi;
     expected = 0
  od;
  done++
}

init {
  atomic { run thief(); run thief() };
  done == 3 && ALL_SEEN;    // Each fiber is in one place.
  assert(taken[1] + (items & 1) == (made > 0 -> 1 : 0));
  assert(taken[2] + ((items & 2) / 2) == (made > 1 -> 1 : 0));
  assert(taken[4] + ((items & 4) / 4) == (made > 2 -> 1 : 0))
}
