// SPDX-License-Identifier: Apache-2.0
// Parking and the switch: two workers, two fibers that wait and wake each other, and a waker from
// outside; with -DTHREAD a plain thread with a deadline and its waker instead. Proves I4 and I5 of
// worker.cpp, and the proof at the top of park.cpp.
//
//   here                        src/sched
//   fiber 0's wait              park(spin_lock&): mark_parked(), unlock, worker::park()
//   fiber 1's wait              park(ticket&, release): select's; mark_parked(), release,
//                               commit_park(), worker::park()
//   post                        a source's waker: unlink, waiter::claim(), unlock, fire()
//   fire                        caller::wake(), runtime_core::make_ready()
//   pick                        worker::pick(), pick_slowly() with mail
//   leave, finish               worker::leave(), prepare(), mark_running(), finish_switch()
//   loop, run                   worker::find_ready(), run()
//   thread                      park(ticket&) of a plain thread, sleep_thread_until()
//
// Abstracted: queues are channels (run_queue.pml has the lock); a wake-up from outside may go to
// any worker's queue, which mail does and which also stands for a theft right after it; a worker
// with nothing to do waits for any queue to fill (idle.pml has the sleep); memory is sequentially
// consistent, since each hand-over is a release that an acquire reads.
//
// A source counts tokens: who wakes hands one to the waiter, or leaves it. Each fiber needs two of
// them, one from outside and one from the other fiber, so one that is lost ends in a deadlock.
//
// Properties: at most one thread is on a fiber's stack; a fiber is woken only when it has parked,
// and is in one queue at a time; a worker waits for an on_stack only on its loop's stack; both
// fibers end, that is, no wake-up is lost and nobody waits for ever on another's stack.

#ifndef BREAK
#define BREAK 0
#endif

// Of a ticket.
#define OPEN 0
#define PARKED 1
#define WON 2                    // By source s: WON + s.

#define NOBODY 9

bit lock[3];                     // Of the sources: 0 is fiber 0's, 1 and 2 are fiber 1's.
byte tokens[3];
bit linked[3];                   // Whether its fiber waits there.
byte ticket;                     // Fiber 1's.

inline acquire(s) { atomic { lock[s] == 0 -> lock[s] = 1 } }

// Hands on `s`; `due` is who is to be woken.
inline claim(s, due) {
  atomic {
    if
    :: !linked[s] -> tokens[s]++
    :: linked[s] && s == 0 -> linked[s] = 0; due = 0
    :: linked[s] && s > 0 && ticket == OPEN ->
       linked[s] = 0; ticket = WON + s;
#if BREAK == 4
       due = 1                   // Wakes although nobody is known to have parked.
#endif
    :: linked[s] && s > 0 && ticket == PARKED -> linked[s] = 0; ticket = WON + s; due = 1
    :: linked[s] && s > 0 && ticket >= WON -> linked[s] = 0; tokens[s]++   // Won by another.
    fi
  }
}

#ifndef THREAD

#define FIBERS 2
#define FREE 0
#define TAKEN 1

chan queue[2] = [2] of { byte };
bit on_stack[FIBERS];
bit parked[FIBERS];              // fiber_state, which is for dumps only; here it is checked.
byte threads_on[FIBERS];         // Ghosts: who is on its stack,
byte queued[FIBERS];             // in how many queues it is,
bit after_park[FIBERS];          // where it goes on,
byte got[FIBERS];                // and what it has got.
byte over;

inline push(to, which) {
  atomic {
    queued[which]++;
    assert(queued[which] == 1);
    queue[to] ! which
  }
}

inline pop(from, which) { queue[from] ? which; queued[which]-- }

inline make_ready(to, which) {
  assert(parked[which]);
  parked[which] = 0;
  push(to, which)
}

inline enter_stack(which) {
  threads_on[which]++;
  assert(threads_on[which] == 1)
}

active [2] proctype worker() {
  byte me = _pid;
  byte f = NOBODY;               // running_
  byte next = NOBODY;
  byte candidate = NOBODY;
  byte due = NOBODY;
  bit yielded;

loop:
  assert(f == NOBODY);
  if
  :: candidate != NOBODY ->
#if BREAK != 5
     next = candidate;
#endif
     candidate = NOBODY
  :: atomic { candidate == NOBODY && nempty(queue[me]) -> pop(me, next) }
  :: atomic { candidate == NOBODY && nempty(queue[1 - me]) -> pop(1 - me, next) }   // Stolen.
  :: candidate == NOBODY && over == FIBERS -> goto ended
  fi;
#if BREAK == 5
  if
  :: next == NOBODY -> goto loop
  :: else
  fi;
#endif
entering:                        // run()
#if BREAK != 2
  on_stack[next] == FREE;        // Waits: on the loop's stack, and on no other.
#endif
  on_stack[next] = TAKEN;
  atomic { f = next; next = NOBODY; enter_stack(f) };

resume:
  if
  :: after_park[f] -> after_park[f] = 0; goto woken
  :: else
  fi;

body:
  if
  :: got[f] == 2 -> goto dies
  :: atomic {                    // yield(), if somebody else is ready.
       got[f] < 2 && nempty(queue[me]) && !yielded -> pop(me, next); yielded = 1; push(me, f)
     };
     goto leave
  :: got[f] < 2
  fi;
  if
  :: f == 0 ->
     acquire(0);
     if
     :: tokens[0] > 0 -> tokens[0]--; lock[0] = 0; goto has_token
     :: else
     fi;
#if BREAK == 6
     lock[0] = 0;
#endif
     linked[0] = 1;
     parked[0] = 1;
     lock[0] = 0;                // From here on it may be queued.
     goto park
  :: f == 1 ->
     acquire(1);
     acquire(2);
     if
     :: tokens[1] > 0 -> tokens[1]--; lock[1] = 0; lock[2] = 0; goto has_token
     :: tokens[1] == 0 && tokens[2] > 0 -> tokens[2]--; lock[1] = 0; lock[2] = 0; goto has_token
     :: else
     fi;
     ticket = OPEN;
     linked[1] = 1;
     linked[2] = 1;
     parked[1] = 1;              // mark_parked()
     lock[1] = 0;                // release
     lock[2] = 0;
     atomic {                    // commit_park()
       if
       :: ticket == OPEN -> ticket = PARKED
       :: ticket != OPEN ->
#if BREAK != 3
          parked[1] = 0;
          goto woken
#endif
       fi
     };
     goto park
  fi;

park:                            // worker::park()
  after_park[f] = 1;
  if                             // pick()
  :: atomic { nempty(queue[me]) -> pop(me, next) }
  :: empty(queue[me]) -> next = NOBODY
  fi;
  if
  :: next == f -> next = NOBODY; goto resume           // Woken meanwhile.
  :: else
  fi;

leave:
  if
  :: next != NOBODY ->
#if BREAK == 1
     on_stack[next] == FREE;     // Waits on its own fiber's stack.
#else
     if
     :: on_stack[next] != FREE -> candidate = next; next = NOBODY
     :: else
     fi
#endif
  :: else
  fi;
  if
  :: next != NOBODY -> on_stack[next] = TAKEN
  :: else
  fi;
#if BREAK == 7
  on_stack[f] = FREE;            // Before it has left.
#endif
  atomic {                       // The switch.
    threads_on[f]--;
    if
    :: next != NOBODY -> enter_stack(next)
    :: else
    fi
  };
  on_stack[f] = FREE;            // finish_switch(), by whoever runs next on this thread.
  atomic { f = next; next = NOBODY };
  if
  :: f != NOBODY -> goto resume
  :: else -> goto loop
  fi;

woken:
  if
  :: f == 1 ->                   // Lets go of both sources.
     assert(ticket >= WON);
     acquire(1); linked[1] = 0; lock[1] = 0;
     acquire(2); linked[2] = 0; lock[2] = 0;
     ticket = OPEN
  :: else
  fi;

has_token:
  got[f]++;
  if
  :: got[f] == 1 ->              // The other one's second.
     due = NOBODY;
     acquire(1 - f);
     claim(1 - f, due);
     lock[1 - f] = 0;
     if
     :: due != NOBODY -> make_ready(me, due); due = NOBODY
     :: else
     fi
  :: else
  fi;
  goto body;

dies:
  if
  :: atomic { nempty(queue[me]) -> pop(me, next) }
  :: empty(queue[me]) -> next = NOBODY
  fi;
  if
  :: next != NOBODY && on_stack[next] != FREE -> candidate = next; next = NOBODY
  :: next != NOBODY && on_stack[next] == FREE -> on_stack[next] = TAKEN
  :: next == NOBODY
  fi;
  atomic {
    threads_on[f]--;
    if
    :: next != NOBODY -> enter_stack(next)
    :: else
    fi;
    f = next; next = NOBODY; over++
  };
  if
  :: f != NOBODY -> goto resume
  :: else -> goto loop
  fi;

ended:
  skip
}

proctype outside(byte s) {
  byte due = NOBODY;
  acquire(s);
  claim(s, due);
  lock[s] = 0;
  if
  :: due != NOBODY ->
     if
     :: make_ready(0, due)
     :: make_ready(1, due)
     fi
  :: else
  fi
}

init {
  atomic {
    queued[0] = 1; queue[0] ! 0;
    queued[1] = 1; queue[1] ! 1;
    run outside(0);
    run outside(2)
  }
}

#else

// The thread waits twice, on source 1 with a ticket of its own each time; two wakers come.
bit woken;
byte due_now;                    // Ghost: claims whose wake-up has not been fired.

active proctype thread() {
  byte round;
  do
  :: round == 2 -> break
  :: round < 2 ->
     round++;
     acquire(1);
     if
     :: tokens[1] > 0 -> tokens[1]--; lock[1] = 0
     :: tokens[1] == 0 ->
        ticket = OPEN;
        linked[1] = 1;
        lock[1] = 0;
#if BREAK != 8
        woken = 0;
#endif
        if
        :: atomic { ticket == OPEN -> ticket = PARKED };   // commit_park()
#if BREAK == 8
           woken = 0;            // After a claim may have come.
#endif
           if
           :: woken == 1         // sleep_thread_until()
           :: true ->            // The deadline.
              if
              :: atomic { ticket == PARKED -> ticket = WON }
              :: ticket >= WON + 1 ->
#if BREAK != 9
                 woken == 1      // Somebody else's wake-up is on its way.
#endif
              fi
           fi
        :: ticket != OPEN
        fi;
        assert(due_now == 0);
        acquire(1); linked[1] = 0; lock[1] = 0
     fi
  od
}

active [2] proctype waker() {
  byte due = NOBODY;
  acquire(1);
  atomic {
    claim(1, due);
    if
    :: due != NOBODY -> due_now++
    :: else
    fi
  };
  lock[1] = 0;
  if
  :: due != NOBODY -> atomic { woken = 1; due_now-- }
  :: else
  fi
}

#endif
