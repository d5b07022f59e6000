// SPDX-License-Identifier: Apache-2.0
// A value that many read and few replace: readers get an immutable snapshot and never wait.

#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/error.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/base/thread_word.hpp>

namespace exeunt {

namespace detail {

/// One published value: the part that does not depend on its type. Its address stands for the
/// edge from the store to the loads, that of last_use for the edge from the readers to the end.
struct snapshot_node {
  explicit constexpr snapshot_node(void (*d)(snapshot_node* self) noexcept) noexcept : destroy{d} {}

  void (*destroy)(snapshot_node* self) noexcept;
  std::uint32_t owed = 0;  ///< slots that are to give it up yet, once it has been replaced
  snapshot_node* next_over = nullptr;
  char last_use = 0;
};

template <typename T>
struct value_node final : snapshot_node {
  template <typename... Args>
  explicit value_node(std::in_place_t, Args&&... args)
      : snapshot_node{[](snapshot_node* self) noexcept { delete static_cast<value_node*>(self); }},
        value(std::forward<Args>(args)...) {}
  T value;
};

/// A line of its own that has the name of a node which must stay. Never freed.
struct alignas(64) snapshot_slot {
  static constexpr unsigned char pooled = 1;  ///< Is free when it is in a list; else when it names
                                              ///< nothing, and has one thread that may take it.
  static constexpr unsigned char marked = 2;  ///< Who gives a name up has to settle.

  atomic<snapshot_node*> names{nullptr};
  atomic<unsigned char> look_for{0};  // `marked` changes under the domain's lock.
  snapshot_node* owes = nullptr;      // Under the domain's lock.
  snapshot_slot* next = nullptr;      // In a list of free ones.
  // Of a thread's own: the pooled ones that the thread has.
  snapshot_slot* others = nullptr;
  std::uint32_t others_count = 0;
};

extern "C" {
// Null until the thread has one.
EXEUNT_API extern constinit thread_local snapshot_slot* exeunt_this_slot;
}

/// A node, and why it stays: a slot that names it; or no slot, and it has been taken out of its
/// cell, and whoever has this is to retire it. Null: nothing.
struct held_snapshot {
  snapshot_node* node = nullptr;
  snapshot_slot* slot = nullptr;
};

/// An atomic_value without its type. src/sync/atomic_value.cpp has the protocol and the proof.
class EXEUNT_API snapshot_cell {
 public:
  constexpr snapshot_cell() noexcept = default;
  explicit snapshot_cell(snapshot_node* first) noexcept;
  ~snapshot_cell();
  snapshot_cell(const snapshot_cell&) = delete;
  snapshot_cell& operator=(const snapshot_cell&) = delete;

  EXEUNT_NO_TSAN [[nodiscard]] held_snapshot load() const {
    snapshot_node* const node = current_.load();
    if (node == nullptr) [[unlikely]]
      return {};
    snapshot_slot* const slot = EXEUNT_READ_THREAD_WORD(exeunt_this_slot);
    if (!take(slot, node)) [[unlikely]]
      return load_by_other();
    asm volatile("" : : : "memory");  // The light fence; where it is not enough take() fails.
    if (current_.load() != node) [[unlikely]]
      return load_again(*slot);
    race_acquire(node);
    return {node, slot};
  }
  /// Returns: what was there, which has no slot.
  [[nodiscard]] held_snapshot exchange(snapshot_node* next) noexcept;
  /// Puts `next` in the place of `expected`, which then is the caller's to retire and has no slot.
  [[nodiscard]] bool compare_exchange(held_snapshot& expected, snapshot_node* next) noexcept;

 private:
  // Nobody else runs on the thread between the look and the store, and nobody else takes its slot.
  EXEUNT_NO_TSAN static bool take(snapshot_slot* slot, snapshot_node* node) noexcept {
    step_at_atomic();
    const scheduler_section whole;
    // order: acquire, pairs with the release in let_go(); release: see has_name_of().
    if (slot == nullptr || slot->names.load(memory_order_acquire) != nullptr) return false;
    slot->names.store(node, memory_order_release);
    return true;
  }
  [[gnu::noinline]] held_snapshot load_by_other() const;
  [[gnu::noinline, gnu::cold]] held_snapshot load_again(snapshot_slot& slot) const noexcept;

  atomic<snapshot_node*> current_{nullptr};
};

/// Of one that is in no cell any more, and not to be used after.
EXEUNT_API void retire(snapshot_node* node) noexcept;
/// The rest of let_go(), for a slot with something to look for.
EXEUNT_API void settle_and_put_back(snapshot_slot& slot) noexcept;

/// Gives a snapshot up; not of null.
EXEUNT_NO_TSAN inline void let_go(snapshot_node* node, snapshot_slot* slot) noexcept {
  race_release(&node->last_use);
  if (slot == nullptr) [[unlikely]]
    return retire(node);
  // order: release, pairs with the acquire of who looks for names, or takes the slot.
  slot->names.store(nullptr, memory_order_release);
  asm volatile("" : : : "memory");  // The light fence; where it is not enough all are pooled.
  // order: relaxed; settle_and_put_back() looks under the lock.
  if (slot->look_for.load(memory_order_relaxed) != 0) [[unlikely]]
    settle_and_put_back(*slot);
}

}  // namespace detail

template <typename T>
class atomic_value;

/// One value that an atomic_value has, or had: a pointer to it, and the right to look at it.
///
/// It stays what it is, and where it is, as long as this lives, whatever is stored meanwhile and
/// though the atomic_value itself be gone. It may be held across anything that parks, and given
/// to other fibers and threads, by moving it. Who needs two asks load() twice.
///
/// Threads: a variable like any other. It may be destroyed by another thread than it was made by.
/// Cost:    two words. What is held keeps a slot, 64 bytes, that each store looks at.
template <typename T>
class [[nodiscard]] value_snapshot {
 public:
  /// Of nothing.
  constexpr value_snapshot() noexcept = default;
  value_snapshot(value_snapshot&& other) noexcept
      : node_{std::exchange(other.node_, nullptr)}, slot_{std::exchange(other.slot_, nullptr)} {}
  value_snapshot& operator=(value_snapshot&& other) noexcept {
    const value_snapshot old{std::move(*this)};
    node_ = std::exchange(other.node_, nullptr);
    slot_ = std::exchange(other.slot_, nullptr);
    return *this;
  }
  /// If the value has been replaced and nobody else holds it, destroys it.
  ~value_snapshot() {
    if (node_ != nullptr) detail::let_go(node_, slot_);
  }

  /// Null if there is none.
  const T* get() const noexcept {
    return node_ == nullptr ? nullptr : std::addressof(node_->value);
  }
  /// Only if there is one, both.
  const T& operator*() const noexcept { return node_->value; }
  const T* operator->() const noexcept { return std::addressof(node_->value); }
  explicit operator bool() const noexcept { return node_ != nullptr; }

  /// Gives it up early.
  void reset() noexcept {
    if (node_ != nullptr) {
      detail::let_go(std::exchange(node_, nullptr), std::exchange(slot_, nullptr));
    }
  }

 private:
  friend class atomic_value<T>;
  explicit value_snapshot(detail::held_snapshot held) noexcept
      : node_{static_cast<detail::value_node<T>*>(held.node)}, slot_{held.slot} {}

  // Two members and no held_snapshot, which GCC copies as one of 16 bytes: the CPU then waits for
  // the two of 8 that it was made of, 10 ns.
  detail::value_node<T>* node_ = nullptr;
  detail::snapshot_slot* slot_ = nullptr;
};

/// A value that is replaced as a whole, while others read what was there: for configurations,
/// routing tables, and all that is read far more often than it changes.
///
/// load() gives a snapshot that nobody changes. A store puts another value in its place; the old
/// one is destroyed when the last snapshot of it is given up, by who gives it up, or by the store
/// if there is none.
///
/// As Go's atomic.Value, to which a value of another type cannot be given, and nothing neither.
/// There is no garbage collector to find out who still reads: a snapshot is an object with an end.
///
/// Bound:    values that have been replaced and not destroyed yet are those that snapshots hold,
///           and at most one for each call of a member that is under way.
/// Threads:  all members may be called concurrently, from fibers and plain threads; not from signal
///           handlers. All loads and stores of all atomic_values have one order.
/// Ordering: a store happens before the load() that returns its value, and the last use of a
///           snapshot before its value's destructor. Readers are not ordered with each other.
/// Cost:     load() and the end of a snapshot are 2 to 3 ns, with no locked instruction, and write
///           nothing that other threads write or read but for stores; some ns more while another
///           snapshot that was loaded on this thread is held. A store allocates, has the kernel
///           put a fence into each thread of the process that runs, some microseconds with
///           membarrier(2), and looks at as many slots as snapshots were ever held at once. One
///           that replaces what is being read does both twice.
template <typename T>
class atomic_value {
  static_assert(std::is_object_v<T> && !std::is_array_v<T> && !std::is_const_v<T>,
                "an atomic_value is of a type that objects have");
  using node = detail::value_node<T>;

 public:
  using value_type = T;
  using snapshot = value_snapshot<T>;

  /// With nothing in it.
  constexpr atomic_value() noexcept = default;
  /// With `first` in it.
  explicit atomic_value(T first)
    requires std::move_constructible<T>
      : cell_{new node{std::in_place, std::move(first)}} {}
  /// Snapshots may live on. Nobody else may be in a member.
  ~atomic_value() = default;
  atomic_value(const atomic_value&) = delete;
  atomic_value& operator=(const atomic_value&) = delete;

  /// The value that is there now. Never waits, whatever others do; begins again if it has been
  /// replaced meanwhile.
  ///
  /// Returns: a snapshot of nothing if nothing has been stored.
  /// Throws:  std::bad_alloc, if there are more snapshots than ever before, or at the first use on
  ///          a thread.
  [[nodiscard]] snapshot load() const { return snapshot{cell_.load()}; }

  /// Replaces the value.
  ///
  /// Throws: what moving T does, std::bad_alloc; then the value is as it was.
  void store(T next)
    requires std::move_constructible<T>
  {
    emplace(std::move(next));
  }
  /// As store(T(args...)), without moving it.
  template <typename... Args>
    requires std::constructible_from<T, Args...>
  void emplace(Args&&... args) {
    static_cast<void>(
        snapshot{cell_.exchange(new node{std::in_place, std::forward<Args>(args)...})});
  }
  /// As store(), and gives what was there: each value that was stored is returned by one call, or
  /// is there at last.
  ///
  /// Returns: a snapshot of nothing for the first.
  [[nodiscard]] snapshot exchange(T next)
    requires std::move_constructible<T>
  {
    return snapshot{cell_.exchange(new node{std::in_place, std::move(next)})};
  }

  /// Replaces the value if it still is the one that `expected` is a snapshot of: not an equal one,
  /// but that one. A snapshot of nothing stands for nothing stored.
  ///
  /// Returns: false if it is another, which `expected` then is a snapshot of.
  /// Value:   `next` is moved from only on success.
  /// Throws:  as load() and store().
  [[nodiscard]] bool compare_exchange(snapshot& expected, T&& next)
    requires std::move_constructible<T> && std::is_nothrow_move_assignable_v<T>
  {
    auto made = std::make_unique<node>(std::in_place, std::move(next));
    if (publish(expected, made)) return true;
    next = std::move(made->value);
    expected = load();
    return false;
  }
  [[nodiscard]] bool compare_exchange(snapshot& expected, const T& next)
    requires std::copy_constructible<T>
  {
    auto made = std::make_unique<node>(std::in_place, next);
    if (publish(expected, made)) return true;
    expected = load();
    return false;
  }

  /// Changes a copy of the value by `f(copy)`, and puts it in the value's place. If that has been
  /// replaced meanwhile, it begins again with a copy of the new one: f may be called several times,
  /// and of these calls one has an effect. f may do what it likes, also park, or use this value.
  ///
  /// If nothing has been stored, f is given a T() if there is such a thing.
  ///
  /// Throws: what f and copying throw, and as store(); then the value is as it was. panic_error if
  ///         nothing has been stored and there is no T().
  template <typename F>
    requires std::copy_constructible<T> && std::invocable<F&, T&>
  void update(F f) {
    snapshot seen = load();
    for (;;) {
      std::unique_ptr<node> made;
      if (seen) {
        made = std::make_unique<node>(std::in_place, *seen);
      } else if constexpr (std::default_initializable<T>) {
        made = std::make_unique<node>(std::in_place);
      } else {
        throw panic_error{"update of an atomic_value that has no value"};
      }
      static_cast<void>(f(made->value));
      if (publish(seen, made)) return;
      seen = load();
    }
  }

 private:
  bool publish(snapshot& expected, std::unique_ptr<node>& made) noexcept {
    detail::held_snapshot held{expected.node_, expected.slot_};
    if (!cell_.compare_exchange(held, made.get())) return false;
    expected.slot_ = held.slot;
    static_cast<void>(made.release());
    return true;
  }

  detail::snapshot_cell cell_;
};

}  // namespace exeunt
