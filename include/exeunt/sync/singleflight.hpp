// SPDX-License-Identifier: Apache-2.0
// One call for all who want the same at the same time.
//
// This header is a typed shell: which call of a key is under way, who waits for it and what happens
// when they leave is in src/sync/singleflight.cpp.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

#include <exeunt/base/error.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/function.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/base/result.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/context/completion.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/wait.hpp>
#include <exeunt/sync/hash.hpp>

namespace exeunt {

namespace detail {

class flight_table;

/// One call that is under way, or over: what does not depend on its types.
class EXEUNT_API flight_base : public completion {
 public:
  explicit flight_base(std::size_t hash) noexcept : hash_{hash} {}

  /// After its end: whether it was given to more than one caller.
  [[nodiscard]] bool shared() const noexcept { return shared_; }

 protected:
  ~flight_base() override;

 private:
  friend class flight_table;

  const std::size_t hash_;
  // Of the function's own fiber, set before it is in a table: what ends the function's context, and
  // the end of the runtime. Null in the fiber of a caller.
  ref_ptr<cancel_node> node_;
  cancel_node* home_ = nullptr;
  // The rest under the table's lock, until it is complete.
  flight_base* next_ = nullptr;
  bool linked_ = false;
  bool shared_ = false;
  bool is_left_ = false;     // All have gone: what it gives is nobody's.
  bool is_over_ = false;     // The outcome is in its place.
  std::size_t callers_ = 1;  // Who ever joined.
  std::size_t waiting_ = 1;  // Who has not left. The caller that runs the function does not.
  caller runner_;            // Who runs the function, from its begin to its end.
};

/// The calls under way, by key. Shared by the singleflight and by what it has started.
///
/// Threads:  all members, concurrently.
/// Ordering: none but that of completion.
class EXEUNT_API flight_table : public ref_counted {
 public:
  using same_fn = function_ref<bool(const flight_base&)>;

  flight_table() noexcept = default;
  flight_table(const flight_table&) = delete;
  flight_table& operator=(const flight_table&) = delete;

  /// The call under way that `is_same`, with the caller counted; else null, and `fresh`, unless it
  /// is null, is now under way. A reference for the caller.
  /// Throws: panic_error if the call's own function asks; what is_same throws.
  [[nodiscard]] ref_ptr<flight_base> join(std::size_t hash, same_fn is_same, flight_base* fresh);

  /// The caller's fiber is about to run the function.
  void begin_here(flight_base& flight) noexcept;
  /// Makes the context of the function of a flight that will get a fiber of its own. Before join().
  [[nodiscard]] static context adopt_context(flight_base& flight);

  /// The function has ended, and the outcome is in its place. Wakes all who wait.
  void finish(flight_base& flight) noexcept;
  /// If nobody was left to get it, and it is an exception, `failure` (may be null) is reported.
  void report_unread(flight_base& flight, const error* failure) noexcept;

  /// Waits for the end as a caller that joined, until `ctx` (may be null) ends. If all have left,
  /// the call's context ends, and the key is free. Who comes to leave when there is an outcome gets
  /// it.
  [[nodiscard]] result<> wait(flight_base& flight, const context* ctx);

  /// Frees the key of the call that `is_same`.
  bool forget(std::size_t hash, same_fn is_same);
  [[nodiscard]] std::size_t size() noexcept;

  void release() const noexcept {
    if (drop()) delete this;
  }

 private:
  static constexpr std::size_t few = 8;

  ~flight_table();

  flight_base*& bucket(std::size_t hash) noexcept { return buckets_[hash & mask_]; }
  flight_base** find(std::size_t hash, same_fn is_same);
  void link(flight_base& flight);
  void unlink(flight_base& flight) noexcept;
  void grow();

  spin_lock lock_;
  std::size_t mask_ = few - 1;
  std::size_t count_ = 0;
  flight_base* at_first_[few] = {};
  flight_base** buckets_ = at_first_;
};

template <typename K, typename V>
class flight final : public flight_base {
 public:
  flight(std::size_t hash, const K& of) : flight_base{hash}, key{of} {}

  const K key;
  std::optional<result<V>> outcome;  // The function's, until it is complete.
};

}  // namespace detail

/// What a call of a singleflight gave: one value, held by all who asked for it.
///
/// Threads: as std::shared_ptr<const V>.
template <typename V>
class flight_value {
 public:
  /// Whether it was given to other callers, too.
  [[nodiscard]] bool shared() const noexcept { return flight_->shared(); }

  /// The value, as long as a copy of this lives.
  [[nodiscard]] std::add_lvalue_reference_t<const V> operator*() const noexcept
    requires(!std::is_void_v<V>)
  {
    return *value_;
  }
  [[nodiscard]] const V* operator->() const noexcept
    requires(!std::is_void_v<V>)
  {
    return value_;
  }

 private:
  template <typename, typename, typename, typename>
  friend class singleflight;
  flight_value(detail::ref_ptr<detail::flight_base> flight, const V* value) noexcept
      : flight_{std::move(flight)}, value_{value} {}

  detail::ref_ptr<detail::flight_base> flight_;
  const V* value_;  // In the flight; null for void.
};

/// Calls a function once for all who ask for the same key while it runs, and gives all of them what
/// it returned: against a thousand misses of one cache entry at once.
///
/// It keeps nothing: who asks after the end makes a new call. The first caller's function runs;
/// those of others are not called. It returns a V or a result<V>. An error reaches every caller,
/// and so does an exception, as errc::panic: error::rethrow() throws it again.
///
/// There are two forms. Without a context the first caller's own fiber runs the function. With one
/// the function runs in a fiber of its own, and each caller waits until its own context ends; the
/// call goes on for the others. Both may join each other's calls.
///
/// Hash and Equal must not wait, and Equal is called under a lock.
///
/// Threads:  all members may be called concurrently, from fibers and plain threads. It may be
///           destroyed when nobody is in a call, though functions that all have left still run.
/// Ordering: the end of the function happens before the return of each call that it answers.
/// Cost:     an allocation for each call of a function.
template <typename K, typename V, typename Hash = std::hash<K>, typename Equal = std::equal_to<K>>
class singleflight {
 public:
  /// Throws: std::bad_alloc.
  singleflight() : table_{detail::ref_ptr<detail::flight_table>::adopt(new detail::flight_table)} {}
  singleflight(const singleflight&) = delete;
  singleflight& operator=(const singleflight&) = delete;

  /// Waits for the call of `key` that is under way, or calls `f()`.
  ///
  /// Blocks: until that function has returned.
  /// Throws: panic_error if a function calls its own key, which would wait for its own end;
  ///         std::bad_alloc; what Hash, Equal and the copy of `key` throw.
  template <typename F>
    requires std::is_invocable_v<F&>
  [[nodiscard]] result<flight_value<V>> call(const K& key, F&& f) {
    auto [flight, is_mine, own] = enter(key, false);
    if (!is_mine) {
      if (result<> waited = table_->wait(*flight, nullptr); !waited) return fail(waited.error());
      return outcome_of(std::move(flight));
    }
    {
      // Also when a forced unwinding passes: then the others get an error.
      const finisher at_end{*table_, *flight};
      table_->begin_here(*flight);
      detail::call_into(flight->outcome, f);
    }
    return outcome_of(std::move(flight));
  }

  /// Waits for the call of `key` that is under way, or starts `f()`, or `f(own)` with a context of
  /// its own, in a fiber of its own; until `ctx` ends.
  ///
  /// The function's context has no values, since it is nobody's in particular. It ends when the
  /// last of the callers has left, or with the function; the next caller then makes a new call,
  /// though the old one may be running still. Since it may outlive its caller, f must own what it
  /// uses. A failure that nobody is left to get goes to the panic handler if it is an exception,
  /// and nowhere else.
  ///
  /// Returns: what the function returned; the context's error, also if there is an outcome but the
  ///          context had ended before the call; errc::shutting_down if the runtime of the function
  ///          has stopped.
  /// Blocks:  until then.
  /// Throws:  as call(key, f).
  template <typename F>
    requires std::is_invocable_v<std::decay_t<F>&, const context&> ||
             std::is_invocable_v<std::decay_t<F>&>
  [[nodiscard]] result<flight_value<V>> call(
      const context& ctx, const K& key, F&& f,
      std::source_location where = std::source_location::current()) {
    if (const std::optional<error> ended = ctx.err()) return fail(*ended);
    auto [flight, is_mine, own] = enter(key, true);
    if (is_mine) start(flight, std::move(own), std::forward<F>(f), where);
    if (result<> waited = table_->wait(*flight, &ctx); !waited) return fail(waited.error());
    return outcome_of(std::move(flight));
  }

  /// Lets the next caller of `key` make a new call, also if one is under way. That one goes on, for
  /// those who have joined it.
  /// Returns: whether there was one.
  bool forget(const K& key) {
    const std::size_t hash = hash_of(key);
    return table_->forget(hash, [&](const detail::flight_base& other) {
      return Equal{}(static_cast<const flight_type&>(other).key, key);
    });
  }

  /// How many keys have a call under way. A snapshot.
  [[nodiscard]] std::size_t size() const noexcept { return table_->size(); }

 private:
  using flight_type = detail::flight<K, V>;

  struct finisher {
    detail::flight_table& table;
    flight_type& flight;
    finisher(detail::flight_table& t, flight_type& f) noexcept : table{t}, flight{f} {}
    finisher(const finisher&) = delete;
    finisher& operator=(const finisher&) = delete;
    ~finisher() { table.finish(flight); }
  };

  struct entered {
    detail::ref_ptr<flight_type> flight;
    bool is_mine = false;
    context own = context::background();
  };

  static std::size_t hash_of(const K& key) {
    return static_cast<std::size_t>(detail::mixed_hash(Hash{}(key)));
  }

  static detail::ref_ptr<flight_type> typed(detail::ref_ptr<detail::flight_base> flight) noexcept {
    return detail::ref_ptr<flight_type>::adopt(static_cast<flight_type*>(flight.detach()));
  }

  entered enter(const K& key, bool in_a_fiber_of_its_own) {
    const std::size_t hash = hash_of(key);
    const auto is_same = [&](const detail::flight_base& other) {
      return Equal{}(static_cast<const flight_type&>(other).key, key);
    };
    // Twice, so that whoever joins allocates nothing, and nobody allocates under the lock.
    if (auto joined = table_->join(hash, is_same, nullptr)) return {typed(std::move(joined))};
    entered mine{detail::ref_ptr<flight_type>::adopt(new flight_type{hash, key}), true};
    if (in_a_fiber_of_its_own) mine.own = table_->adopt_context(*mine.flight);
    if (auto joined = table_->join(hash, is_same, mine.flight.get())) {
      return {typed(std::move(joined))};
    }
    return mine;
  }

  template <typename F>
  void start(const detail::ref_ptr<flight_type>& flight, context own, F&& f,
             std::source_location where) {
    try {
      detail::start_fiber(
          {.name = "singleflight", .started_at = where},
          [table = table_, flight, own = std::move(own),
           f = detail::kept_function<std::decay_t<F>>(std::forward<F>(f))]() mutable {
            {
              const finisher at_end{*table, *flight};
              table->begin_here(*flight);
              if constexpr (std::is_invocable_v<std::decay_t<F>&, const context&>) {
                detail::call_into(flight->outcome, *f, std::as_const(own));
              } else {
                detail::call_into(flight->outcome, *f);
              }
              f.reset();
            }
            table->report_unread(*flight, flight->outcome ? error_in(*flight->outcome) : nullptr);
          });
    } catch (...) {
      flight->outcome.emplace(std::unexpect, error::from_exception(std::current_exception()));
      table_->finish(*flight);
      throw;
    }
  }

  static const error* error_in(const result<V>& outcome) noexcept {
    return outcome.has_value() ? nullptr : &outcome.error();
  }

  static result<flight_value<V>> outcome_of(detail::ref_ptr<flight_type> flight) {
    const std::optional<result<V>>& outcome = flight->outcome;
    // Forced unwinding has no exception to tell of.
    if (!outcome) return fail(error{errc::panic, "the call was unwound by force"});
    if (!outcome->has_value()) return fail(outcome->error());
    const V* value = nullptr;
    if constexpr (!std::is_void_v<V>) value = &**outcome;
    return flight_value<V>{detail::ref_ptr<detail::flight_base>::adopt(flight.detach()), value};
  }

  detail::ref_ptr<detail::flight_table> table_;
};

}  // namespace exeunt
