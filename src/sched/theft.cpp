// SPDX-License-Identifier: Apache-2.0
// What a worker takes from others, what it does not, and when it leaves the work to them.
//
// What was just made ready is most likely run by its waker's worker at once, on whose core its data
// are. So only a crowd is shared, or what waits behind a fiber that keeps its worker.
//
// A theft costs its victim's processor an interrupt, in all 4 to 8 us on the reference machine: as
// much as many fibers need. So a thief is choosy, but only for as long as that, and not at all if
// nobody else is awake whose fibers could become a crowd.
//
// A worker with nothing to do but what others will have done sooner *stays away* for a while: it
// sleeps, and comes back when one of the others is kept by what it runs, or nobody is left. To the
// protocol of idle.cpp it is as one that runs a long fiber: it counts neither as idle nor as
// searching, owns nothing that others wait for, and looks at everything when it is back. There are
// two such cases; docs/decisions/0027.
//
// Fibers that do next to nothing are over before their data have come to another core. A thief that
// has got such, or who has run out of work as soon after a theft from it, becomes *reluctant*:
// after a few such thefts in a row it stays away before it steals again, longer each time.
//
// Fibers of several workers that use the same channels all the time are *entangled*: each worker
// waits for locks that the others hold, and takes each channel's data from their cores. Together
// they do less than one alone, whom a channel's lock costs next to nothing (biased_lock.cpp). So
// who has spent a quarter of its time on such waits gives its fibers to the others and stays away,
// longer each time it comes back to the same.
//
// Invariants:
//   I1  Whoever is away has an empty queue, and there was another busy one when it went. It comes
//       back as soon as it finds none, or that one of them keeps its worker from its turn.
// Locks: idle_lock_, for who goes away.
// Tests: tests/sched/theft_test.cpp, sched_stress_test.cpp, starvation_test.cpp; models/idle.pml
//        (that nothing waits for who is away).

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <utility>

#include "sched/runtime_core.hpp"
#include "sched/worker.hpp"

namespace exeunt::sched {

using detail::memory_order_relaxed;
using detail::spin_guard;
using std::chrono::microseconds;

namespace {

// So many in one queue are worth a theft's price.
constexpr std::uint32_t crowd = 32;
// And each of them if it takes so long: some cache lines.
constexpr clock::duration worth_it = microseconds{1};
// What a theft was worth so long ago says nothing.
constexpr clock::duration memory = std::chrono::milliseconds{10};

// Between two looks at others' queues: 1 to 4 us.
void pause_search() noexcept {
  constexpr int pauses = 100;
  for (int i = 0; i < pauses; ++i) detail::cpu_relax();
}

}  // namespace

fiber* worker::search() noexcept {
  constexpr int rounds = 4;  // As Go; each is a look at everybody's queue.
  for (int round = home_.others_sleep() ? rounds - 1 : 0; round < rounds; ++round) {
    const bool last = round == rounds - 1;
    if (fiber* const stolen = home_.steal(*this, last ? 1 : crowd)) {
      steals.store(steals.load(memory_order_relaxed) + 1, memory_order_relaxed);
      return stolen;
    }
    if (!home_.injected().empty()) return home_.injected().pop_list(1);
    if (!last) pause_search();
  }
  return nullptr;
}

// To be asked after a look around, when there was nothing to run. Whether thefts since it was asked
// last, and those before, were in vain: only who has tried again may stay away again.
bool worker::is_reluctant() noexcept {
  constexpr clock::duration at_first = microseconds{25};
  constexpr clock::duration enough = microseconds{200};
  constexpr clock::duration longest = microseconds{12800};
  const theft from_here = robbed_.load();
  if (stole_.count == 0 && from_here.count == 0) {
    if (last_look_ - tried_at_ > memory) reluctance_ = clock::duration::zero();
    return false;
  }
  // A few long turns are as good as many fibers: each of them may have had to wait.
  const auto paid = [this](const theft& one) {
    const std::uint32_t turns_since = turns() - one.turn;
    return one.count == 0 || last_look_ - one.at >= std::min(one.count, turns_since) * worth_it;
  };
  reluctance_ = paid(stole_) && paid(from_here) ? clock::duration::zero()
                                                : std::clamp(2 * reluctance_, at_first, longest);
  stole_.count = 0;
  robbed_.clear();
  tried_at_ = last_look_;
  return reluctance_ >= enough;
}

fiber* worker::steal_from(worker& victim, std::uint32_t least) noexcept {
  if (least > 1 ? victim.queue_.count() < least : !victim.has_spare_work()) return nullptr;
  std::array<fiber*, run_queue::theft_max> taken;
  const std::uint32_t count = victim.queue_.steal(taken);
  if (count == 0) return nullptr;
  for (std::uint32_t i = 1; i < count; ++i) push_last(*taken[i]);
  stole_ = {.count = count, .turn = turns(), .at = home_.now()};
  victim.robbed_.store({.count = count, .turn = victim.turns(), .at = stole_.at});
  return taken[0];
}

bool worker::has_spare_work() const noexcept {
  constexpr int looks = 4;  // A pair that hands over has somebody there half of the time.
  for (int i = 0; i < looks; ++i) {
    const std::uint32_t count = queue_.count();
    if (count != 1) return count > 1;
    if (stays()) return true;
  }
  return false;
}

bool worker::stays() const noexcept {
  const std::uint32_t turn = turns_.load(memory_order_relaxed);
  pause_search();
  return turns_.load(memory_order_relaxed) == turn;
}

// To be asked after a look around. Whether this worker has spent much of its time of late on locks
// of channels that others used.
bool worker::is_entangled() noexcept {
  constexpr clock::duration long_enough = microseconds{100};
  constexpr int share = 4;
  const clock::duration watched = last_look_ - watched_since_;
  if (watched < long_enough) return false;
  watched_since_ = last_look_;
  const clock::duration waited{std::exchange(turn_->waited, 0)};
  const bool is_so = waited * share >= watched;
  if (std::exchange(came_back_, false) && !is_so) {
    const clock::rep before = home_.stay_away_for.load(memory_order_relaxed);
    home_.stay_away_for.store(before / 2, memory_order_relaxed);  // order: a hint.
  }
  return is_so;
}

bool worker::leaves_entangled() noexcept {
  constexpr clock::rep shortest = 200'000;
  constexpr clock::rep longest = 3'200'000;
  constexpr clock::duration keeps_worker = microseconds{20};
  if (searching_ || !is_entangled()) return false;
  const clock::rep before = home_.stay_away_for.load(memory_order_relaxed);
  const clock::duration how_long{std::clamp(2 * before, shortest, longest)};
  if (!stay_away(how_long, keeps_worker)) return false;
  home_.stay_away_for.store(how_long.count(), memory_order_relaxed);  // order: a hint.
  came_back_ = true;
  return true;
}

bool worker::leaves_reluctant() noexcept {
  if (!is_reluctant() || !stay_away(reluctance_, 2 * worth_it)) return false;
  tried_at_ = last_look_;
  return true;
}

// Until another one's turns take `keeps_worker` each, or none is left that is busy.
// Returns: false, and nothing is done, if there is nobody to leave the work to.
bool worker::stay_away(clock::duration how_long, clock::duration keeps_worker) noexcept {
  constexpr timespec step{.tv_sec = 0, .tv_nsec = 50'000};
  if (!home_.lets_go(*this)) return false;
  withdrawals.store(withdrawals.load(memory_order_relaxed) + 1, memory_order_relaxed);
  if (searching_) home_.stop_searching(*this, true);
  hand_over_queue();
  const clock::time_point until = last_look_ + how_long;
  clock::time_point now = last_look_;
  for (const worker* other = this; now < until;) {
    other = home_.next_busy(*this, other->index());
    if (other == nullptr) break;
    const std::uint32_t turns_before = other->turns();
    const clock::time_point before_step = now;
    ::clock_nanosleep(CLOCK_MONOTONIC, 0, &step, nullptr);
    now = home_.now();
    if (home_.stopping() || has_mail() || attention_.load(memory_order_relaxed) != 0) break;
    if ((other->turns() - turns_before) * keeps_worker < now - before_step) break;
  }
  home_.takes_back(*this);
  turn_->waited = 0;
  last_look_ = now;
  watched_since_ = now;
  return true;
}

fiber* runtime_core::steal(worker& thief, std::uint32_t least) noexcept {
  const std::uint32_t count = workers_.size();
  const std::uint32_t first = thief.random().below(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    worker& victim = workers_[(first + i) % count];
    if (&victim == &thief) continue;
    if (fiber* const stolen = thief.steal_from(victim, least)) return stolen;
  }
  return nullptr;
}

worker* runtime_core::next_busy(const worker& w, unsigned index) noexcept {
  const std::uint32_t count = workers_.size();
  for (std::uint32_t i = 1; i <= count; ++i) {
    worker& other = workers_[(index + i) % count];
    if (&other != &w && other.is_busy()) return &other;
  }
  return nullptr;
}

bool runtime_core::lets_go(worker& w) noexcept {
  if (seam_.chooser != nullptr || seam_.migrate_always) return false;
  const spin_guard guard{idle_lock_};
  if (next_busy(w, w.index()) == nullptr) return false;
  w.away_.store(true, memory_order_relaxed);
  return true;
}

void runtime_core::takes_back(worker& w) noexcept {
  const spin_guard guard{idle_lock_};
  w.away_.store(false, memory_order_relaxed);
}

}  // namespace exeunt::sched
