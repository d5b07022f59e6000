// SPDX-License-Identifier: Apache-2.0
// Who sleeps, who searches and who is woken: workers, a producer from outside, a descriptor that
// becomes ready, and the monitor's rule for what waits behind a fiber that keeps its worker. Proves
// that no wake-up is lost (the comment and I1 to I5 of idle.cpp).
//
//   here                        src/sched
//   wake_one                    runtime_core::wake_one(), wake_idle(); also wake_if_idle()
//   falls_asleep, wake_up       runtime_core::sleep(), work_in_sight(), wake_up(), poll_io()
//   finds_ready                 worker::find_ready(): take_local(), take_shared(), look_around(),
//                               search(), steal_from(), has_spare_work()
//   stop_searching              runtime_core::stop_searching()
//   stays_away                  worker::stay_away(), runtime_core::lets_go(), takes_back()
//   runs                        a fiber, with worker::push_last() and push_next()
//   monitor                     monitor::look(): `waits`
//
// Memory. What a producer pushes is seen at once, or waits in its store buffer (unseen,
// shared_unseen) while its loads go on: until it is done with them, or executes a locked
// instruction, or a sleeper's heavy fence flushes it. That it waits no longer than that loses
// nothing: whoever fences later flushes it, and whoever fenced before had registered before the
// push. With -DFENCED, as where membarrier(2) is not served, the light fence flushes and the heavy
// one is the sleeper's own.
//
// Abstracted: a fiber is nothing but what it makes ready; a theft is one step (run_queue.pml); a
// search is one round; what holds the idle lock is one step but where others read two of its stores
// without it; timers are an event of the poller. Whether a worker with one fiber in its queue
// "stays" is chosen freely, but a stuck one does. The monitor acts only where it is relied on: one
// fiber in the ring, or in the slot, or in each, behind a stuck one; push_next() tells nobody if
// the slot was empty.
//
// With -DAWAY a worker that is not idle may leave the work to another at any time (theft.cpp). It
// comes back when it likes, and has to only if another one is kept by its fiber: that is all that
// the others' wake-ups rely on.
//
// Properties, when nothing can happen any more: all fibers have run but the one that is stuck, and
// those are behind nobody; the descriptor has been handled. One fiber at most is stuck. At any
// time: idle_count is the number of those in either place.

#ifndef BREAK
#define BREAK 0
#endif
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef INJECTED
#define INJECTED 2
#endif
#ifndef CHILDREN
#define CHILDREN 2
#endif

#ifndef PROCS
#define PROCS WORKERS
#endif
#ifndef EVENTS
#define EVENTS 0
#endif

#define NOBODY 9

byte shared;                     // injected_
byte shared_unseen;
byte ring[WORKERS];              // The two rings of a queue,
byte slot[WORKERS];              // and who runs next.
byte unseen[WORKERS];            // How many pushes to the rings are in the owner's store buffer.
bit event;                       // A descriptor is ready.
bit rung;                        // The poller's eventfd.

bit idle_lock;
byte idle_count;
byte searching;
byte in_poller = NOBODY;
bit poller_taken;
bit listed[WORKERS];             // idle_
bit idle[WORKERS];
bit woken[WORKERS];
bit searches[WORKERS];           // worker::searching_

byte children = CHILDREN;        // That fibers may still make.
byte made;
byte ended;
bit stuck[WORKERS];
bit one_is_stuck;
bit away[WORKERS];

#define QUEUED(w) (ring[w] + slot[w])
#define SEEN(w) (ring[w] - unseen[w] + slot[w])
#define SHARED_SEEN (shared - shared_unseen)
#ifdef FENCED                    // The light fence follows the store at once.
#define UNSEEN(count) skip
#else
#define UNSEEN(count) if :: count++ :: skip fi
#endif

inline flush_own(w) {
  d_step {
    if
    :: w < WORKERS -> unseen[w] = 0
    :: else -> shared_unseen = 0
    fi
  }
}

inline heavy_fence() {
#if BREAK != 1 && !defined(FENCED)
  d_step {
    i = 0;
    do
    :: i < WORKERS -> unseen[i] = 0; i++
    :: else -> break
    od;
    i = 0;
    shared_unseen = 0
  }
#else
  skip
#endif
}

// Under idle_lock.
inline wake_idle(c) {
  idle_count--;
  idle[c] = 0;
  if
  :: in_poller == c -> in_poller = NOBODY; rung = 1
  :: else -> listed[c] = 0
  fi;
  woken[c] = 1
}

// `w`: WORKERS is a thread outside.
inline wake_one(w) {
  if
  :: idle_count == 0
  :: else ->
     if
     :: searching != 0
     :: atomic { searching == 0 -> searching = 1; flush_own(w) };
        atomic {
          idle_lock == 0 ->
          if
          :: listed[0] -> chosen = 0
          :: listed[1] -> chosen = 1
#if WORKERS > 2
          :: listed[2] -> chosen = 2
#endif
          :: else -> chosen = in_poller
          fi;
          if
          :: chosen != NOBODY -> searches[chosen] = 1; wake_idle(chosen)
          :: chosen == NOBODY ->
#if BREAK != 2
             searching--
#endif
          fi
        };
#if BREAK == 2
        if
        :: chosen == NOBODY -> searching--     // Not under the lock.
        :: else
        fi;
#endif
        chosen = NOBODY
     fi
  fi;
  flush_own(w)
}

inline push_last(w) {
  atomic { ring[w]++; UNSEEN(unseen[w]) };
  if
#if BREAK == 3
  :: true
#else
  :: QUEUED(w) > 1 -> wake_one(w)
  :: atomic { QUEUED(w) <= 1 -> flush_own(w) }
#endif
  fi
}

inline push_next(w) {
  atomic {
    if
    :: slot[w] == 0 -> slot[w] = 1; displaced = 0
    :: slot[w] == 1 -> ring[w]++; UNSEEN(unseen[w]); displaced = 1
    fi
  };
  if
  :: displaced -> displaced = 0; wake_one(w)
  :: else
  fi
}

inline take_local() {            // To `found`.
  atomic {
    if
    :: slot[me] > 0 -> slot[me] = 0; found = 1
    :: slot[me] == 0 && ring[me] > 0 -> ring[me]--; found = 1
    :: QUEUED(me) == 0
    fi;
    if
    :: unseen[me] > ring[me] -> unseen[me] = ring[me]
    :: else
    fi
  }
}

inline take_shared() {           // To `found`, and queue_rest().
  atomic {
    if
    :: SHARED_SEEN > 0 ->
       shared_unseen = 0;        // By the lock's turn.
       found = 1;
       count = shared / PROCS + 1;
       if
       :: count > shared -> count = shared
       :: else
       fi;
       shared = shared - count;
       count--
    :: SHARED_SEEN == 0
    fi
  };
  if
  :: count > 0 ->
     do
     :: count > 0 -> push_last(me); count--
     :: count == 0 -> break
     od;
     wake_one(me)
  :: else
  fi
}

inline steal_from(v) {           // To `count`.
  atomic {
    if
    :: v == me || SEEN(v) == 0 || count > 0
    :: v != me && SEEN(v) == 1 && count == 0 && !stuck[v]   // Moved on meanwhile.
    :: v != me && SEEN(v) >= 1 && count == 0 ->
       unseen[v] = 0;            // The heavy fence of the claim.
       if
       :: ring[v] > 0 -> count = ring[v] - ring[v] / 2; ring[v] = ring[v] - count
       :: ring[v] == 0 -> count = slot[v]; slot[v] = 0
       fi
    fi
  }
}

inline stop_searching(w) {       // Having found something.
  searches[w] = 0;
  atomic { searching--; last = (searching == 0) };
  if
#if BREAK == 4
  :: true
#else
  :: last -> wake_one(w)
  :: else
#endif
  fi;
  last = 0
}

#ifdef AWAY
#if WORKERS > 2
#define IS_BUSY(v) (v != me && !idle[v] && !away[v])
#define ANOTHER_IS_BUSY (IS_BUSY(0) || IS_BUSY(1) || IS_BUSY(2))
#else
#define ANOTHER_IS_BUSY (!idle[1 - me] && !away[1 - me])
#endif

inline stays_away() {
#if BREAK == 11
  if                             // Not under the lock.
  :: ANOTHER_IS_BUSY -> idle_lock == 0; away[me] = 1
  :: else
  fi;
#else
  atomic {
    idle_lock == 0 ->
    if
    :: ANOTHER_IS_BUSY -> away[me] = 1
    :: else
    fi
  };
#endif
  if
  :: away[me] ->
     if
     :: searches[me] -> stop_searching(me)
     :: else
     fi;
#if BREAK != 12
     do                          // hand_over_queue()
     :: atomic { slot[me] > 0 -> slot[me] = 0; shared++; UNSEEN(shared_unseen) }
     :: atomic { slot[me] == 0 && ring[me] > 0 ->
                 ring[me]--; unseen[me] = 0; shared++; UNSEEN(shared_unseen) }
     :: QUEUED(me) == 0 -> break
     od;
     wake_one(me);
     flush_own(WORKERS);         // Whoever has pushed there.
#endif
     if                          // By the clock, or else by what it sees.
     :: true
#if BREAK == 10
     :: true -> false
#else
     :: true -> one_is_stuck
#endif
     fi;
     atomic { idle_lock == 0 -> away[me] = 0 }
  :: else
  fi
}
#endif

#if BREAK == 9                   // As the code was at first.
#define WHO_SEES_WORK && false
#else
#define WHO_SEES_WORK
#endif

inline wake_up(w) {
  atomic {
    idle_lock == 0 -> idle_lock = 1;
    if
    :: polls -> poller_taken = 0
    :: else
    fi;
    if
    :: (found WHO_SEES_WORK) && !searches[w] ->
       searches[w] = 1; searching++
    :: else
    fi;
    found = 0
  };
  atomic {
    if
    :: idle[w] ->
       idle[w] = 0;
       if
       :: in_poller == w -> in_poller = NOBODY
       :: else -> listed[w] = 0
       fi;
       idle_count--
    :: else
    fi;
    idle_lock = 0;
    polls = 0
  }
}

inline look_at(v) {
  atomic {
    if
    :: SEEN(v) == 0 || found
    :: SEEN(v) == 1 && !found && !stuck[v]
    :: SEEN(v) >= 1 && !found -> found = 1
    fi
  }
}

proctype worker(byte me) {
  byte i, count, chosen = NOBODY;
  bit found, last, displaced, polls, searched;

finds_ready:
#ifdef AWAY
  if
  :: true
  :: stays_away(); goto finds_ready
  fi;
#endif
  if
  :: true                        // Not yet time to look around.
  :: atomic { event -> event = 0; made++ }; push_last(me); take_shared(); goto looks_around
  :: take_shared(); goto looks_around            // take_in_turn()
  fi;
  atomic {
    take_local();
    if
    :: found -> goto has_found
    :: else
    fi
  };
  take_shared();
looks_around:
  atomic {
    if
    :: found -> goto has_found
    :: else
    fi;
    take_local();                // Again after take_in_turn(), else for nothing.
    if
    :: found -> goto has_found
    :: else
    fi
  };
  if                             // look_around(false)
  :: atomic { event -> event = 0; made++ }; push_last(me); goto finds_ready
  :: else
  fi;
  if
  :: searches[me]
  :: !searches[me] && 2 * searching >= WORKERS - idle_count -> goto falls_asleep
  :: !searches[me] && 2 * searching < WORKERS - idle_count ->
     atomic { searches[me] = 1; searching++ }
  fi;
  // search()
  steal_from(0);
  steal_from(1);
#if WORKERS > 2
  steal_from(2);
#endif
  if
  :: count > 0 ->
     count--;
     do
     :: count > 0 -> push_last(me); count--
     :: count == 0 -> break
     od;
     found = 1
  :: else ->
     if
     :: SHARED_SEEN > 0 ->
        atomic {
          shared_unseen = 0;
          if
          :: shared > 0 -> shared--; found = 1
          :: else
          fi
        }
     :: else
     fi
  fi;
  if
  :: found -> goto has_found
  :: else
  fi;

falls_asleep:
  atomic { searched = searches[me]; searches[me] = 0; woken[me] = 0 };
  atomic {
    idle_lock == 0 ->
    idle[me] = 1;
    if
    :: !poller_taken -> poller_taken = 1; in_poller = me; polls = 1
    :: poller_taken -> listed[me] = 1
    fi;
    idle_count++
  };
#if BREAK == 6
  if                             // Stops searching only after the look.
  :: true
  fi;
#else
  if
  :: searched -> searching--; searched = 0
  :: else
  fi;
#endif
  heavy_fence();
#if BREAK != 7
  // work_in_sight()
  if
  :: SHARED_SEEN > 0 -> found = 1
  :: else
  fi;
  look_at(0);
  look_at(1);
#if WORKERS > 2
  look_at(2);
#endif
#endif
#if BREAK == 6
  if
  :: searched -> searching--; searched = 0
  :: else
  fi;
#endif
  if
  :: found
  :: !found && polls ->
     event || rung;              // The kernel's wait.
     atomic { rung = 0; last = event; event = 0; made = made + last };
     wake_up(me);
     if
     :: last -> last = 0; push_last(me)
     :: else
     fi;
     goto finds_ready
  :: !found && !polls -> woken[me] == 1
  fi;
  wake_up(me);
  goto finds_ready;

has_found:
  found = 0;
  count = 0;
  if
  :: searches[me] -> stop_searching(me)
  :: else
  fi;
runs:
  if
  :: atomic { children > 0 -> children--; made++ };
     if
     :: push_last(me)
     :: push_next(me)
     fi;
     goto runs
  :: atomic { !one_is_stuck -> one_is_stuck = 1; stuck[me] = 1 }; false
  :: ended++; goto finds_ready
  fi
}

active proctype outside() {
  byte n, chosen = NOBODY;
  do
  :: n < INJECTED ->
     atomic { shared++; UNSEEN(shared_unseen); made++ };
     wake_one(WORKERS);
     n++
  :: n == INJECTED -> break
  od
}

#if EVENTS > 0
active proctype descriptor() {
  byte n;
  do
  :: n < EVENTS -> atomic { !event -> event = 1 }; n++
  :: n == EVENTS -> break
  od
}
#endif

#define BEHIND(w) (stuck[w] && SEEN(w) > 0 && ring[w] <= 1)
#if BREAK == 5
#define UNWATCHED false
#else
#define UNWATCHED (one_is_stuck && !poller_taken)
#endif

#if BREAK != 8
active proctype monitor() {
  byte chosen = NOBODY;
  do
  :: idle_count > 0 && searching == 0 &&
     (UNWATCHED || BEHIND(0) || BEHIND(1)
#if WORKERS > 2
      || BEHIND(2)
#endif
     ) -> wake_one(WORKERS)
  od
}
#endif

active proctype checker() {
  timeout;
  assert(made == ended + one_is_stuck);
  assert(event == 0);
  assert(idle_count == idle[0] + idle[1]
#if WORKERS > 2
         + idle[2]
#endif
  );
  assert(searching == 0)
}

init {
  atomic {
    run worker(0);
    run worker(1);
#if WORKERS > 2
    run worker(2)
#endif
  }
}
