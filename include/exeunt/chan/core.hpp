// SPDX-License-Identifier: Apache-2.0
// detail: the channel without its type. Elements are bytes plus a table of operations; the typed
// shells in chan.hpp and select.hpp fill the table in. What happens is said in src/chan/core.cpp.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/intrusive_list.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/biased_lock.hpp>
#include <exeunt/sched/cancel.hpp>
#include <exeunt/sched/wait.hpp>

namespace exeunt::detail {

/// What a receiver gets: an optional, or for events a flag.
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

/// An element that is its bytes: the core may copy it without asking anybody.
template <typename T>
inline constexpr bool is_bytes = std::is_trivially_copyable_v<T>;

/// Where a receiver has its element put. The core writes it to place() if the receive succeeds.
template <typename T>
class arrival {
 public:
  [[nodiscard]] void* place() noexcept { return &value_; }
  [[nodiscard]] T&& value() noexcept { return std::move(*value_); }
  [[nodiscard]] std::optional<T> take(bool /*received*/) noexcept { return std::move(value_); }

 private:
  std::optional<T> value_;
};
template <typename T>
  requires is_bytes<T>
class arrival<T> {
 public:
  // GCC is told that it is written: it sees paths on which it is not, where nobody reads it.
  arrival() noexcept { asm("" : "=m"(*static_cast<std::byte(*)[sizeof(T)]>(place()))); }
  [[nodiscard]] void* place() noexcept { return std::addressof(value_); }
  [[nodiscard]] T&& value() noexcept { return std::move(value_); }
  [[nodiscard]] std::optional<T> take(bool received) noexcept {
    if (!received) return std::nullopt;
    return std::optional<T>(std::in_place, std::move(value_));
  }

 private:
  union {
    T value_;  // There if received.
  };
};
template <>
class arrival<void> {
 public:
  [[nodiscard]] void* place() noexcept { return nullptr; }
  [[nodiscard]] bool take(bool received) noexcept { return received; }
};

/// What the core does with elements. `value` is the sender's T, `slot` raw memory in the ring,
/// `out` the receiver's arrival<T>::place(): raw memory if the element is bytes, else a
/// std::optional<T>.
struct element_ops {
  std::size_t bytes;      ///< of a slot; 0 for events
  std::size_t alignment;  ///< of a slot
  bool is_word;           ///< 8 bytes, to be copied
  void (*store)(void* slot, void* value) noexcept;
  void (*take)(void* out, void* slot) noexcept;  ///< ends the life of what is in `slot`
  void (*hand_over)(void* out, void* value) noexcept;
  void (*destroy)(void* slot) noexcept;
};

template <typename T>
constexpr element_ops make_element_ops() noexcept {
  if constexpr (std::is_void_v<T>) {
    constexpr auto nothing = [](void*, void*) noexcept {};
    return {0, 1, false, nothing, nothing, nothing, [](void*) noexcept {}};
  } else if constexpr (is_bytes<T>) {
    constexpr auto copy = [](void* to, void* from) noexcept { std::memcpy(to, from, sizeof(T)); };
    constexpr bool is_word = sizeof(T) == sizeof(std::uint64_t);
    return {sizeof(T), alignof(T), is_word, copy, copy, copy, [](void*) noexcept {}};
  } else {
    return {sizeof(T),
            alignof(T),
            false,
            [](void* slot, void* value) noexcept {
              ::new (slot) T(std::move(*static_cast<T*>(value)));
            },
            [](void* out, void* slot) noexcept {
              T* const element = static_cast<T*>(slot);
              static_cast<std::optional<T>*>(out)->emplace(std::move(*element));
              element->~T();
            },
            [](void* out, void* value) noexcept {
              static_cast<std::optional<T>*>(out)->emplace(std::move(*static_cast<T*>(value)));
            },
            [](void* slot) noexcept { static_cast<T*>(slot)->~T(); }};
  }
}
template <typename T>
inline constexpr element_ops element_ops_of = make_element_ops<T>();

enum class send_status : std::uint8_t { sent, full, closed, canceled };
enum class recv_status : std::uint8_t { received, empty, closed, canceled };

class race_clock;
struct race_slot;
struct select_case;
class select_run;

/// A caller parked on one end of a channel; on the caller's stack.
struct chan_waiter : waiter {
  enum class outcome : std::uint8_t { pending, delivered, closed };

  explicit chan_waiter(void* subject) noexcept : waiter{named_by_park{}}, element{subject} {}
  chan_waiter(ticket& several, void* subject) noexcept : waiter{several}, element{subject} {}

  void* element;                      // A sender's T, or a receiver's arrival<T>::place().
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
  [[nodiscard]] send_status try_send(void* value) noexcept {
    step("channel send", this, made_in_);
    return was_full() ? send_status::full : try_send_locked(value);
  }

  /// Parks until there is an element, the end, or `cancel` (may be null) ends.
  [[nodiscard]] recv_status recv(void* out, cancel_node* cancel) noexcept;
  /// No scheduling point, as try_send().
  [[nodiscard]] recv_status try_recv(void* out) noexcept {
    step("channel receive", this, made_in_);
    return was_empty() ? recv_status::empty : try_recv_locked(out);
  }

  /// Without the lock. True: at one moment of the call the channel was open and could take no
  /// value, or had none to give. False: may be old, or too careful. See src/chan/core.cpp.
  EXEUNT_NO_TSAN [[nodiscard]] bool was_full() const noexcept {
    return looks_full() && (!show_all(this_turn()) || looks_full());
  }
  EXEUNT_NO_TSAN [[nodiscard]] bool was_empty() const noexcept {
    return looks_empty() && (!show_all(this_turn()) || looks_empty());
  }

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
    if (drop()) abandon();
  }

 private:
  friend class select_run;

  EXEUNT_NO_TSAN [[nodiscard]] bool looks_full() const noexcept {
    // order: acquire, so that closed_ is looked at last.
    return receivers_.was_empty() && count_.load(memory_order_acquire) == capacity_ && !closed();
  }
  EXEUNT_NO_TSAN [[nodiscard]] bool looks_empty() const noexcept {
    // order: as in looks_full().
    return count_.load(memory_order_acquire) == 0 && senders_.was_empty() && !closed();
  }

  chan_core(const element_ops& ops, std::size_t capacity, chan_look look, std::byte* ring) noexcept;
  ~chan_core();
  static ref_ptr<chan_core> make_in(void* memory, const element_ops& ops,
                                    chan_companion& companion);
  void abandon() const noexcept;
  void free() const noexcept;

  [[nodiscard]] send_status send_shared(turn& here, void* value, cancel_node* cancel) noexcept;
  [[nodiscard]] recv_status recv_shared(turn& here, void* out, cancel_node* cancel) noexcept;
  // With lock_ held; released unless the caller has to wait.
  template <auto Step, auto Waits>
  [[nodiscard]] auto step_now(turn& here, void* element, spin_lock& held) noexcept;
  // With lock_ held, which they release.
  [[nodiscard]] send_status send_held(turn& here, void* value, cancel_node* cancel,
                                      spin_lock& held) noexcept;
  [[nodiscard]] recv_status recv_held(turn& here, void* out, cancel_node* cancel,
                                      spin_lock& held) noexcept;
  [[nodiscard]] send_status send_parked(void* value, spin_lock& held) noexcept;
  [[nodiscard]] recv_status recv_parked(void* out, spin_lock& held) noexcept;
  [[nodiscard]] chan_waiter::outcome park_alone(spin_lock& held,
                                                intrusive_list<chan_waiter>& waiters, void* element,
                                                wait_reason why) noexcept;
  [[nodiscard]] chan_waiter::outcome park_until(spin_lock& held,
                                                intrusive_list<chan_waiter>& waiters, void* element,
                                                wait_reason why, cancel_node& cancel) noexcept;

  // All under lock_.
  [[nodiscard]] send_status send_now(void* value, wakeup& due) noexcept;
  [[nodiscard]] recv_status recv_now(void* out, wakeup& due) noexcept;
  [[nodiscard]] send_status send_step(void* value, wakeup& due) noexcept;
  [[nodiscard]] recv_status recv_step(void* out, wakeup& due) noexcept;
  [[nodiscard]] bool can_send() noexcept;
  [[nodiscard]] bool can_recv() noexcept;
  static void unlink(chan_waiter& waiter) noexcept;
  void pin() noexcept { ++pins_; }
  void unlock_unpinned(spin_lock& held) noexcept;
  void count_to(std::size_t count) noexcept {
    // order: relaxed; guarded by lock_, but for those who only look.
    count_.store(count, memory_order_relaxed);
  }
  EXEUNT_NO_TSAN [[nodiscard]] std::size_t count() const noexcept {
    return count_.load(memory_order_relaxed);  // order: relaxed; a snapshot, or under lock_.
  }
  EXEUNT_NO_TSAN [[nodiscard]] bool closed() const noexcept {
    return closed_.load(memory_order_relaxed) != 0;  // order: relaxed; as in count().
  }
  void check_invariants() noexcept;
  [[nodiscard]] std::uint64_t id() noexcept {
    const std::uint64_t mine = id_.load(memory_order_relaxed);  // order: only the value counts.
    return mine != 0 ? mine : take_id();
  }
  std::uint64_t take_id() noexcept;

  [[nodiscard]] send_status try_send_locked(void* value) noexcept;
  [[nodiscard]] recv_status try_recv_locked(void* out) noexcept;
  [[nodiscard]] std::byte* slot(std::size_t index) noexcept {
    return ring_ + index * (is_word_ ? sizeof(std::uint64_t) : ops_->bytes);
  }
  void move_element(void (*move)(void*, void*) noexcept, void* to, void* from) const noexcept {
    if (is_word_) [[likely]] {
      std::memcpy(to, from, sizeof(std::uint64_t));
    } else {
      move(to, from);
    }
  }
  [[nodiscard]] std::size_t after(std::size_t index) const noexcept {
    return index + 1 == capacity_ ? 0 : index + 1;
  }

  // The first cache line is all that an unbuffered channel writes.
  atomic<unsigned char> closed_{0};  // Written under lock_.
  const chan_look look_;
  const bool is_word_;
  bool abandoned_ = false;  // The last handle is gone; the last pin frees.
  biased_lock lock_;
  intrusive_list<chan_waiter> receivers_;
  intrusive_list<chan_waiter> senders_;
  atomic<std::size_t> count_{0};  // Elements in the ring. Written under lock_.
  // The second one.
  const std::size_t capacity_;
  std::byte* const ring_;
  std::size_t head_ = 0;  // The oldest element's slot.
  std::size_t tail_ = 0;  // The next free slot.
  const element_ops* const ops_;
  std::uint32_t pins_ = 0;  // Those who will take the lock once more, with a handle or without.
  const std::uint32_t made_in_;  // A simulation's number, or 0.
  atomic<std::uint64_t> id_{0};  // See id().
  chan_companion* companion_ = nullptr;
  race_slot* races_ = nullptr;  // Under ThreadSanitizer: one for each slot.
};

/// One case of a select, as the core sees it.
struct select_case {
  enum class kind : std::uint8_t {
    send,       ///< source: chan_core, element: the value
    recv,       ///< source: chan_core, element: arrival<T>::place()
    done,       ///< source: cancel_node
    after,      ///< delay
    otherwise,  ///< if no other is ready
    never,      ///< a nil channel, a context that never ends
  };

  kind what = kind::never;
  bool closed = false;  ///< result: the winning case found its channel closed
  void* source = nullptr;
  void* element = nullptr;
  clock::duration delay{};
};

/// A channel that a select has locked, and its first case.
struct select_lock {
  chan_core* channel;
  spin_lock* held;
  std::uint32_t index;
};

/// Working memory of a select, which the caller has on its stack: as many of each as cases.
struct select_memory {
  void* waiters;  ///< raw, for chan_waiter
  select_lock* locks;
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
