// SPDX-License-Identifier: Apache-2.0
// Objects that are costly to make, kept for whoever needs one next.
//
// This header is a typed shell: src/sync/pool.cpp keeps addresses and knows nothing of types.

#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/clock.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>
#include <exeunt/sched/boundary.hpp>

namespace exeunt {

/// How much a pool keeps, and for how long.
struct pool_limits {
  /// Idle objects that each worker keeps to itself; at most 256. With 0 there are no caches, and
  /// all that is kept is common.
  std::uint32_t per_worker = 32;
  /// Idle objects that no worker keeps to itself.
  std::size_t common = 1024;
  /// What nobody got for a whole one of these is destroyed at its end.
  clock::duration tick = std::chrono::seconds{10};
};

namespace detail {

/// The pool without its type.
///
/// Threads: all members, concurrently; but the destructor.
class EXEUNT_API pool_core {
 public:
  /// Throws: std::bad_alloc.
  pool_core(const pool_limits& limits, void (*destroy)(void* object) noexcept);
  ~pool_core();
  pool_core(const pool_core&) = delete;
  pool_core& operator=(const pool_core&) = delete;

  /// Returns: an object that is the caller's now; null if none is idle.
  [[nodiscard]] void* take() noexcept;
  /// Keeps `object`, or destroys it.
  void give(void* object) noexcept;

  std::size_t trim() noexcept;
  /// What a tick does.
  void age() noexcept;
  [[nodiscard]] std::size_t idle() const noexcept;

  /// For the check that no handle outlives its pool, where checks are on.
  void count_out(std::ptrdiff_t more) noexcept;

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace detail

template <typename T>
class pool;

/// An object of a pool, which gets it back when this goes. Or nothing.
///
/// Threads: a variable like any other. It may be given to other fibers and threads, by moving it.
template <typename T>
class [[nodiscard]] pooled {
 public:
  /// Of nothing.
  constexpr pooled() noexcept = default;
  pooled(pooled&& other) noexcept
      : object_{std::exchange(other.object_, nullptr)}, home_{other.home_} {}
  pooled& operator=(pooled&& other) noexcept {
    pooled{std::move(other)}.swap(*this);
    return *this;
  }
  ~pooled() { reset(); }

  [[nodiscard]] T* get() const noexcept { return object_; }
  [[nodiscard]] T& operator*() const noexcept { return *object_; }
  [[nodiscard]] T* operator->() const noexcept { return object_; }
  [[nodiscard]] explicit operator bool() const noexcept { return object_ != nullptr; }

  /// Gives the object back now.
  void reset() noexcept {
    if (object_ != nullptr) home_->give_back(std::exchange(object_, nullptr));
  }
  /// Takes the object out of the pool for good: one that is not to be used again is destroyed so.
  [[nodiscard]] std::unique_ptr<T> release() noexcept {
    if (object_ != nullptr) home_->forget();
    return std::unique_ptr<T>{std::exchange(object_, nullptr)};
  }
  void swap(pooled& other) noexcept {
    std::swap(object_, other.object_);
    std::swap(home_, other.home_);
  }

 private:
  friend class pool<T>;
  pooled(T* object, pool<T>& home) noexcept : object_{object}, home_{&home} {}

  T* object_ = nullptr;
  pool<T>* home_ = nullptr;
};

/// Idle objects of one kind, as Go's sync.Pool keeps them: each may be destroyed at any time, and
/// get() makes a new one when none is there. So a pool saves making objects, and never stands for a
/// number of them; where that is what is wanted (connections, licences), take a channel or a
/// semaphore.
///
/// Each worker keeps up to limits.per_worker idle objects to itself, last in, first out. One that
/// has more gives half of them to the common store; one that has none takes from there, or steals
/// half of what another worker has, unless that is few. Plain threads use the common store. What
/// finds no room is destroyed.
///
/// An object that stays where it is becomes a *victim* at the end of a tick, and is destroyed at
/// the end of the next: so the pool follows what is needed, and an idle process keeps nothing.
/// Ticks come from whichever runtime there is, and begin when one of its workers is busy; without
/// one, and for a pool that was made in a simulation, trim() is the only way. A forked child has
/// nothing of what the pool keeps.
///
/// Bound:    what is idle is never more than limits.common, and limits.per_worker for each worker
///           that there was at one time, up to 64.
/// Threads:  all members may be called concurrently, from fibers and plain threads, but for the
///           destructor. So may `make` and `reset` be; T's destructor, also by a thread of a
///           runtime's side pool.
/// Ordering: giving an object back happens before the get() that returns it, and before its end.
/// Cost:     get() and giving back: no locked instruction while one worker uses what it keeps;
///           stealing costs a microsecond or more, for half of what the other worker has.
template <typename T>
class pool {
 public:
  using value_type = T;

  struct options {
    /// What get() makes an object by if none is idle; by default T{}.
    unique_function<T()> make = nullptr;
    /// Called with each object that is given back, to make it as good as new. What throws is
    /// reported, and the object destroyed. The place to free what has grown too large.
    unique_function<void(T&)> reset = nullptr;
    pool_limits limits = {};
  };

  /// Throws: std::bad_alloc; panic_error if limits.per_worker is above 256, or the tick not above
  ///         zero.
  pool()
    requires std::default_initializable<T>
      : pool{options{}} {}
  /// Asserts: there is a `make`, or T is made from nothing.
  explicit pool(options how)
      : make_{std::move(how.make)},
        reset_{std::move(how.reset)},
        core_{how.limits, [](void* object) noexcept { delete static_cast<T*>(object); }} {
    EXEUNT_ASSERT(std::default_initializable<T> || make_, "a pool whose objects nobody can make");
  }
  /// Destroys what is idle. Blocks: while a tick of this pool is under way.
  /// Asserts, where checks are on: all objects have been given back, or released.
  ~pool() = default;
  pool(const pool&) = delete;
  pool& operator=(const pool&) = delete;

  /// An idle object, or a new one. Never waits.
  /// Throws: what making one throws.
  pooled<T> get() {
    if (auto idle = try_get()) return idle;
    T* const made = make_one();
    core_.count_out(1);
    return {made, *this};
  }

  /// An idle object, or nothing: makes none.
  pooled<T> try_get() noexcept {
    auto* const object = static_cast<T*>(core_.take());
    return object != nullptr ? pooled<T>{object, *this} : pooled<T>{};
  }

  /// Takes in an object that comes from elsewhere, as if it were given back.
  void put(std::unique_ptr<T> object) noexcept {
    if (object == nullptr) return;
    core_.count_out(1);
    give_back(object.release());
  }

  /// Destroys what is idle now. Returns: how much that was.
  std::size_t trim() noexcept { return core_.trim(); }

  /// How many objects are idle: of a moment that is over, for metrics.
  [[nodiscard]] std::size_t idle() const noexcept { return core_.idle(); }

 private:
  friend class pooled<T>;

  T* make_one() {
    if constexpr (std::default_initializable<T>) {
      if (!make_) return new T{};
    }
    return new T(make_());
  }
  void give_back(T* object) noexcept {
    if (reset_) {
      if (const auto thrown = detail::call_caught([&] { reset_(*object); })) {
        detail::report_panic(*thrown);
        forget();
        delete object;
        return;
      }
    }
    core_.give(object);
  }
  void forget() noexcept { core_.count_out(-1); }

  unique_function<T()> make_;
  unique_function<void(T&)> reset_;
  detail::pool_core core_;
};

}  // namespace exeunt
