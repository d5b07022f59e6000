// SPDX-License-Identifier: Apache-2.0
// The calls under way: who joins one, and what happens when its callers leave it.
//
// Invariants, whenever lock_ is free:
//   I1  A flight is in the table from the join() that found none until its end, a forget(), or
//       until the last of those that wait for it has left; linked_ says so.
//   I2  waiting_ counts who has joined and has not left. It is zero only for a flight that has a
//       fiber of its own; then is_left_ is set, the flight is not in the table, and its context has
//       ended or is about to. Nobody joins it any more.
//   I3  shared_ is written before the flight is complete, and never again.
//   I4  is_over_ => the outcome is in its place and the function's context has ended. Nobody leaves
//       then any more: so what is_left_ says, whether a failure has nobody to get it, stays true.
// Locks: lock_ is a leaf. Keys are compared under it; contexts are ended, fibers woken and flights
//   freed after it. The completion of a flight has a lock of its own.
// Wake-ups: by completion::complete(), from finish().
// Tests: tests/sync/singleflight_test.cpp, map_stress_test.cpp, flows_race_test.cpp;
//   tests/sim/covered_flows_test.cpp.

#include <exeunt/sync/singleflight.hpp>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/sched/boundary.hpp>
#include <exeunt/sched/cancel.hpp>

namespace exeunt::detail {

flight_base::~flight_base() = default;

flight_table::~flight_table() {
  EXEUNT_ASSERT(count_ == 0, "a singleflight was destroyed while somebody calls it");
  const race_ignore own;
  if (buckets_ != at_first_) delete[] buckets_;
}

// Under lock_: the link to the flight of the key, or null.
flight_base** flight_table::find(std::size_t hash, same_fn is_same) {
  // The key was written by another caller, whom nothing here orders before this one.
  const race_ignore own;
  for (flight_base** link = &bucket(hash); *link != nullptr; link = &(*link)->next_) {
    if ((*link)->hash_ == hash && is_same(**link)) return link;
  }
  return nullptr;
}

ref_ptr<flight_base> flight_table::join(std::size_t hash, same_fn is_same, flight_base* fresh) {
  step("singleflight call", this);
  const caller self = caller::current();
  const spin_guard guard{lock_};
  if (flight_base** const found = find(hash, is_same)) {
    flight_base& flight = **found;
    if (flight.runner_ == self) throw panic_error{"singleflight: a call of its own key"};
    ++flight.callers_;
    ++flight.waiting_;
    return ref_ptr<flight_base>::share(&flight);
  }
  if (fresh != nullptr) link(*fresh);
  return nullptr;
}

void flight_table::begin_here(flight_base& flight) noexcept {
  const spin_guard guard{lock_};
  flight.runner_ = caller::current();
}

context flight_table::adopt_context(flight_base& flight) {
  flight.home_ = &end_of_runtime();
  flight.node_ = cancel_node::make(nullptr);
  return make_context(context::background(), flight.node_, "singleflight");
}

void flight_table::finish(flight_base& flight) noexcept {
  if (flight.node_) flight.node_->cancel(errc::canceled, errc::canceled);
  race_release(&flight);
  {
    const spin_guard guard{lock_};
    if (flight.linked_) unlink(flight);
    flight.runner_ = caller{};
    flight.shared_ = flight.callers_ > 1;
    flight.is_over_ = true;
  }
  flight.complete();
}

result<> flight_table::wait(flight_base& flight, const context* ctx) {
  cancel_node* const until = ctx == nullptr ? nullptr : node_of(*ctx);
  if (flight.wait(wait_reason::singleflight, until, flight.home_)) return {};

  bool is_last = false;
  {
    const spin_guard guard{lock_};
    if (flight.is_over_) {  // I4; finish() is about to complete it.
      race_acquire(&flight);
      return {};
    }
    is_last = --flight.waiting_ == 0;
    if (is_last) {
      flight.is_left_ = true;
      if (flight.linked_) unlink(flight);
    }
  }
  if (is_last) flight.node_->cancel(errc::canceled, errc::canceled);
  if (until != nullptr && until->canceled()) return fail(until->reason());
  return fail(errc::shutting_down, "the runtime of a singleflight's function has stopped");
}

void flight_table::report_unread(flight_base& flight, const error* failure) noexcept {
  {
    const spin_guard guard{lock_};
    if (!flight.is_left_) return;
  }
  if (failure != nullptr && failure->exception() != nullptr) report_panic(*failure);
}

bool flight_table::forget(std::size_t hash, same_fn is_same) {
  step("singleflight forget", this);
  const spin_guard guard{lock_};
  flight_base** const found = find(hash, is_same);
  if (found == nullptr) return false;
  unlink(**found);
  return true;
}

std::size_t flight_table::size() noexcept {
  const spin_guard guard{lock_};
  return count_;
}

// Under lock_. With too few buckets the lists only get longer.
void flight_table::link(flight_base& flight) {
  if (count_ > mask_) grow();
  flight_base*& first = bucket(flight.hash_);
  flight.next_ = first;
  first = &flight;
  flight.linked_ = true;
  ++count_;
}

void flight_table::unlink(flight_base& flight) noexcept {
  flight_base** link = &bucket(flight.hash_);
  while (*link != &flight) link = &(*link)->next_;
  *link = flight.next_;
  flight.next_ = nullptr;
  flight.linked_ = false;
  --count_;
}

void flight_table::grow() {
  const race_ignore own;  // The tool sees what new and delete do, and not the lock.
  const std::size_t more = (mask_ + 1) * 4;
  flight_base** const wider = new flight_base*[more]();
  for (std::size_t b = 0; b <= mask_; ++b) {
    while (flight_base* const flight = buckets_[b]) {
      buckets_[b] = flight->next_;
      flight_base*& first = wider[flight->hash_ & (more - 1)];
      flight->next_ = first;
      first = flight;
    }
  }
  if (buckets_ != at_first_) delete[] buckets_;
  buckets_ = wider;
  mask_ = more - 1;
}

}  // namespace exeunt::detail
