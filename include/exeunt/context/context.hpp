// SPDX-License-Identifier: Apache-2.0
// Contexts: when to stop, by when, and what belongs to one request.
//
// A context is passed explicitly, as the first argument, and never stored in a type. Ending one
// ends every context derived from it, and never the other way.

#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/clock.hpp>
#include <exeunt/base/error.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/sched/cancel.hpp>

namespace exeunt {

class context;
template <typename CancelFunc>
class cancelable_context;

namespace detail {

class held_context;

/// What a context stands for; immutable. Layers are flat: each names the node and the innermost
/// value directly, so that neither a check nor a look-up visits layers that have none.
struct context_rep : ref_counted {
  using destroy_fn = void (*)(const context_rep* self) noexcept;

  EXEUNT_API void release() const noexcept;

  const char* name = "";
  destroy_fn destroy = nullptr;
  ref_ptr<cancel_node> node;           // Null: never ends.
  const context_rep* outer = nullptr;  // The next layer outwards that has a value; owned.
  const void* key = nullptr;           // Null: no value in this layer.
  const void* value = nullptr;
  clock::time_point deadline = no_deadline;
};

/// A tag for each key. Not const: a linker may fold equal constants.
template <typename Key>
EXEUNT_API inline char context_key = 0;

template <typename Key>
struct context_value {
  using type = Key;
};
template <typename Key>
  requires requires { typename Key::type; }
struct context_value<Key> {
  using type = typename Key::type;
};
template <typename Key>
using context_value_t = typename context_value<Key>::type;

template <typename Key>
struct value_rep final : context_rep {
  explicit value_rep(context_value_t<Key>&& v) : stored(std::move(v)) {
    name = "with_value";
    destroy = [](const context_rep* self) noexcept { delete static_cast<const value_rep*>(self); };
    key = &context_key<Key>;
    value = std::addressof(stored);
  }

  context_value_t<Key> stored;
};

/// A context's end as something to wait for: select's on_recv takes it, and it converts to
/// recv_only<void> once chan is included.
class done_signal {
 public:
  explicit done_signal(ref_ptr<cancel_node> node) noexcept : node_{std::move(node)} {}

  /// Null: never ready.
  [[nodiscard]] cancel_node* node() const noexcept { return node_.get(); }
  [[nodiscard]] bool ready() const noexcept { return node_ && node_->canceled(); }
  friend bool operator==(const done_signal&, const done_signal&) noexcept = default;

 private:
  ref_ptr<cancel_node> node_;
};

struct context_access;

}  // namespace detail

/// Says when to stop. Two words; copies are cheap and name the same context.
///
/// A context has no public constructor but from another one: start from background(). After a
/// move the source is as background().
///
/// Threads:  all members, concurrently.
/// Ordering: what was done before a cancel is visible to whoever sees the end, by err(), wait(),
///           done() or an after_func().
class EXEUNT_API context {
 public:
  /// Never ends: for main, tests, and what outlives requests.
  [[nodiscard]] static context background() noexcept { return context{}; }
  /// As background(), for code that does not know its context yet.
  [[nodiscard]] static context todo() noexcept;

  context(const context&) noexcept = default;
  context(context&& other) noexcept
      : rep_{std::move(other.rep_)}, state_{std::exchange(other.state_, &detail::live_for_good)} {}
  context& operator=(const context&) noexcept = default;
  context& operator=(context&& other) noexcept {
    context moved{std::move(other)};
    std::swap(rep_, moved.rep_);
    std::swap(state_, moved.state_);
    return *this;
  }
  ~context() = default;
  /// `with_timeout(…).ctx` would name a context that ends in the same statement. Pass the whole
  /// temporary on, or keep it: `auto [ctx, cancel] = with_timeout(…)`.
  context(detail::held_context&&) = delete;
  context(const detail::held_context&&) = delete;
  /// Nor the whole: `context c = with_timeout(…);` has ended in the next statement. For the same
  /// reason a function that takes the temporary has a `const context&`.
  template <typename CancelFunc>
  context(cancelable_context<CancelFunc>&&) = delete;
  template <typename CancelFunc>
  context(const cancelable_context<CancelFunc>&&) = delete;

  /// Why it ended: errc::canceled or errc::deadline_exceeded; nothing while it is live.
  /// Cost: two loads while it is live.
  [[nodiscard]] std::optional<error> err() const noexcept {
    if (detail::cancel_node::is_live(*state_)) [[likely]]
      return std::nullopt;
    return reason();
  }

  /// Blocks: until the end; for good if there can be none.
  void wait() const noexcept;

  /// When it ends at the latest, if that is known.
  [[nodiscard]] std::optional<clock::time_point> deadline() const noexcept {
    if (!rep_ || rep_->deadline == no_deadline) return std::nullopt;
    return rep_->deadline;
  }

  /// The innermost value given for `Key` by with_value<Key>(), or null.
  ///
  /// Value: belongs to the context; valid as long as a copy of it, or a descendant, lives.
  /// Cost:  linear in the number of values, not in that of other layers.
  template <typename Key>
  [[nodiscard]] const detail::context_value_t<Key>* value() const noexcept {
    return static_cast<const detail::context_value_t<Key>*>(find(&detail::context_key<Key>));
  }

  /// The end as a case of a select. Equal for equal contexts.
  [[nodiscard]] detail::done_signal done() const noexcept {
    return detail::done_signal{rep_ ? rep_->node : nullptr};
  }

  /// How it was made: "background", "todo", "with_cancel", "with_deadline", "with_value", …
  [[nodiscard]] std::string_view name() const noexcept { return rep_ ? rep_->name : "background"; }

 private:
  friend struct detail::context_access;
  context() noexcept = default;
  explicit context(detail::ref_ptr<const detail::context_rep> rep) noexcept : rep_{std::move(rep)} {
    if (rep_->node) state_ = &rep_->node->state();
  }

  [[nodiscard]] error reason() const noexcept;
  [[nodiscard]] const void* find(const void* key) const noexcept;

  detail::ref_ptr<const detail::context_rep> rep_;                      // Null: background.
  const detail::atomic<std::uint8_t>* state_ = &detail::live_for_good;  // Its node's.
};

namespace detail {

struct context_access {
  static const context_rep* rep(const context& ctx) noexcept { return ctx.rep_.get(); }
  static context adopt(const context_rep* rep) noexcept {
    return context{ref_ptr<const context_rep>::adopt(rep)};
  }
};

/// The node that ends `ctx`; null when it can never end. Valid as long as `ctx` is.
[[nodiscard]] inline cancel_node* node_of(const context& ctx) noexcept {
  const context_rep* const rep = context_access::rep(ctx);
  return rep == nullptr ? nullptr : rep->node.get();
}

/// Fills in what `rep`, just made, takes over from `parent`: values and deadline, but not the node.
EXEUNT_API void inherit(context_rep& rep, const context& parent) noexcept;

/// The context that ends when `node`, a root or one below `parent`'s, does.
[[nodiscard]] EXEUNT_API context make_context(const context& parent, ref_ptr<cancel_node> node,
                                              const char* name,
                                              clock::time_point deadline = no_deadline);

/// The context member of what with_*() returns: used in place, or copied as a `context`.
class held_context : public context {
 private:
  template <typename CancelFunc>
  friend class exeunt::cancelable_context;
  explicit held_context(context&& ctx) noexcept : context{std::move(ctx)} {}
  held_context(const held_context&) = default;
  held_context(held_context&& other) noexcept : context{static_cast<context&&>(other)} {}
};

}  // namespace detail

/// Ends a context when called, and at the latest when it goes out of scope.
///
/// Threads: calling one object concurrently is allowed; moving it is not.
class EXEUNT_API cancel_func {
 public:
  explicit cancel_func(detail::ref_ptr<detail::cancel_node> node) noexcept
      : node_{std::move(node)} {}
  cancel_func(cancel_func&&) noexcept = default;
  /// Ends the context it had before.
  cancel_func& operator=(cancel_func&& other) noexcept;
  ~cancel_func() { (*this)(); }

  /// Ends the context with errc::canceled; from the second call on, or if it has ended, does
  /// nothing. Waits for nobody.
  /// Wakes: everybody who waits for it or for a descendant, all of which have ended on return.
  void operator()() const noexcept;

 private:
  friend class cancel_cause_func;
  detail::ref_ptr<detail::cancel_node> node_;
};

/// As cancel_func, and can say why.
class EXEUNT_API cancel_cause_func : public cancel_func {
 public:
  using cancel_func::cancel_func;
  using cancel_func::operator();
  /// err() will be errc::canceled, cause() will be `cause`. The first call decides.
  void operator()(const error& cause) const noexcept;
};

/// A derived context and the means to end it.
///
/// Use it whole, `fetch(with_timeout(ctx, 2s), url)`, or in parts,
/// `auto [ctx, cancel] = with_timeout(parent, 2s);`. Making a context of a temporary, of it or of
/// its `.ctx`, does not compile: it would end in the same statement. For the same reason whatever
/// keeps a context for longer than the call, with_*() among them, refuses a temporary.
template <typename CancelFunc>
class cancelable_context {
 public:
  cancelable_context(context derived, CancelFunc ends_it) noexcept
      : ctx{std::move(derived)}, cancel{std::move(ends_it)} {}
  cancelable_context(cancelable_context&&) noexcept = default;
  ~cancelable_context() = default;

  operator const context&() const noexcept { return ctx; }

  /// For structured bindings.
  template <std::size_t I>
  [[nodiscard]] auto& get() noexcept {
    if constexpr (I == 0) {
      return static_cast<context&>(ctx);
    } else {
      return cancel;
    }
  }
  template <std::size_t I>
  [[nodiscard]] const auto& get() const noexcept {
    if constexpr (I == 0) {
      return static_cast<const context&>(ctx);
    } else {
      return cancel;
    }
  }

  detail::held_context ctx;
  CancelFunc cancel;
};

using with_cancel_result = cancelable_context<cancel_func>;
using with_cancel_cause_result = cancelable_context<cancel_cause_func>;

/// A context that also ends when its cancel function is called.
///
/// Throws: std::bad_alloc, as all with_*().
/// Cost:   one allocation, as with_deadline(); one lock of the parent's.
[[nodiscard]] EXEUNT_API with_cancel_result with_cancel(const context& parent);

/// As with_cancel(); the function takes the cause.
[[nodiscard]] EXEUNT_API with_cancel_cause_result with_cancel_cause(const context& parent);

/// A context that also ends at `when`, with errc::deadline_exceeded: at once if `when` is past. If
/// the parent's deadline is not later, it is as with_cancel().
///
/// Threads: from a thread outside any runtime the default runtime's timers are used; when it has
///          stopped, at the end of the process, the context is ended from the start.
[[nodiscard]] EXEUNT_API with_cancel_result with_deadline(const context& parent,
                                                          clock::time_point when);
/// As with_deadline(); `cause` is the cause if, and only if, the deadline ends it.
[[nodiscard]] EXEUNT_API with_cancel_result with_deadline_cause(const context& parent,
                                                                clock::time_point when,
                                                                const error& cause);

/// with_deadline() in `d` from now.
[[nodiscard]] EXEUNT_API with_cancel_result with_timeout(const context& parent, clock::duration d);
[[nodiscard]] EXEUNT_API with_cancel_result with_timeout_cause(const context& parent,
                                                               clock::duration d,
                                                               const error& cause);

/// A context with a value of one request: an id, a trace, who asks. Not for parameters.
///
/// Keys are types. `struct request_id { using type = std::string; };` names a value of that type;
/// a type without a nested `type` is key and value at once: `with_value<user>(ctx, user{…})`.
/// A value for the same key further in hides this one.
/// Cost: one allocation.
template <typename Key>
[[nodiscard]] context with_value(const context& parent,
                                 std::type_identity_t<detail::context_value_t<Key>> value) {
  auto* const rep = new detail::value_rep<Key>(std::move(value));
  rep->node = detail::ref_ptr<detail::cancel_node>::share(detail::node_of(parent));
  detail::inherit(*rep, parent);
  return detail::context_access::adopt(rep);
}

/// The parent would end in the same statement, and what is made of it as well.
template <typename CancelFunc>
void with_cancel(cancelable_context<CancelFunc>&& parent) = delete;
template <typename CancelFunc>
void with_cancel_cause(cancelable_context<CancelFunc>&& parent) = delete;
template <typename CancelFunc>
void with_deadline(cancelable_context<CancelFunc>&& parent, clock::time_point when) = delete;
template <typename CancelFunc>
void with_deadline_cause(cancelable_context<CancelFunc>&& parent, clock::time_point when,
                         const error& cause) = delete;
template <typename CancelFunc>
void with_timeout(cancelable_context<CancelFunc>&& parent, clock::duration d) = delete;
template <typename CancelFunc>
void with_timeout_cause(cancelable_context<CancelFunc>&& parent, clock::duration d,
                        const error& cause) = delete;
template <typename Key, typename CancelFunc>
void with_value(cancelable_context<CancelFunc>&& parent,
                std::type_identity_t<detail::context_value_t<Key>> value) = delete;

/// The values of `parent` without its end and its deadline: for work that must outlive a request.
[[nodiscard]] EXEUNT_API context without_cancel(const context& parent);

/// Why `ctx` ended: what the first cancel on its path said, else the same as err().
[[nodiscard]] inline std::optional<error> cause(const context& ctx) noexcept {
  detail::cancel_node* const node = detail::node_of(ctx);
  if (node == nullptr || !node->canceled()) return std::nullopt;
  return node->cause();
}

}  // namespace exeunt

template <typename CancelFunc>
struct std::tuple_size<exeunt::cancelable_context<CancelFunc>>
    : std::integral_constant<std::size_t, 2> {};
template <typename CancelFunc>
struct std::tuple_element<0, exeunt::cancelable_context<CancelFunc>> {
  using type = exeunt::context;
};
template <typename CancelFunc>
struct std::tuple_element<1, exeunt::cancelable_context<CancelFunc>> {
  using type = CancelFunc;
};
