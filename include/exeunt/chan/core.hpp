// SPDX-License-Identifier: Apache-2.0
// detail: the channel without its type. Elements are bytes plus a table of operations; the typed
// shells in chan.hpp and select.hpp fill the table in. What happens is said in src/chan/core.cpp.

#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/intrusive_list.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/cancel.hpp>
#include <exeunt/sched/wait.hpp>

namespace exeunt::detail {

/// Where a receiver wants its element: an optional, or for events a flag.
template <typename T>
struct received {
  using type = std::optional<T>;
};
template <>
struct received<void> {
  using type = bool;
};
template <typename T>
using received_t = typename received<T>::type;

/// What the core does with elements. `value` is the sender's T, `slot` raw memory in the ring,
/// `out` the receiver's received_t<T>.
struct element_ops {
  std::size_t bytes;      ///< of a slot; 0 for events
  std::size_t alignment;  ///< of a slot
  void (*store)(void* slot, void* value) noexcept;
  void (*take)(void* out, void* slot) noexcept;  ///< ends the life of what is in `slot`
  void (*hand_over)(void* out, void* value) noexcept;
  void (*destroy)(void* slot) noexcept;
};

template <typename T>
inline constexpr element_ops element_ops_of{
    sizeof(T),
    alignof(T),
    [](void* slot, void* value) noexcept { ::new (slot) T(std::move(*static_cast<T*>(value))); },
    [](void* out, void* slot) noexcept {
      T* const element = static_cast<T*>(slot);
      static_cast<std::optional<T>*>(out)->emplace(std::move(*element));
      element->~T();
    },
    [](void* out, void* value) noexcept {
      static_cast<std::optional<T>*>(out)->emplace(std::move(*static_cast<T*>(value)));
    },
    [](void* slot) noexcept { static_cast<T*>(slot)->~T(); }};

template <>
inline constexpr element_ops element_ops_of<void>{
    0,
    1,
    [](void*, void*) noexcept {},
    [](void* out, void*) noexcept { *static_cast<bool*>(out) = true; },
    [](void* out, void*) noexcept { *static_cast<bool*>(out) = true; },
    [](void*) noexcept {}};

enum class send_status : std::uint8_t { sent, full, closed, canceled };
enum class recv_status : std::uint8_t { received, empty, closed, canceled };

class race_clock;
struct race_slot;
struct select_case;
class select_run;

/// A caller parked on one end of a channel; on the caller's stack.
struct chan_waiter : waiter {
  enum class outcome : std::uint8_t { pending, delivered, closed };

  explicit chan_waiter(void* subject) noexcept : element{subject} {}
  chan_waiter(ticket& several, void* subject) noexcept : waiter{several}, element{subject} {}

  void* element;                      // A sender's T, or a receiver's received_t<T>.
  race_clock* passed = nullptr;       // Under ThreadSanitizer: the caller's clock.
  outcome result = outcome::pending;  // Written by the waker that claimed.
};

/// How a channel shows itself.
enum class chan_look : std::uint8_t {
  plain,
  unbuffered,  ///< size() and capacity() say 0 whatever is kept: channels of timers
};

/// What feeds a channel and lives as long as it, in one block of memory with it: a timer.
struct chan_companion {
  /// Called once, when the last handle is gone and before the channel is: a try_send() may still be
  /// running until this returns, and must not afterwards.
  void (*end)(chan_companion& self) noexcept = nullptr;
  /// Called when the channel is gone, too: frees the block.
  void (*free)(chan_companion& self) noexcept = nullptr;
};

/// One channel of any element type.
///
/// Threads: any, all members.
class EXEUNT_API chan_core : public ref_counted {
 public:
  /// Throws: std::bad_alloc; panic_error if the size is beyond what can be addressed.
  [[nodiscard]] static ref_ptr<chan_core> make(const element_ops& ops, std::size_t capacity,
                                               chan_look look = chan_look::plain);

  /// A channel for one T, in memory that `companion` has for it: bytes_for_one<T>, aligned as a
  /// chan_core. It looks unbuffered.
  /// Throws: std::bad_alloc; not but for the tools that look for races.
  template <typename T>
  [[nodiscard]] static ref_ptr<chan_core> make_in(void* memory, chan_companion& companion) {
    static_assert(alignof(T) <= alignof(chan_core));
    return make_in(memory, element_ops_of<T>, companion);
  }
  template <typename T>
  static constexpr std::size_t bytes_for_one() noexcept {
    return sizeof(chan_core) + sizeof(T);
  }

  /// Parks until delivered, closed or `cancel` (may be null) ends; never returns `full`.
  [[nodiscard]] send_status send(void* value, cancel_node* cancel) noexcept;
  /// Never parks, and is no scheduling point: call-backs of timers use it, too. Never returns
  /// `canceled`.
  [[nodiscard]] send_status try_send(void* value) noexcept;

  /// Parks until there is an element, the end, or `cancel` (may be null) ends.
  [[nodiscard]] recv_status recv(void* out, cancel_node* cancel) noexcept;
  /// No scheduling point, as try_send().
  [[nodiscard]] recv_status try_recv(void* out) noexcept;

  /// No scheduling point.
  /// Returns: false if it was closed already; nothing happens then.
  [[nodiscard]] bool close() noexcept;
  /// Drops the elements that nobody has taken. Parked senders stay.
  /// Returns: whether there were any.
  /// Asserts: nobody is parked in a send.
  bool discard() noexcept;

  [[nodiscard]] std::size_t size() const noexcept;
  [[nodiscard]] std::size_t capacity() const noexcept;

  /// Null unless made by make_in().
  [[nodiscard]] chan_companion* companion() const noexcept { return companion_; }

  void release() const noexcept {
    if (drop()) destroy();
  }

 private:
  friend class select_run;

  chan_core(const element_ops& ops, std::size_t capacity, chan_look look, std::byte* ring) noexcept;
  ~chan_core();
  static ref_ptr<chan_core> make_in(void* memory, const element_ops& ops,
                                    chan_companion& companion);
  void destroy() const noexcept;

  // All under lock_.
  [[nodiscard]] send_status send_now(void* value, wakeup& due) noexcept;
  [[nodiscard]] recv_status recv_now(void* out, wakeup& due) noexcept;
  [[nodiscard]] bool can_send() noexcept;
  [[nodiscard]] bool can_recv() noexcept;
  static void unlink(chan_waiter& waiter) noexcept;
  void count_to(std::size_t count) noexcept {
    count_.store(count, memory_order_relaxed);  // order: relaxed; guarded by lock_, but for size().
  }
  [[nodiscard]] std::size_t count() const noexcept {
    return count_.load(memory_order_relaxed);  // order: relaxed; a snapshot, or under lock_.
  }
  void check_invariants() noexcept;

  [[nodiscard]] chan_waiter::outcome park_until(intrusive_list<chan_waiter>& waiters, void* element,
                                                wait_reason why, cancel_node* cancel) noexcept;
  [[nodiscard]] std::byte* slot(std::size_t index) noexcept { return ring_ + index * ops_->bytes; }
  [[nodiscard]] std::size_t after(std::size_t index) const noexcept {
    return index + 1 == capacity_ ? 0 : index + 1;
  }

  // The first cache line is all that an unbuffered channel uses.
  spin_lock lock_;
  bool closed_ = false;
  const chan_look look_;
  const element_ops* const ops_;
  intrusive_list<chan_waiter> receivers_;
  intrusive_list<chan_waiter> senders_;
  atomic<std::size_t> count_{
      0};  // Elements in the ring. Written under lock_; size() reads without.
  const std::size_t capacity_;
  std::size_t head_ = 0;  // The oldest element's slot.
  std::size_t tail_ = 0;  // The next free slot.
  std::byte* const ring_;
  race_slot* races_ = nullptr;  // Under ThreadSanitizer: one for each slot.
  const std::uint64_t id_;
  chan_companion* companion_ = nullptr;
};

/// One case of a select, as the core sees it.
struct select_case {
  enum class kind : std::uint8_t {
    never,      ///< a nil channel, a context that never ends
    send,       ///< source: chan_core, element: the value
    recv,       ///< source: chan_core, element: received_t<T>
    done,       ///< source: cancel_node
    after,      ///< delay
    otherwise,  ///< if no other is ready
  };

  kind what = kind::never;
  bool closed = false;  ///< result: the winning case found its channel closed
  void* source = nullptr;
  void* element = nullptr;
  clock::duration delay{};
};

/// Working memory of a select, which the caller has on its stack: as many of each as cases.
struct select_memory {
  void* waiters;  ///< raw, for chan_waiter
  std::uint32_t* locks;
  std::uint32_t* ready;
};

/// Waits for one of `count` cases and does its part of the communication.
///
/// Returns: the index of the case that won. Without any case: never.
EXEUNT_API std::size_t select_among(select_case* cases, std::size_t count,
                                    const select_memory& memory) noexcept;

/// Operations on the nil channel: until `cancel` ends; for good if it is null.
EXEUNT_API send_status send_on_nil(cancel_node* cancel) noexcept;
EXEUNT_API recv_status recv_on_nil(cancel_node* cancel) noexcept;
/// Returns: true if `node` ended, false if `cancel` (may be null) did; the latter if both have.
[[nodiscard]] EXEUNT_API bool wait_for_either(cancel_node& node, cancel_node* cancel) noexcept;

[[noreturn, gnu::cold]] EXEUNT_API void throw_send_on_closed();
[[noreturn, gnu::cold]] EXEUNT_API void throw_close_of_closed();
[[noreturn, gnu::cold]] EXEUNT_API void throw_close_of_nil();

}  // namespace exeunt::detail
