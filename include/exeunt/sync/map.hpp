// SPDX-License-Identifier: Apache-2.0
// A hash map that many fibers use at once.
//
// It is made of shards, each a table under a lock of its own. A table is an array with linear
// probing whose entries stand in the order of their hashes: an entry's place is at or after that
// which the upper bits of its hash name, and never after a gap. So a look for a key that is not
// there ends early, a table grows in one pass, and range() can leave the lock and later go on
// behind the hash where it was, though entries have moved meanwhile. (Ordered linear probing: Amble
// and Knuth, "Ordered hash tables", 1974.)
//
// Invariants, whenever a shard's lock is free:
//   I1  The hashes of a table's entries grow from left to right, and none of an entry's places from
//       its home to itself is empty. The last place is always empty.
//   I2  A key is in the shard that its hash names, once.
//   I3  `slots` and `shift`, which are also read without the lock, name a place to be fetched early
//       and are otherwise not trusted.
// Locks: a shard's lock is a leaf. Under it run Equal and the moves and copies of keys and values;
//   what is replaced or erased is destroyed after it.
// Tests: tests/sync/map_test.cpp, map_stress_test.cpp; tests/sim/covered_flows_test.cpp.

#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/atomic.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/race.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/wait.hpp>
#include <exeunt/sync/hash.hpp>

namespace exeunt {

namespace detail {

/// The race detector's clock of a key of this hash.
#ifdef EXEUNT_HAS_TSAN
[[nodiscard]] EXEUNT_API const void* map_clock(const void* map, std::uint64_t hash) noexcept;
#else
[[nodiscard]] inline const void* map_clock(const void*, std::uint64_t) noexcept { return nullptr; }
#endif

/// Two neighbouring lines, as processors fetch them in pairs.
inline constexpr std::size_t shard_alignment = 128;

/// The entries of a shard in the order of their hashes. Not thread-safe.
template <typename K, typename V>
class sorted_table {
 public:
  static_assert(std::is_nothrow_move_constructible_v<K> && std::is_nothrow_move_constructible_v<V>,
                "entries are moved under a lock, and none may get lost half-way");

  struct slot {
    std::uint64_t hash;  // 0: empty.
    union {
      K key;
    };
    union {
      V value;
    };
  };

  constexpr sorted_table() noexcept = default;
  sorted_table(sorted_table&& other) noexcept
      : slots_{std::exchange(other.slots_, nullptr)},
        end_{std::exchange(other.end_, 0)},
        homes_{std::exchange(other.homes_, 0)},
        size_{std::exchange(other.size_, 0)},
        shift_{std::exchange(other.shift_, 0U)} {}
  sorted_table& operator=(sorted_table&&) = delete;
  ~sorted_table() {
    for (slot* s = slots_; size_ != 0; ++s) {
      if (s->hash == 0) continue;
      empty(*s);
      --size_;
    }
    free(slots_, end_);
  }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] slot* slots() const noexcept { return slots_; }
  [[nodiscard]] unsigned shift() const noexcept { return shift_; }

  /// The entry, or null and in `at` the place where it would be.
  template <typename Same>
  [[nodiscard]] slot* find(std::uint64_t hash, Same&& is_same, slot*& at) const {
    at = nullptr;
    if (slots_ == nullptr) return nullptr;
    slot* s = slots_ + (hash >> shift_);
    // An empty one's 0, too, is below each hash.
    while (s->hash < hash && s->hash != 0) ++s;
    for (; s->hash == hash; ++s) {
      if (is_same(std::as_const(s->key))) return s;
    }
    at = s;
    return nullptr;
  }

  /// Puts in what find() did not find.
  /// Throws: std::bad_alloc; nothing is changed then.
  slot& insert(std::uint64_t hash, slot* at, K&& key, V&& value) {
    if ((size_ + 1) * 4 > homes_ * 3) {
      rehash(std::max(homes_ * 2, homes_min), 0);
      at = place_for(hash);
    }
    slot* gap = at;
    while (gap->hash != 0) ++gap;
    if (gap == slots_ + end_ - 1) {
      // No room behind the last homes. One pass may need all that there is.
      rehash(homes_, (end_ - homes_) * 2);
      at = place_for(hash);
      gap = at;
      while (gap->hash != 0) ++gap;
    }
    for (; gap != at; --gap) move(*gap, gap[-1]);
    std::construct_at(std::addressof(at->key), std::move(key));
    std::construct_at(std::addressof(at->value), std::move(value));
    at->hash = hash;
    ++size_;
    return *at;
  }

  void erase(slot* at) noexcept {
    empty(*at);
    --size_;
    for (; at[1].hash != 0 && slots_ + (at[1].hash >> shift_) <= at; ++at) move(*at, at[1]);
  }

  /// Gives room back that is not needed any more. Without memory for less it keeps what it has.
  void shrink() noexcept {
    if (homes_ <= homes_min || size_ * 8 > homes_) return;
    try {
      rehash(homes_ / 4 < homes_min ? homes_min : homes_ / 4, 0);
    } catch (const std::bad_alloc&) {
      return;
    }
  }

  /// The first entry of this hash (above 0) or above; null if there is none.
  [[nodiscard]] slot* first_from(std::uint64_t hash) const noexcept {
    if (size_ == 0) return nullptr;
    return next_from(slots_ + (hash >> shift_), hash);
  }
  /// The entry after `s`; null if there is none.
  [[nodiscard]] slot* after(slot* s) const noexcept { return next_from(s + 1, 1); }

 private:
  static constexpr std::size_t homes_min = 8;
  static constexpr std::size_t extra_min = 8;

  slot* next_from(slot* s, std::uint64_t hash) const noexcept {
    for (slot* const last = slots_ + end_; s != last; ++s) {
      if (s->hash >= hash) return s;
    }
    return nullptr;
  }

  // Of equal hashes the last one's.
  slot* place_for(std::uint64_t hash) const noexcept {
    slot* s = slots_ + (hash >> shift_);
    while (s->hash != 0 && s->hash <= hash) ++s;
    return s;
  }

  static void empty(slot& s) noexcept {
    std::destroy_at(std::addressof(s.key));
    std::destroy_at(std::addressof(s.value));
    s.hash = 0;
  }

  static void move(slot& to, slot& from) noexcept {
    std::construct_at(std::addressof(to.key), std::move(from.key));
    std::construct_at(std::addressof(to.value), std::move(from.value));
    to.hash = from.hash;
    empty(from);
  }

  static void free(slot* slots, std::size_t count) noexcept {
    ::operator delete(static_cast<void*>(slots), count * sizeof(slot),
                      std::align_val_t{alignof(slot)});
  }

  // To `homes`, a power of 2, with at least `extra` places behind them.
  void rehash(std::size_t homes, std::size_t extra) {
    const unsigned shift = 64U - static_cast<unsigned>(__builtin_ctzll(homes));
    // How far the last entries reach, as each stands at its home or right behind the one before.
    std::size_t reach = 0;
    for (slot* s = first_from(1); s != nullptr; s = after(s)) {
      reach = std::max(reach, static_cast<std::size_t>(s->hash >> shift)) + 1;
    }
    const std::size_t end = std::max(homes + std::max(extra, extra_min), reach + extra_min) + 1;
    auto* const slots =
        static_cast<slot*>(::operator new(end * sizeof(slot), std::align_val_t{alignof(slot)}));
    for (std::size_t i = 0; i < end; ++i) slots[i].hash = 0;
    std::size_t next = 0;
    for (slot* s = first_from(1); s != nullptr;) {
      slot* const following = after(s);
      next = std::max(next, static_cast<std::size_t>(s->hash >> shift));
      move(slots[next++], *s);
      s = following;
    }
    free(slots_, end_);
    slots_ = slots;
    end_ = end;
    homes_ = homes;
    shift_ = shift;
  }

  slot* slots_ = nullptr;
  std::size_t end_ = 0;    // Places, with the last one that stays empty.
  std::size_t homes_ = 0;  // Places that hashes name.
  std::size_t size_ = 0;
  unsigned shift_ = 0;
};

}  // namespace detail

/// Keys and values that many fibers read and change at once, without a lock of the caller's.
///
/// Values come out as copies, and no reference to what is inside ever leaves: so keep values small,
/// or std::shared_ptr. Each call is atomic for its key. What concerns several keys, range(),
/// clear() and size(), takes them one after the other.
///
/// If Hash and Equal have `is_transparent`, keys are found by whatever they take; std::string, by
/// what is a std::string_view. Hash, Equal, and the copies and moves of K and V must not wait, and
/// all but Hash run under a lock: moves must not throw.
///
/// Threads:  all members may be called concurrently, from fibers and plain threads. None waits.
/// Ordering: what changes a key (stores it, erases it, clears the map) happens before whatever then
///           finds it so.
/// Cost:     8 KiB for an empty map. A load is a look at one or two cache lines, and a short lock
///           that it shares with 1/64 of the keys. Growing moves one shard at a time.
template <typename K, typename V, typename Hash = typename detail::default_hash<K>::type,
          typename Equal = std::equal_to<>>
class map {
  static constexpr bool transparent =
      requires { typename Hash::is_transparent; } && requires { typename Equal::is_transparent; };
  // How a caller's key is looked for: as it is, or made a K.
  template <typename Q>
  using sought = std::conditional_t<transparent || std::is_same_v<Q, K>, const Q&, const K>;

 public:
  using key_type = K;
  using mapped_type = V;

  constexpr map() noexcept = default;
  map(const map&) = delete;
  map& operator=(const map&) = delete;
  ~map() = default;

  /// The value of `key`, if there is one.
  template <typename Q = K>
  [[nodiscard]] std::optional<V> load(const Q& key) const
    requires std::is_copy_constructible_v<V>
  {
    sought<Q> k(key);
    const std::uint64_t hash = hash_of(k);
    const access in{*this, hash};
    std::optional<V> found;
    if (slot* const s = in.find(k)) found.emplace(std::as_const(s->value));
    return found;
  }

  template <typename Q = K>
  [[nodiscard]] bool contains(const Q& key) const {
    sought<Q> k(key);
    const access in{*this, hash_of(k)};
    return in.find(k) != nullptr;
  }

  /// Makes `value` the value of `key`.
  void store(K key, V value) {
    const std::uint64_t hash = hash_of(key);
    access in{*this, hash};
    if (slot* const s = in.find(key)) {
      exchange(s->value, value);
    } else {
      in.insert(std::move(key), std::move(value));
    }
    in.changed();
  }

  /// As store().
  /// Returns: the value before, if there was one.
  std::optional<V> swap(K key, V value) {
    const std::uint64_t hash = hash_of(key);
    access in{*this, hash};
    std::optional<V> before;
    if (slot* const s = in.find(key)) {
      exchange(s->value, value);
      before.emplace(std::move(value));
    } else {
      in.insert(std::move(key), std::move(value));
    }
    in.changed();
    return before;
  }

  /// What load_or_store() has found or made.
  struct loaded_or_stored {
    V value;
    bool loaded;  ///< it was there before
  };
  /// The value of `key`; `value`, which it then is, if there was none.
  [[nodiscard]] loaded_or_stored load_or_store(K key, V value)
    requires std::is_copy_constructible_v<V>
  {
    const std::uint64_t hash = hash_of(key);
    access in{*this, hash};
    if (slot* const s = in.find(key)) return {std::as_const(s->value), true};
    V copy(std::as_const(value));
    in.insert(std::move(key), std::move(value));
    in.changed();
    return {std::move(copy), false};
  }

  /// Erases `key`.
  /// Returns: its value, if there was one.
  template <typename Q = K>
  std::optional<V> load_and_delete(const Q& key) {
    sought<Q> k(key);
    std::optional<K> dead;
    access in{*this, hash_of(k)};
    std::optional<V> found;
    if (slot* const s = in.find(k)) {
      found.emplace(std::move(s->value));
      dead.emplace(std::move(s->key));
      in.erase(s);
      in.changed();
    }
    return found;
  }

  /// Returns: whether there was one.
  template <typename Q = K>
  bool erase(const Q& key) {
    return load_and_delete(key).has_value();
  }

  /// Makes `desired` the value of `key` if it has one that equals `expected`.
  /// Returns: whether it did.
  template <typename Q = K>
  [[nodiscard]] bool compare_and_swap(const Q& key, const V& expected, V desired)
    requires std::equality_comparable<V>
  {
    sought<Q> k(key);
    access in{*this, hash_of(k)};
    slot* const s = in.find(k);
    if (s == nullptr || !(std::as_const(s->value) == expected)) return false;
    exchange(s->value, desired);
    in.changed();
    return true;
  }

  /// Erases `key` if it has a value that equals `expected`.
  /// Returns: whether it did.
  template <typename Q = K>
  bool compare_and_delete(const Q& key, const V& expected)
    requires std::equality_comparable<V>
  {
    sought<Q> k(key);
    std::optional<std::pair<K, V>> dead;
    access in{*this, hash_of(k)};
    slot* const s = in.find(k);
    if (s == nullptr || !(std::as_const(s->value) == expected)) return false;
    dead.emplace(std::move(s->key), std::move(s->value));
    in.erase(s);
    in.changed();
    return true;
  }

  /// Calls `f(key, value)` for the entries, in no particular order, until it returns false (it may
  /// also return nothing).
  ///
  /// No snapshot: an entry that is there from beginning to end is visited once, and no key twice;
  /// what is stored or erased meanwhile is seen or not. f gets copies, and may do with the map what
  /// it likes, and wait.
  template <typename F>
    requires std::is_invocable_v<F&, const K&, const V&>
  void range(F&& f) const
    requires(std::is_copy_constructible_v<K> && std::is_copy_constructible_v<V>)
  {
    std::vector<std::pair<K, V>> some;
    for (const shard& one : shards_) {
      for (std::uint64_t from = 1; from != 0;) {
        some.clear();
        from = copy_some(one, from, some);
        for (const auto& [key, value] : some) {
          if constexpr (std::is_void_v<std::invoke_result_t<F&, const K&, const V&>>) {
            std::invoke(f, key, value);
          } else {
            if (!std::invoke(f, key, value)) return;
          }
        }
      }
    }
  }

  /// Erases all entries. What is stored meanwhile may stay.
  void clear() noexcept {
    detail::step("map clear", this);
    detail::race_release(&shards_);
    for (shard& one : shards_) {
      const detail::race_ignore own;
      detail::spin_guard guard{one.lock};
      const table dead{std::move(one.entries)};
      one.show();
      guard.unlock();
    }
  }

  /// How many entries there are. A snapshot, of one shard after the other.
  [[nodiscard]] std::size_t size() const noexcept {
    std::size_t sum = 0;
    for (const shard& one : shards_) {
      const detail::race_ignore own;
      const detail::spin_guard guard{one.lock};
      sum += one.entries.size();
    }
    return sum;
  }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }

 private:
  using table = detail::sorted_table<K, V>;
  using slot = typename table::slot;
  static constexpr std::size_t shard_count = 64;
  // Of which range() copies so many under a lock.
  static constexpr std::size_t range_batch = 32;

  struct alignas(detail::shard_alignment) shard {
    // Changes when the table grows; so it stays in each processor's cache (I3).
    alignas(detail::shard_alignment / 2) detail::atomic<slot*> slots{nullptr};
    detail::atomic<unsigned> shift{0};
    // Changes with each call.
    alignas(detail::shard_alignment / 2) mutable detail::spin_lock lock;
    table entries;

    // Under lock.
    void show() noexcept {
      // order: relaxed, both; a hint.
      shift.store(entries.shift(), detail::memory_order_relaxed);
      slots.store(entries.slots(), detail::memory_order_relaxed);
    }

    // The journey of the entry's line and that of the lock's are made at the same time.
    EXEUNT_NO_TSAN void fetch(std::uint64_t hash) const noexcept {
      // order: relaxed, both; a wrong address costs a needless fetch.
      const auto at = reinterpret_cast<std::uintptr_t>(slots.load(detail::memory_order_relaxed)) +
                      (hash >> (shift.load(detail::memory_order_relaxed) & 63U)) * sizeof(slot);
      __builtin_prefetch(reinterpret_cast<const void*>(at));
    }
  };

  // One call's hold of the shard of a key. To the race detector the lock orders nothing, and what
  // is done under it is not looked at: the edges are the key's.
  class [[nodiscard]] access {
   public:
    access(const map& of, std::uint64_t hash)
        : map_{of}, shard_{fetched(of, hash)}, hash_{hash}, guard_{shard_.lock} {}
    ~access() = default;
    access(const access&) = delete;
    access& operator=(const access&) = delete;

    template <typename Q>
    slot* find(const Q& key) const {
      slot* const found = shard_.entries.find(
          hash_, [&](const K& other) { return static_cast<bool>(Equal{}(other, key)); }, at_);
      detail::race_acquire(detail::map_clock(&map_, hash_));
      detail::race_acquire(&map_.shards_);
      return found;
    }
    void insert(K&& key, V&& value) {
      const slot* const before = shard_.entries.slots();
      shard_.entries.insert(hash_, at_, std::move(key), std::move(value));
      if (shard_.entries.slots() != before) shard_.show();
    }
    void erase(slot* s) noexcept {
      const slot* const before = shard_.entries.slots();
      shard_.entries.erase(s);
      shard_.entries.shrink();
      if (shard_.entries.slots() != before) shard_.show();
    }
    // What was done before is to be seen by who finds the key changed.
    void changed() noexcept { detail::race_release(detail::map_clock(&map_, hash_)); }

   private:
    static shard& fetched(const map& of, std::uint64_t hash) noexcept {
      detail::step("map", &of);
      shard& one = of.shard_of(hash);
      one.fetch(hash);
      return one;
    }

    const map& map_;
    shard& shard_;
    const std::uint64_t hash_;
    mutable slot* at_ = nullptr;
    const detail::race_ignore own_;
    detail::spin_guard guard_;
  };

  template <typename Q>
  static std::uint64_t hash_of(const Q& key) {
    // Never 0, which is an empty place.
    return detail::mixed_hash(Hash{}(key)) | 1U;
  }
  // By other bits than those that choose the place. It is const to find, and not to change.
  shard& shard_of(std::uint64_t hash) const noexcept {
    return const_cast<shard&>(shards_[(hash >> 1) % shard_count]);
  }

  // The old value is then destroyed by the caller, after the lock.
  static void exchange(V& in_place, V& other) noexcept {
    V old(std::move(in_place));
    std::destroy_at(std::addressof(in_place));
    std::construct_at(std::addressof(in_place), std::move(other));
    std::destroy_at(std::addressof(other));
    std::construct_at(std::addressof(other), std::move(old));
  }

  // Copies some entries whose hash is `from` or above, and all of the last such hash.
  // Returns: where to go on; 0 if there is no more.
  std::uint64_t copy_some(const shard& one, std::uint64_t from,
                          std::vector<std::pair<K, V>>& into) const {
    detail::step("map range", this);
    const detail::race_ignore own;
    const detail::spin_guard guard{one.lock};
    detail::race_acquire(&shards_);
    std::uint64_t last = 0;
    for (slot* s = one.entries.first_from(from); s != nullptr; s = one.entries.after(s)) {
      if (into.size() >= range_batch && s->hash != last) return last + 1;
      if (into.empty()) into.reserve(range_batch);
      last = s->hash;
      into.emplace_back(std::as_const(s->key), std::as_const(s->value));
      detail::race_acquire(detail::map_clock(this, last));
    }
    return 0;
  }

  shard shards_[shard_count];
};

}  // namespace exeunt
