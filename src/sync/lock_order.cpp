// SPDX-License-Identifier: Apache-2.0
// The detector of lock orders: a graph of who was held when whom was wanted.
//
// A *lock* of the graph is one that was held or wanted in an order. An *order* from A to B says
// that somebody held A and wanted B. One that was reported is *told*: it stays, so that it is not
// told again, but is no part of any path, so the others make no cycle.
//
// Who wants B while he holds A looks for the order in `seen`, where those are that are known,
// without any lock. If it is not there, it is looked up in the graph under its lock, and if it is
// new, the graph is searched for a path from B to A: with it the new order is a cycle.
//
// Invariants, whenever graph.lock is free:
//   I1  A lock that has the mark `known` and is alive is in the graph. One that is there without
//       that mark has gone, without its destructor, and another is at its address.
//   I2  Each order is in `out` of the one lock and `in` of the other one.
//   I3  Orders that were not told make no cycle.
//   I4  What is in `seen` is in the graph, but for a lock whose mark is not set.
// Locks: graph.lock is held while memory is allocated and the graph is searched, which may take
//   long; who waits gives up his processor. No other lock but the allocator's is taken under it. It
//   is taken under the lock of the caller's list: somebody else may unlock, and then destroy, what
//   the caller holds, but takes it off the list first.
//   `in_detector` of the thread keeps out what is called from within: an allocator, or a sink for
//   the log, that uses locks of this library.
// Races: none of this orders anything between fibers, as ThreadSanitizer sees it. This room is not
//   instrumented, the lock is a spin lock, and race_ignore keeps the containers out of sight.
// Memory: the graph is made when the detector is first switched on, and never destroyed, since
//   static locks may be destroyed later than anything else.
// Tests: tests/sync/lock_order_test.cpp, lock_order_stress_test.cpp.

#include <exeunt/sync/lock_order.hpp>

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/log.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/base/spin_lock.hpp>

#include "arch/throw_trace.hpp"
#include "sched/current.hpp"
#include "sched/held_locks.hpp"
#include "sched/reports.hpp"
#include "sync/lock_watch.hpp"

namespace exeunt {

namespace detail {
namespace {

using sched::call_trace;
using sched::held_lock;

constexpr std::size_t orders_max = 65'536;

struct lock_node;

// How one lock was in an order.
struct lock_use {
  const void* lock = nullptr;
  lock_form form{};
  bool shared = false;
  std::uint16_t rank = 0;
  call_trace at{};
};

struct order {
  lock_node* from = nullptr;
  lock_node* to = nullptr;
  std::size_t out_at = 0;  // Where it is in from->out,
  std::size_t in_at = 0;   // and in to->in.
  bool told = false;
  lock_use held{};
  lock_use wanted{};
  char who[256] = "";
};

struct lock_node {
  const order_mark* mark = nullptr;
  std::vector<order*> out;
  std::vector<order*> in;
  std::uint64_t visited = 0;  // The number of the search that came by,
  order* by = nullptr;        // and by which order.
};

using mark_pair = std::pair<const order_mark*, const order_mark*>;

std::uint64_t hash_of(const mark_pair& pair) noexcept {
  const auto one = reinterpret_cast<std::uintptr_t>(pair.first);
  const auto two = reinterpret_cast<std::uintptr_t>(pair.second);
  // Both factors are odd, so that nothing is lost; the shift is for tables that look at low bits.
  const std::uint64_t mixed = (one * 0x9E3779B97F4A7C15) ^ ((two * 0xC2B2AE3D27D4EB4F) >> 1);
  return mixed ^ (mixed >> 29);
}

struct hash_pair {
  std::size_t operator()(const mark_pair& pair) const noexcept { return hash_of(pair); }
};

struct order_graph {
  std::unordered_map<const order_mark*, lock_node> locks;
  std::unordered_map<mark_pair, order, hash_pair> orders;
  std::uint64_t searches = 0;
};

constinit spin_lock graph_lock;
constinit order_graph* graph = nullptr;  // under graph_lock
constinit atomic<lock_order> mode_now{lock_order::off};
// There are orders_max; only those that are seen are looked for. Changed under graph_lock.
constinit atomic<bool> graph_is_full{false};

// Of orders that are known, each in the place that its hash chooses; 0: none. That two have the
// same hash would hide one of them, and happens once in 2^64.
constexpr std::size_t seen_places = 4096;
constinit atomic<std::uint64_t> seen[seen_places];

atomic<std::uint64_t>& place_of(std::uint64_t hash) noexcept { return seen[hash % seen_places]; }

bool is_seen(const order_mark& from, const order_mark& to) noexcept {
  // By a lock that is not marked, what was seen is not meant.
  if (!from.has(order_mark::known) || !to.has(order_mark::known)) return false;
  const std::uint64_t hash = hash_of({&from, &to});
  return place_of(hash).load(memory_order_relaxed) == hash;  // order: the entry is all there is.
}

// While one lives, nothing that this thread does is watched, nor seen by ThreadSanitizer.
class [[nodiscard]] inside_detector {
 public:
  inside_detector() noexcept : outer_{std::exchange(sched::this_thread().in_detector, true)} {}
  ~inside_detector() { sched::this_thread().in_detector = outer_; }
  inside_detector(const inside_detector&) = delete;
  inside_detector& operator=(const inside_detector&) = delete;

  static bool is_here() noexcept { return sched::this_thread().in_detector; }

 private:
  bool outer_;
  race_ignore own_;
};

// --- the graph, under graph_lock

void link(std::vector<order*>& list, std::size_t order::* at, order& one) noexcept {
  one.*at = list.size();
  list.push_back(&one);  // There is room.
}

void unlink(std::vector<order*>& list, std::size_t order::* at, const order& one) noexcept {
  order* const last = list.back();
  last->*at = one.*at;
  list[one.*at] = last;
  list.pop_back();
}

void erase_orders(order_graph& all, lock_node& node) noexcept {
  const auto erase = [&all](const order* one) {
    const mark_pair pair{one->from->mark, one->to->mark};
    const std::uint64_t hash = hash_of(pair);
    // order: relaxed; who still sees it uses a lock that is being destroyed.
    if (place_of(hash).load(memory_order_relaxed) == hash) {
      place_of(hash).store(0, memory_order_relaxed);
    }
    all.orders.erase(pair);
  };
  for (const order* const one : node.out) {
    if (one->to == &node) continue;  // It is in `in`, too.
    unlink(one->to->in, &order::in_at, *one);
    erase(one);
  }
  for (const order* const one : node.in) {
    if (one->from != &node) unlink(one->from->out, &order::out_at, *one);
    erase(one);
  }
  // Not at the first that goes: that it is full is told each time anew.
  // order: relaxed; advice.
  if (all.orders.size() < orders_max / 2) graph_is_full.store(false, memory_order_relaxed);
}

void erase_lock(const order_mark* mark) noexcept {
  const auto found = graph->locks.find(mark);
  if (found == graph->locks.end()) return;
  erase_orders(*graph, found->second);
  graph->locks.erase(found);
}

// Throws: std::bad_alloc.
lock_node& node_of(order_mark& mark) {
  if (!mark.has(order_mark::known)) erase_lock(&mark);  // I1
  lock_node& node = graph->locks[&mark];
  node.mark = &mark;
  mark.set(order_mark::known);
  return node;
}

// Throws: std::bad_alloc.
void make_room(std::vector<order*>& in) {
  if (in.size() == in.capacity()) in.reserve(2 * in.size() + 1);
}

// Whether orders lead from `from` to `to`; then `by` has the way back. Throws: std::bad_alloc.
bool finds_way(lock_node& from, lock_node& to) {
  if (from.out.empty() || to.in.empty()) return false;
  const std::uint64_t search = ++graph->searches;
  std::vector<lock_node*> next{&from};
  from.visited = search;
  while (!next.empty()) {
    lock_node& here = *next.back();
    next.pop_back();
    if (&here == &to) return true;
    for (order* const one : here.out) {
      if (one->told || one->to->visited == search) continue;
      one->to->visited = search;
      one->to->by = one;
      next.push_back(one->to);
    }
  }
  return false;
}

// --- reports

const char* name_of(lock_form form) noexcept {
  switch (form) {
    case lock_form::mutex:
      return "mutex";
    case lock_form::barging:
      return "basic_mutex<barging>";
    case lock_form::handoff:
      return "basic_mutex<handoff>";
    case lock_form::spinning:
      return "basic_mutex<spinning>";
    case lock_form::shared:
      return "shared_mutex";
    case lock_form::read_mostly:
      return "read_mostly_mutex";
  }
  return "lock";
}

void name_caller(char* buffer, std::size_t size) noexcept {
  sched::describe_running(buffer, size);
  if (*buffer != '\0') return;
  char name[16] = "";
  static_cast<void>(::pthread_getname_np(::pthread_self(), name, sizeof name));
  std::snprintf(buffer, size, "thread %ld \"%s\"", ::syscall(SYS_gettid), name);
}

enum class offence : std::uint8_t { none, cycle, rank, self };

// What is to be told: the offending order, and for a cycle those that lead back, in turn.
struct finding {
  offence what = offence::none;
  std::vector<order> orders;
  bool is_full = false;  // There is no room for more orders, and nobody knows yet.
};

std::string text_of(const lock_use& use) {
  char text[96];
  std::snprintf(text, sizeof text, "%s %p%s", name_of(use.form), use.lock,
                use.shared ? " (shared)" : "");
  return use.rank == 0 ? text : text + (" of rank " + std::to_string(use.rank));
}

std::string text_of(const finding& found) {
  const order& last = found.orders.front();
  std::string text = "exeunt: lock order: " + text_of(last.wanted) + " is wanted ";
  if (found.what == offence::self) {
    text += "by one who holds it\n";
  } else {
    text += "under " + text_of(last.held);
    text += found.what == offence::rank ? ", and ranks must grow\n"
                                        : ", against an order seen before: this can deadlock\n";
  }
  for (const order& one : found.orders) {
    const bool now = &one == &last;
    text += std::string{now ? "  now " : "  before, "} + one.who + (now ? ": holds " : ": held ") +
            text_of(one.held) + (now ? ", wants " : ", wanted ") + text_of(one.wanted) + "\n";
    text += "  held since\n" + arch::format_trace(one.held.at.pcs, one.held.at.depth);
    text += "  wanted at\n" + arch::format_trace(one.wanted.at.pcs, one.wanted.at.depth);
  }
  return text;
}

void tell(const finding& found) noexcept {
  if (found.is_full) {
    log_line("exeunt: lock order: 65536 orders are known; no new ones are watched for");
  }
  if (found.what == offence::none) return;
  // order: relaxed; whoever has just changed it may still get the old one.
  const lock_order mode = mode_now.load(memory_order_relaxed);
  if (mode == lock_order::off) return;
  try {
    log_line(text_of(found));
  } catch (const std::bad_alloc&) {
    log_line("exeunt: lock order: locks are taken in an order that can deadlock");
  }
  if (mode == lock_order::fatal) fatal("locks were taken in an order that can deadlock");
}

// Under graph_lock: enters the order if it is new. Returns: what is to be told of it.
// Throws: std::bad_alloc; then it is not entered.
finding enter(const held_lock& held, order_mark& mark, const lock_use& wanted) {
  finding found;
  const mark_pair pair{held.mark, &mark};
  if (graph->orders.size() >= orders_max) {
    // order: relaxed; under graph_lock.
    found.is_full = !graph_is_full.exchange(true, memory_order_relaxed);
    return found;
  }
  lock_node& from = node_of(*held.mark);
  lock_node& to = node_of(mark);
  if (!graph->orders.contains(pair)) {
    if (&from == &to) {
      found.what = offence::self;
    } else if (held.rank != 0 && wanted.rank != 0 && wanted.rank <= held.rank) {
      found.what = offence::rank;
    } else if (finds_way(to, from)) {
      found.what = offence::cycle;
    }
    order fresh{.from = &from, .to = &to, .told = found.what != offence::none, .wanted = wanted};
    fresh.held = {.lock = held.lock,
                  .form = static_cast<lock_form>(held.kind),
                  .shared = held.shared,
                  .rank = held.rank,
                  .at = held.taken_at};
    name_caller(fresh.who, sizeof fresh.who);
    if (fresh.told) found.orders.push_back(fresh);
    if (found.what == offence::cycle) {
      // From the held one back to the wanted one; told the other way round, as they lead on.
      for (const lock_node* at = &from; at != &to; at = at->by->from) {
        found.orders.insert(found.orders.begin() + 1, *at->by);
      }
    }
    make_room(from.out);
    make_room(to.in);
    order& entered = graph->orders.emplace(pair, fresh).first->second;
    link(from.out, &order::out_at, entered);
    link(to.in, &order::in_at, entered);
  }
  const std::uint64_t hash = hash_of(pair);
  place_of(hash).store(hash, memory_order_relaxed);  // order: as in is_seen().
  return found;
}

// --- switching it on

// A forked child goes on with the graph; the one who was changing it is not there.
[[maybe_unused]] void watch_forks_of_graph() noexcept {
  [[maybe_unused]] static const int once = ::pthread_atfork(
      [] { graph_lock.lock(); }, [] { graph_lock.unlock(); }, [] { graph_lock.unlock(); });
}

#ifndef EXEUNT_CORE_MODEL  // In which each atomic operation is a step, and nobody watches.

lock_order mode_at_start() noexcept {
#ifdef EXEUNT_DCHECKS
  constexpr lock_order usual = lock_order::report;
#else
  constexpr lock_order usual = lock_order::off;
#endif
  const char* const set = std::getenv("EXEUNT_LOCK_ORDER");
  if (set == nullptr || *set == '\0') return usual;
  const std::string_view text = set;
  if (text == "off") return lock_order::off;
  if (text == "report") return lock_order::report;
  if (text == "fatal") return lock_order::fatal;
  char line[160];
  std::snprintf(line, sizeof line,
                "exeunt: EXEUNT_LOCK_ORDER=%.64s ignored: it must be off, report or fatal", set);
  log_line(line);
  return usual;
}

// Locks that static objects take before this are not seen.
[[maybe_unused]] const lock_order before_start = set_lock_order(mode_at_start());

#endif

}  // namespace

void order_mark::forget() noexcept {
  if (has(held)) sched::remove_all_held(this);
  if (!has(known)) return;
  const inside_detector inside;
  const spin_guard guard{graph_lock};
  if (graph != nullptr) erase_lock(this);
}

void watch_unlock(const char* call, const void* lock, order_mark& mark, bool shared) noexcept {
  step(call, lock);
  // order: as in is_watched().
  if ((watchers.load(memory_order_relaxed) & watches_locks) == 0 || is_simulated()) return;
  if (inside_detector::is_here()) return;
  // Others may hold it shared, too.
  if (!shared) mark.clear(order_mark::held);
  sched::remove_held(&mark, shared);
}

bool order_watch::begin(const char* call, const void* lock) noexcept {
  if (call != nullptr) step(call, lock);
  // order: as in is_watched().
  return (watchers.load(memory_order_relaxed) & watches_locks) != 0 && !is_simulated() &&
         !inside_detector::is_here();
}

void order_watch::judge(order_mark& mark, lock_name name, bool shared, const void* frame) noexcept {
  for (std::uint32_t index = 0;; ++index) {
    finding found;
    bool is_stale = false;
    const auto look = [&](const held_lock& held) noexcept {
      if (is_seen(*held.mark, mark)) return;
      // That was another lock, at the same address.
      is_stale = held.mark == &mark && !mark.has(order_mark::held);
      // order: relaxed; advice.
      if (is_stale || graph_is_full.load(memory_order_relaxed)) return;
      lock_use wanted{.lock = name.lock, .form = name.form, .shared = shared, .rank = mark.rank()};
      sched::walk_stack(frame, wanted.at);
      const inside_detector inside;
      try {
        const spin_guard guard{graph_lock};
        found = enter(held, mark, wanted);
      } catch (const std::bad_alloc&) {
        // What cannot be written down is not watched for.
      }
    };
    if (!sched::look_at_held(index, look)) return;
    if (is_stale) {
      sched::remove_all_held(&mark);
      --index;
    }
    const inside_detector inside;
    tell(found);
  }
}

void order_watch::note(order_mark& mark, lock_name name, bool shared, const void* frame) noexcept {
  held_lock one{.mark = &mark,
                .lock = name.lock,
                .rank = mark.rank(),
                .kind = static_cast<std::uint8_t>(name.form),
                .shared = shared};
  sched::walk_stack(frame, one.taken_at);
  mark.set(order_mark::held);
  sched::add_held(one);
}

}  // namespace detail

lock_order set_lock_order(lock_order mode) noexcept {
#ifdef EXEUNT_CORE_MODEL
  static_cast<void>(mode);
  return lock_order::off;
#else
  using detail::memory_order_relaxed;
  const detail::inside_detector inside;
  if (mode != lock_order::off) detail::watch_forks_of_graph();
  const detail::spin_guard guard{detail::graph_lock};
  if (detail::graph == nullptr) {
    if (mode == lock_order::off) return lock_order::off;
    detail::graph = new (std::nothrow) detail::order_graph;
    if (detail::graph == nullptr) return lock_order::off;
  }
  // order: relaxed, all; a lock that is taken while this changes may go unseen.
  const lock_order before = detail::mode_now.load(memory_order_relaxed);
  detail::mode_now.store(mode, memory_order_relaxed);
  if (mode == lock_order::off) {
    detail::watchers.fetch_and(~detail::watches_locks, memory_order_relaxed);
  } else if (before == lock_order::off) {
    sched::forget_all_held();  // Nobody knows who holds what since then.
    detail::watchers.fetch_or(detail::watches_locks, memory_order_relaxed);
  }
  return before;
#endif
}

}  // namespace exeunt
