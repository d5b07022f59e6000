// SPDX-License-Identifier: Apache-2.0
// Waiting for descriptors: readiness events on one side, parked callers on the other.
//
// Invariants, whenever a slot's lock is free:
//   I1  side.ready  =>  side.waiting == nullptr and, for the read side, start == nullptr.
//   I2  shut  =>  nobody waits and nothing is to be started.
//   I3  An event counts only if its generation is the slot's: a descriptor's number and slot may
//       have been given to another connection between the kernel's report and its handling.
//   I4  A slot names its runtime until that has ended. Who uses it after unlocking made a
//       runtime_hold before: a descriptor's owner may be on any thread.
// A readiness that nobody waits for is kept in `ready` and ends the next wait at once, so that an
// edge between a system call's EAGAIN and the wait is not lost; the price is one EAGAIN more.
// A peer that writes no more is remembered for good: data and end may come in one edge, and whoever
// reads only the data must not wait for another one.
// Locks: a slot's lock comes after the timers' and before the run queues'.
// Wake-ups: park in wait() is ended by deliver() (an event), shut_down(), the end of the runtime
//   (orphan()), the deadline's timer, or the cancel node.
// Tests: tests/sched/io_test.cpp.

#include <exeunt/sched/io.hpp>

#include <fcntl.h>
#include <unistd.h>
#include <cerrno>
#include <new>
#include <system_error>
#include <utility>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/sched/cancel.hpp>
#include <exeunt/sched/timer_node.hpp>

#include "sched/current.hpp"
#include "sched/io_slot.hpp"
#include "sched/runtime_core.hpp"
#include "sched/worker.hpp"

namespace exeunt::sched {

using detail::io_slot;

namespace {

constexpr unsigned address_bits = 48;  // Of a user address on x86-64 and aarch64, 4-level tables.
constexpr std::uint64_t address_mask = (std::uint64_t{1} << address_bits) - 1;

// Never freed, but within reach, so that leak checkers see what is meant. Nobody takes a slot of a
// slab whose registry has ended, so the link is free for this.
void keep(io_slot& slab) noexcept {
  static detail::atomic<io_slot*> kept{nullptr};
  slab.next_free = kept.exchange(&slab, detail::memory_order_acq_rel);
}

}  // namespace

void io_registry::orphan() noexcept {
  for (std::size_t s = 0;; ++s) {
    io_slot* slab = nullptr;
    {
      const detail::spin_guard guard{lock_};
      orphaned_ = true;
      if (s == slabs_.size()) return;
      slab = slabs_[s];
    }
    for (std::size_t i = 0; i < slab_slots; ++i) {
      detail::wakeup due[2];
      {
        const detail::spin_guard guard{slab[i].lock};
        slab[i].end_waits(due);
        slab[i].start = nullptr;
        slab[i].home = nullptr;
      }
      due[0].fire();
      due[1].fire();
    }
  }
}

io_registry::~io_registry() {
  orphan();
  for (io_slot* const slab : slabs_) {
    // Descriptors that outlive their runtime still point here, so slabs with any are kept.
    bool in_use = false;
    for (std::size_t i = 0; i < slab_slots; ++i) in_use |= slab[i].generation % 2 == 1;
    if (in_use) {
      keep(*slab);
    } else {
      delete[] slab;
    }
  }
}

io_slot* io_registry::get(runtime_core& home) {
  const detail::race_ignore own;
  const detail::spin_guard guard{lock_};
  if (free_ == nullptr) {
    slabs_.reserve(slabs_.size() + 1);
    io_slot* const slab = new io_slot[slab_slots];
    slabs_.push_back(slab);
    for (std::size_t i = slab_slots; i-- > 0;) {
      slab[i].next_free = free_;
      free_ = &slab[i];
    }
  }
  io_slot* const slot = free_;
  free_ = slot->next_free;
  const detail::spin_guard slot_guard{slot->lock};
  ++slot->generation;  // Odd: in use.
  slot->home = orphaned_ ? nullptr : &home;
  slot->shut = orphaned_;
  slot->sides = {};
  return slot;
}

void io_registry::put(io_slot& slot) noexcept {
  {
    const detail::spin_guard slot_guard{slot.lock};
    ++slot.generation;  // Even: free.
    slot.start = nullptr;
  }
  const detail::spin_guard guard{lock_};
  slot.next_free = free_;
  free_ = &slot;
}

std::uint64_t io_registry::token_of(const io_slot& slot) noexcept {
  return (reinterpret_cast<std::uintptr_t>(&slot) & address_mask) |
         (std::uint64_t{slot.generation} << address_bits);
}

io_slot* io_registry::slot_of(std::uint64_t token) noexcept {
  return reinterpret_cast<io_slot*>(static_cast<std::uintptr_t>(token & address_mask));
}

bool io_registry::current(std::uint64_t token, const io_slot& slot) noexcept {
  return token == token_of(slot);
}

namespace {

// One direction became ready, under the slot's lock.
void deliver(io_slot::side& side, detail::wakeup& due) noexcept {
  if (detail::waiter* const waiting = std::exchange(side.waiting, nullptr)) {
    if (waiting->claim(due)) return;
  }
  side.ready = true;
}

}  // namespace

void runtime_core::deliver_event(const poll::event& event) noexcept {
  io_slot& slot = *io_registry::slot_of(event.token);
  detail::wakeup read_due;
  detail::wakeup write_due;
  void (*begin)(void*) = nullptr;
  void* argument = nullptr;
  {
    const detail::spin_guard guard{slot.lock};
    if (!io_registry::current(event.token, slot)) return;  // I3
    if (event.writable) deliver(slot.sides[1], write_due);
    if (event.ended) slot.sides[0].ended = true;
    if (event.readable) {
      begin = std::exchange(slot.start, nullptr);
      argument = slot.start_argument;
      if (begin == nullptr) deliver(slot.sides[0], read_due);
    }
  }
  read_due.fire();
  write_due.fire();
  if (begin != nullptr) {
    start({.name = "connection"}, [begin, argument] { begin(argument); });
  }
}

bool runtime_core::poll_io(clock::time_point until, worker* asleep) noexcept {
  constexpr std::size_t batch = 128;
  poll::event events[batch];
  const std::size_t count = poller_->wait(events, batch, until);
  if (asleep != nullptr) wake_up(*asleep, true, false);  // Else we would wake ourselves below.
  for (std::size_t i = 0; i < count; ++i) deliver_event(events[i]);
  return count > 0;
}

}  // namespace exeunt::sched

namespace exeunt::detail {

using sched::io_registry;
using sched::runtime_core;

// Under `lock`.
void io_slot::end_waits(wakeup (&due)[2]) noexcept {
  shut = true;
  for (std::size_t i = 0; i < sides.size(); ++i) {
    waiter* const waiting = std::exchange(sides[i].waiting, nullptr);
    if (waiting == nullptr || !waiting->claim(due[i])) due[i] = wakeup{};
  }
}

namespace {

bool is_simulated(int fd) noexcept { return fd >= poll::poller::first_own; }

void close_fd(int fd) noexcept {
  if (!is_simulated(fd)) [[likely]] {
    ::close(fd);
    return;
  }
  // One that outlives its simulation is gone with it.
  if (sched::worker* const here = sched::this_worker()) here->home().poller().close_own(fd);
}

}  // namespace

result<io_descriptor> io_descriptor::adopt(int fd) noexcept {
  auto adopted = try_adopt(fd);
  if (!adopted) close_fd(fd);
  return adopted;
}

result<io_descriptor> io_descriptor::try_adopt(int fd) noexcept {
  // The poller is shared with the parent, which would be given our slots' addresses.
  if (sched::forked_without_exec()) sched::refuse_in_child("registers a descriptor");
  const int flags = is_simulated(fd) ? O_NONBLOCK : ::fcntl(fd, F_GETFL);
  if (flags < 0 || ((flags & O_NONBLOCK) == 0 && ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)) {
    return fail(error::from_errno(errno));
  }
  try {
    runtime_core& home = runtime_core::current();
    io_slot* const slot = home.io().get(home);
    if (auto added = home.poller().add(fd, io_registry::token_of(*slot)); !added) {
      home.io().put(*slot);
      return fail(added.error());
    }
    io_descriptor adopted;
    adopted.fd_ = fd;
    adopted.slot_ = slot;
    return adopted;
  } catch (const std::bad_alloc&) {
    return fail(error::from_errno(ENOMEM));
  } catch (const std::system_error& refused) {  // The default runtime's start.
    return fail(error::from_errno(refused.code().value()));
  }
}

io_descriptor::io_descriptor(io_descriptor&& other) noexcept
    : fd_{std::exchange(other.fd_, -1)}, slot_{std::exchange(other.slot_, nullptr)} {}

io_descriptor& io_descriptor::operator=(io_descriptor&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::exchange(other.fd_, -1);
    slot_ = std::exchange(other.slot_, nullptr);
  }
  return *this;
}

io_descriptor::~io_descriptor() { close(); }

result<> io_descriptor::wait(io_direction direction, wait_reason why, cancel_node* cancel,
                             clock::time_point deadline) noexcept {
  EXEUNT_ASSERT(slot_ != nullptr, "wait on a closed descriptor");
  io_slot::side& side = slot_->sides[static_cast<std::size_t>(direction)];

  if (cancel == nullptr && deadline == no_deadline) {
    spin_guard guard{slot_->lock};
    if (slot_->shut) return fail(errc::closed);
    if (std::exchange(side.ready, false) || side.ended) return {};
    EXEUNT_ASSERT(side.waiting == nullptr, "two waiters for one direction of a descriptor");
    waiter self;
    side.waiting = &self;
    park(guard.release(), why, this);  // Woken by: an event, shut_down(), orphan().
    const spin_guard again{slot_->lock};
    return slot_->shut ? result<>{fail(errc::closed)} : result<>{};
  }

  if (cancel != nullptr && cancel->canceled()) return fail(cancel->reason());
  ticket several;
  waiter self{several};
  waiter canceled{several};
  {
    const spin_guard guard{slot_->lock};
    if (slot_->shut) return fail(errc::closed);
    if (std::exchange(side.ready, false) || side.ended) return {};
    EXEUNT_ASSERT(side.waiting == nullptr, "two waiters for one direction of a descriptor");
    side.waiting = &self;
  }
  const bool registered = cancel == nullptr || cancel->add_waiter(canceled);
  bool timed_out = false;
  if (registered) {
    timeout_waiter timeout{several, deadline};
    // Woken by: an event, shut_down(), orphan(), `cancel`, the deadline's timer.
    park(several, why, this);
    timed_out = timeout.won();
  }
  if (registered && cancel != nullptr) cancel->remove_waiter(canceled);
  {
    const spin_guard guard{slot_->lock};
    if (side.waiting == &self) side.waiting = nullptr;
    // A readiness that came before `cancel` was found ended is for the next wait.
    if (!registered && self.won()) side.ready = true;
    if (slot_->shut) return fail(errc::closed);
  }
  if (!registered || canceled.won()) return fail(cancel->reason());
  if (timed_out) return fail(errc::deadline_exceeded);
  return {};
}

void io_descriptor::start_when_readable(void (*fiber_body)(void*), void* argument) noexcept {
  EXEUNT_ASSERT(slot_ != nullptr);
  if (sched::forked_without_exec()) sched::refuse_in_child("waits for a descriptor");
  runtime_core* home = nullptr;
  sched::runtime_hold hold;
  {
    const spin_guard guard{slot_->lock};
    EXEUNT_ASSERT(slot_->sides[0].waiting == nullptr && slot_->start == nullptr);
    home = slot_->home;
    const bool due = std::exchange(slot_->sides[0].ready, false) || slot_->sides[0].ended;
    if (!slot_->shut && !due) {
      slot_->start = fiber_body;
      slot_->start_argument = argument;
      return;
    }
    hold = sched::runtime_hold{home};
  }
  EXEUNT_ASSERT(home != nullptr, "the descriptor's runtime has ended");
  home->start({.name = "connection"}, [fiber_body, argument] { fiber_body(argument); });
}

bool io_descriptor::cancel_start() noexcept {
  if (slot_ == nullptr) return false;
  if (sched::forked_without_exec()) return std::exchange(slot_->start, nullptr) != nullptr;
  const spin_guard guard{slot_->lock};
  return std::exchange(slot_->start, nullptr) != nullptr;
}

void io_descriptor::wake(io_direction direction) noexcept {
  if (slot_ == nullptr || sched::forked_without_exec()) return;
  wakeup due;
  {
    const spin_guard guard{slot_->lock};
    sched::deliver(slot_->sides[static_cast<std::size_t>(direction)], due);
  }
  due.fire();
}

void io_descriptor::shut_down() noexcept {
  if (slot_ == nullptr) return;
  if (sched::forked_without_exec()) {
    slot_->shut = true;
    return;
  }
  wakeup due[2];
  void (*start)(void*) = nullptr;
  void* argument = nullptr;
  runtime_core* home = nullptr;
  sched::runtime_hold hold;
  {
    const spin_guard guard{slot_->lock};
    slot_->end_waits(due);
    home = slot_->home;
    start = std::exchange(slot_->start, nullptr);
    if (start != nullptr) hold = sched::runtime_hold{home};
    argument = slot_->start_argument;
  }
  due[0].fire();
  due[1].fire();
  // Whoever was to be started must learn that the descriptor ended, and free what it owns.
  if (start != nullptr && home != nullptr) {
    home->start({.name = "connection"}, [start, argument] { start(argument); });
  }
}

void io_descriptor::close() noexcept {
  if (fd_ < 0) return;
  close_fd(release());
}

int io_descriptor::release() noexcept {
  if (fd_ < 0) return -1;
  io_slot* const slot = std::exchange(slot_, nullptr);
  const int fd = std::exchange(fd_, -1);
  // To deregister it would be to deregister the parent's: the poller is shared.
  if (sched::forked_without_exec()) return fd;
  runtime_core* home = nullptr;
  sched::runtime_hold hold;
  {
    const spin_guard guard{slot->lock};
    EXEUNT_ASSERT(slot->sides[0].waiting == nullptr && slot->sides[1].waiting == nullptr &&
                      slot->start == nullptr,
                  "a descriptor was closed by its owner while somebody waits on it");
    slot->shut = true;
    home = slot->home;
    hold = sched::runtime_hold{home};
  }
  if (home != nullptr) {
    home->poller().remove(fd);
    home->io().put(*slot);
  }
  return fd;
}

}  // namespace exeunt::detail
