// SPDX-License-Identifier: Apache-2.0
// The monitor and the places that it has filled: workers whose fibers do not come back, spare
// threads, a change of procs, lock_os_thread, and the end of it all. Proves I1 to I3 of
// staffing.cpp and the hand-shake of monitor.cpp.
//
//   here                        src/sched
//   thread                      runtime_core::start_thread(), worker::loop()
//   loop, takes, sleeps         worker::find_ready(), runtime_core::sleep(), wake_up()
//   reports_back                runtime_core::report_back(), worker::hand_over_queue()
//   waits_for_mail              worker::wait_for_mail(), out_of_service(), back_in_service()
//   runs                        a fiber; bind(), unbind()
//   monitor                     monitor::loop(), sleep(), look(), give_up_on(), share_queue_of(),
//                               fill_places()
//   controller                  runtime_core::set_procs(), stop(), call_all_in()
//
// Abstracted: a fiber is what it does to the scheduler: it makes another, keeps its thread until it
// is let go, yields for ever, binds itself to its thread and waits for mail, or ends. Who searches
// and who polls is in idle.pml: here a wake-up takes any idle worker, and memory is sequentially
// consistent. What holds the idle lock is one step. The monitor may take any worker for stuck that
// has begun no fiber since the last look, and does so in the end with one whose fiber keeps it;
// the clock is a choice. It looks whenever there is something to be seen.
//
// Properties. At any time: active_ is at most procs, unless that has been changed; one thread at a
// time works for a worker; who sleeps is active; who has retired has nothing in its queue. When
// nothing can happen any more though some fibers keep their threads for good: all others have run.
// In the end: all threads have ended. The stop comes when nothing can happen any more, after those
// that keep their threads were let go; or with -DEARLY at any time.

#ifndef BREAK
#define BREAK 0
#endif
#ifndef PROCS
#define PROCS 1
#endif
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef FIBERS
#define FIBERS 1                 // Started from outside,
#endif
#ifndef CHILDREN
#define CHILDREN 1               // and by fibers.
#endif
#ifndef BLOCKERS
#define BLOCKERS 1               // That keep their threads.
#endif
#ifndef RETURNS
#define RETURNS 0                // As many of them come back before they are let go.
#endif
#ifndef YIELDERS
#define YIELDERS 0               // That yield for ever.
#endif
#ifndef BINDERS
#define BINDERS 0
#endif
#ifndef ALARMS
#define ALARMS 1                 // How often one is taken for stuck whose fiber does not keep it.
#endif
#ifndef EXPIRIES
#define EXPIRIES 1               // Of spare threads.
#endif

#define VACANT 0
#define ACTIVE 1
#define STUCK 2
#define BOUND 3
#define RETIRED 4
#define LEAVING 5

byte standing[WORKERS];
bit idle[WORKERS];
bit report[WORKERS];             // Bits of attention_.
bit bound[WORKERS];
bit woken[WORKERS];
bit moved[WORKERS];              // turns_ differs from what the monitor saw.
byte queue[WORKERS];
bit mail[WORKERS];
bit mailed[WORKERS];              // mailed_ differs from what its worker saw.
byte shared;
byte idle_count;
byte actives;
byte in_service;
byte procs = PROCS;
bit procs_changed;
bit stopping;
bit over;
bit asleep;
bit called;                      // called_ differs from what the monitor saw.

byte children = CHILDREN;
byte blockers = BLOCKERS;
byte returns = RETURNS;
byte yielders = YIELDERS;
byte binders = BINDERS;
byte alarms = ALARMS;
byte expiries = EXPIRIES;
byte made;                       // Ghosts: started,
byte ended;
byte kept;                       // fibers that keep their threads,
byte yields[WORKERS];            // or yield on a worker.
bit blocked[WORKERS];
bit awaits_mail[WORKERS];
bit let_go;
byte threads;
byte threads_of[WORKERS];
bit monitor_ended;

#if WORKERS > 2
#define SUM(a) (a[0] + a[1] + a[2])
#define ANY(what) (what(0) || what(1) || what(2))
#else
#define SUM(a) (a[0] + a[1])
#define ANY(what) (what(0) || what(1))
#endif
#define IS_BUSY(w) (standing[w] == ACTIVE && !idle[w])
#if BREAK == 10                  // As the code was at first.
#define RESTS(w) (!IS_BUSY(w))
#else
#define RESTS(w) (idle[w] || (standing[w] != ACTIVE && standing[w] != STUCK))
#endif

inline wake_idle(c) {
  idle[c] = 0; idle_count--; woken[c] = 1
}

inline wake_one() {
  atomic {
    if
    :: idle[0] -> wake_idle(0)
    :: !idle[0] && idle[1] -> wake_idle(1)
#if WORKERS > 2
    :: !idle[0] && !idle[1] && idle[2] -> wake_idle(2)
#endif
    :: idle_count == 0
    fi
  }
}

inline put_in_place(c) {
  standing[c] = ACTIVE; actives++; in_service++;
  assert(actives <= procs || procs_changed)
}

inline starts(c) { threads++; run thread(c) }

inline somebody_is_busy() {
#if BREAK != 2
  if
  :: asleep -> called = 1
  :: else
  fi
#else
  skip
#endif
}

#define SPARE(v) (queue[v] > 1 || (queue[v] == 1 && blocked[v]))

#if BREAK == 8                   // As the code was at first.
#define CALLED(w) false
#else
#define CALLED(w) report[w]
#endif
#define IN_SIGHT(v) (w != v && SPARE(v))

inline steal(v) {
    if
    :: !found && v != w && SPARE(v) -> queue[v]--; found = 1
    :: !found && v != w && queue[v] == 1 && !blocked[v] && standing[v] != RETIRED ->
       queue[v]--; found = 1     // It stayed long enough.
    :: found || v == w || !SPARE(v)
    fi
}

#ifdef EARLY
#define ONE_WILL_MAIL true       // Nobody needs to.
#else
#define ONE_WILL_MAIL (made > ended + kept + 1)
#endif

proctype thread(byte w) {
  byte i;
  bit found, expired;
  threads_of[w]++;
  assert(threads_of[w] == 1);

loop:
  atomic {
    if
    :: stopping -> goto ends
    :: !stopping && report[w] -> goto reports_back
    :: !stopping && !report[w] && bound[w] -> goto waits_for_mail
    :: else
    fi
  };
  atomic {
    if
    :: queue[w] > 0 -> queue[w]--; goto runs
    :: queue[w] == 0 && shared > 0 -> shared--; goto runs
    :: else
    fi
  };
  if
  :: yields[w] > 0 ->            // Never goes further: somebody is always ready here.
     atomic {
       queue[w] > 0 || shared > 0 || report[w] || stopping || let_go;
       if
       :: let_go -> ended = ended + yields[w]; yields[w] = 0
       :: else
       fi;
       goto loop
     }
  :: else
  fi;
  atomic {                       // search()
    if
    :: procs > idle_count ->     // may_search()
       steal(0);
       steal(1);
#if WORKERS > 2
       steal(2);
#endif
    :: else
    fi;
    if
    :: found -> found = 0; goto runs
    :: else
    fi
  };

  // sleep()
  atomic {
    idle[w] = 1; woken[w] = 0; idle_count++
  };
  atomic {                       // work_in_sight()
    if
    :: stopping || shared > 0 || CALLED(w) || ANY(IN_SIGHT)
    :: else -> assert(standing[w] == ACTIVE); woken[w] == 1
    fi
  };
  atomic {                       // wake_up()
    if
    :: idle[w] -> idle[w] = 0; idle_count--
    :: else
    fi
  };
  somebody_is_busy();
  goto loop;

reports_back:
  atomic {
    report[w] = 0;
    if
    :: standing[w] == BOUND -> goto loop
    :: standing[w] == STUCK && actives < procs -> standing[w] = ACTIVE; actives++; goto loop
    :: standing[w] == STUCK && actives >= procs
    :: standing[w] == ACTIVE && actives <= procs -> goto loop
    :: standing[w] == ACTIVE && actives > procs -> actives--
    fi;
    standing[w] = RETIRED; woken[w] = 0; in_service--
  };
  ended = ended + yields[w];     // To keep it simple they end here.
  yields[w] = 0;
#if BREAK != 4
  do                             // hand_over_queue()
  :: atomic { queue[w] > 0 -> queue[w]--; shared++ }
  :: queue[w] == 0 -> break
  od;
#endif
  wake_one();
  do
  :: true ->
     if
     :: stopping
     :: !stopping ->
        if
        :: woken[w] == 1
        :: atomic { expiries > 0 -> expiries--; expired = 1 }
        fi
     fi;
     atomic {
       if
       :: standing[w] == ACTIVE -> expired = 0; goto loop
       :: standing[w] != ACTIVE && stopping -> goto ends
       :: standing[w] != ACTIVE && !stopping && expired ->
          assert(queue[w] == 0);
#if BREAK == 11                  // As the code was at first.
          standing[w] = VACANT;
#else
          standing[w] = LEAVING;
#endif
          goto ends
       :: standing[w] != ACTIVE && !stopping && !expired
       fi
     }
  od;

waits_for_mail:
#if BREAK == 7                   // As the code was at first.
  if
  :: stopping -> goto ends
  :: else
  fi;
  mailed[w] = 0;
#else
  mailed[w] = 0;
  if
  :: stopping -> goto ends
  :: else
  fi;
#endif
  if
  :: mail[w] -> mail[w] = 0; goto unbinds
  :: else
  fi;
  in_service--;                  // out_of_service()
  mailed[w] == 1;
  in_service++;
  somebody_is_busy();
  goto waits_for_mail;

unbinds:
  moved[w] = 1;
  atomic {
    standing[w] = STUCK; bound[w] = 0; report[w] = 1
  };
runs:
  moved[w] = 1;
goes_on:
  if
  :: atomic { children > 0 -> children--; made++; queue[w]++ };
     if
     :: queue[w] > 1 -> wake_one()
     :: else
     fi;
     goto goes_on
  :: atomic { blockers > 0 -> blockers--; kept++; blocked[w] = 1 };
     if
     :: let_go
     :: atomic { returns > 0 -> returns-- }
     fi;
     atomic { blocked[w] = 0; kept-- };
     goto goes_on
  :: atomic { yielders > 0 -> yielders--; yields[w]++ };
     goto loop
  :: atomic {
       binders > 0 && !bound[w] && ONE_WILL_MAIL ->
       binders--;
       awaits_mail[w] = 1;
       if
       :: standing[w] == ACTIVE -> actives--
       :: else
       fi;
       standing[w] = BOUND; bound[w] = 1
     };
     do                          // hand_over_queue()
     :: atomic { queue[w] > 0 -> queue[w]--; shared++ }
     :: queue[w] == 0 -> break
     od;
     ended = ended + yields[w];
     yields[w] = 0;
     wake_one();
     goto loop                   // Waits for mail, which the next fiber to end sends.
  :: true ->
     i = 0;
     do
     :: i < WORKERS ->
        if
        :: atomic { awaits_mail[i] && i != w -> awaits_mail[i] = 0; mail[i] = 1 };
           mailed[i] = 1
        :: else
        fi;
        i++
     :: i == WORKERS -> break
     od;
     i = 0;
     ended++;
     goto loop
  fi;

ends:
  skip;                          // Gives back what its caches hold.
  threads_of[w]--;
  atomic {
    if
    :: standing[w] == LEAVING -> standing[w] = VACANT
    :: else
    fi
  };
  threads--
}

#define IS_MOVED(w) (moved[w] && !RESTS(w))
#define WAITS(w) (!RESTS(w) && queue[w] > 0 && idle_count > 0)
#define KEEPS_IT(w) (IS_BUSY(w) && (blocked[w] || (alarms > 0 && yields[w] == 0)))
#define KEEPS(w) (KEEPS_IT(w) && idle_count == 0)
#define TO_SPARE(w) (standing[w] == RETIRED || standing[w] == VACANT)
#define SOMEBODY_TO_SPARE ANY(TO_SPARE)
#define LACKS_ONE (actives < procs && idle_count == 0 && !stopping && SOMEBODY_TO_SPARE)
#if BREAK == 9 || BREAK == 10    // As the code was at first.
#define HOLDS(w) false
#else
#define HOLDS(w) (standing[w] == STUCK && queue[w] > 0)
#endif

#if BREAK == 12                  // As the code was at first.
#define ALL_IDLE(count) (count >= in_service)
#else
#define ALL_IDLE(count) (count > 0 && count >= in_service)
#endif

proctype monitor() {
  byte w, counted;
  bit waits, somebody_idle;
#if BREAK == 13
  bit fresh;
#endif
  do
  :: over -> break
  :: ANY(IS_MOVED) || ANY(WAITS) || ANY(KEEPS) || ANY(HOLDS) || LACKS_ONE ->
     somebody_idle = (idle_count > 0);    // look()
     w = 0;
     do
     :: w < WORKERS ->
        if
        :: moved[w] || RESTS(w) -> moved[w] = 0
        :: else ->
           if
           :: somebody_idle && queue[w] > 0 -> waits = 1
           :: !somebody_idle && KEEPS_IT(w) ->
              atomic {           // give_up_on()
                if
#if BREAK == 3
                :: true ->
#else
                :: IS_BUSY(w) && !moved[w] ->
#endif
                   if
                   :: !blocked[w] && alarms > 0 -> alarms--
                   :: else
                   fi;
                   assert(!idle[w]);
                   standing[w] = STUCK; actives--; report[w] = 1;
                   ended = ended + yields[w]; yields[w] = 0    // As at a return.
                :: true          // Not yet.
                fi
              }
           :: else
           fi;
           do                    // share_queue_of()
           :: atomic { !somebody_idle && HOLDS(w) -> queue[w]--; shared++; wake_one() }
           :: else -> break
           od
        fi;
        w++
     :: w == WORKERS -> w = 0; break
     od;
     if
     :: waits -> wake_one(); waits = 0
     :: else
     fi;
     do                          // fill_places()
     :: atomic {
#if BREAK == 5
          !stopping && idle_count == 0 && SOMEBODY_TO_SPARE ->
#else
          !stopping && idle_count == 0 && actives < procs && SOMEBODY_TO_SPARE ->
#endif
          if
          :: standing[0] == RETIRED -> put_in_place(0); woken[0] = 1
          :: else ->
             if
             :: standing[1] == RETIRED -> put_in_place(1); woken[1] = 1
             :: else ->
                if
#if WORKERS > 2
                :: standing[2] == RETIRED -> put_in_place(2); woken[2] = 1
                :: standing[2] == VACANT -> put_in_place(2); starts(2)
#endif
#if BREAK == 13                  // As the code was at first.
                :: standing[1] == VACANT -> fresh = 1
#else
                :: standing[1] == VACANT -> put_in_place(1); starts(1)
#endif
                :: standing[0] == VACANT -> put_in_place(0); starts(0)
                fi
             fi
          fi
        }
#if BREAK == 13
        ;
        if
        :: fresh -> atomic { fresh = 0; put_in_place(1); starts(1) }
        :: else
        fi
#endif
     :: else -> break
     od
  :: ALL_IDLE(idle_count) ->     // And has been for 50 ms, or so.
     called = 0;
     if
     :: over -> break
     :: else
     fi;
     asleep = 1;                 // sleep()
#if BREAK != 1
     counted = idle_count;
     if
     :: ALL_IDLE(counted) -> called == 1
     :: else
     fi;
     counted = 0;
#else
     called == 1;
#endif
     asleep = 0
  od;
  monitor_ended = 1
}

inline check() {
  assert(made == ended + kept + SUM(yields));
  assert(actives <= procs);
  assert(actives == (standing[0] == ACTIVE) + (standing[1] == ACTIVE)
#if WORKERS > 2
         + (standing[2] == ACTIVE)
#endif
  )
}

inline set_procs(n) {
  atomic {
    procs = n; procs_changed = 1;
    i = 0;
    do
    :: i < WORKERS ->
       if
       :: standing[i] == ACTIVE ->
          report[i] = 1;
          if
          :: actives > n && idle[i] -> wake_idle(i)
          :: else
          fi
       :: else
       fi;
       i++
    :: i == WORKERS -> break
    od;
    i = 0
  }
}

init {
  byte i;
  bit early;
  atomic {
    do
    :: i < PROCS -> put_in_place(i); starts(i); i++
    :: i == PROCS -> break
    od;
    i = 0;
    run monitor()
  };
  do
  :: i < FIBERS -> atomic { shared++; made++ }; wake_one(); i++
  :: else -> break
  od;
#ifdef LESS
  set_procs(1);
#endif
#ifdef MORE
  set_procs(PROCS + 1);
#endif
  i = 0;
#ifdef EARLY
  early = 1;                     // Stops at any time.
#endif
  if
  :: early
  :: !early -> timeout; check()
  fi;
  let_go = 1;
  if
  :: early
  :: !early -> timeout; check(); assert(kept == 0 && idle_count == in_service)
  fi;
  // stop()
  stopping = 1;
  over = 1;
  called = 1;
  monitor_ended;
  do
  :: i < WORKERS ->              // call_all_in()
     atomic {
       if
       :: idle[i] -> wake_idle(i)
       :: else
       fi
     };
     mailed[i] = 1;
     atomic {
       if
#if BREAK != 6
       :: standing[i] == RETIRED -> woken[i] = 1
#endif
       :: else
       fi
     };
     i++
  :: i == WORKERS -> break
  od;
  timeout;
  assert(threads == 0)
}
