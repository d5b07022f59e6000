// SPDX-License-Identifier: Apache-2.0
// select(): waits for several communications and does exactly one.
//
//   select(on_recv(jobs, [&](std::optional<job> next) { … }),
//          on_send(results, std::move(done), [&] { … }),
//          on_done(ctx, [&] { … }),
//          after(1s, [&] { … }));
//
// Cases are meant to be made in the call. They refer to the handles and contexts that are given as
// lvalues, and keep those that are temporaries. A value given as an lvalue is copied. One that is
// an rvalue stays where it is until its case wins, so that a refused one is still the caller's;
// such a case does not outlive the statement it is made in, and select() refuses it by name. C++
// leaves the order open in which the arguments of a call are evaluated; where it matters, name the
// cases first, with lvalues for values, or use selector.

#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/error.hpp>
#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/core.hpp>
#include <exeunt/context/context.hpp>

namespace exeunt {

namespace detail {

// A case's source is a channel or a context's end. What keeps it alive meanwhile is the handle,
// which the case borrows, or holds as `Owner`.
struct borrowed {};

struct case_source {
  select_case::kind what;
  void* source;
};

inline case_source source_of(const chan_handle& handle, select_case::kind what) noexcept {
  chan_core* const core = handle_access::core(handle);
  return {core == nullptr ? select_case::kind::never : what, core};
}
inline case_source source_of(cancel_node* node) noexcept {
  return {node == nullptr ? select_case::kind::never : select_case::kind::done, node};
}
inline case_source source_of(const recv_only<void>& handle, select_case::kind what) noexcept {
  cancel_node* const node = handle_access::node(handle);
  return node == nullptr ? source_of(static_cast<const chan_handle&>(handle), what)
                         : source_of(node);
}

template <typename Handle>
using owner_for =
    std::conditional_t<std::is_lvalue_reference_v<Handle>, borrowed, std::remove_cvref_t<Handle>>;

template <typename Owner, typename Handle>
Owner own([[maybe_unused]] Handle&& handle) noexcept {
  if constexpr (std::is_same_v<Owner, borrowed>) {
    return {};
  } else {
    return Owner(std::forward<Handle>(handle));
  }
}

template <typename Handle>
concept sender_handle = requires { typename std::remove_cvref_t<Handle>::element_type; } &&
                        std::derived_from<std::remove_cvref_t<Handle>, chan_handle> &&
                        requires(const std::remove_cvref_t<Handle>& handle) { handle.close(); };
template <typename Handle>
concept receiver_handle =
    requires { typename std::remove_cvref_t<Handle>::element_type; } &&
    std::derived_from<std::remove_cvref_t<Handle>, chan_handle> &&
    requires(const std::remove_cvref_t<Handle>& handle) { handle.try_recv(); };

template <typename Handle>
using element_of = typename std::remove_cvref_t<Handle>::element_type;

// What send() takes: no explicit conversions.
template <typename Handle, typename V>
concept sends =
    !std::is_void_v<element_of<Handle>> && std::is_convertible_v<V&&, element_of<Handle>>;

// A handler may leave out what it is given.
template <typename F, typename Given>
concept handles = std::is_invocable_v<F&, Given> || std::is_invocable_v<F&>;

template <typename F, typename Given>
decltype(auto) call_handler(F& handler, Given&& given) {
  if constexpr (std::is_invocable_v<F&, Given>) {
    return handler(std::forward<Given>(given));
  } else {
    return handler();
  }
}

struct select_case_base {};  // What select() takes.

template <typename T, typename F, typename Owner>
class recv_case : public select_case_base {
 public:
  recv_case(case_source from, F&& handler, Owner owner) noexcept
      : from_{from}, owner_{std::move(owner)}, handler_{std::forward<F>(handler)} {}

  select_case describe() noexcept {
    return {.what = from_.what, .source = from_.source, .element = out_.place()};
  }
  decltype(auto) finish(const select_case& done) {
    const bool received = done.what == select_case::kind::recv && !done.closed;
    return call_handler(handler_, out_.take(received));
  }
  bool was_unready() const noexcept {
    return from_.what == select_case::kind::never ||
           (from_.what == select_case::kind::recv &&
            static_cast<const chan_core*>(from_.source)->was_empty());
  }

 private:
  case_source from_;
  [[no_unique_address]] Owner owner_;
  arrival<T> out_;
  F handler_;
};

// Value: T, or T* for an rvalue that stays with the caller unless it is sent.
template <typename T, typename Value, typename F, typename Owner>
class send_case : public select_case_base {
 public:
  template <typename V>
  send_case(case_source to, V&& value, F&& handler, Owner owner)
      : to_{to},
        owner_{std::move(owner)},
        value_(std::forward<V>(value)),  // Braces would prefer a constructor from a list.
        handler_{std::forward<F>(handler)} {}

  select_case describe() noexcept {
    if constexpr (std::is_pointer_v<Value> && !std::is_same_v<Value, T>) {
      return {.what = to_.what, .source = to_.source, .element = value_};
    } else {
      return {.what = to_.what, .source = to_.source, .element = std::addressof(value_)};
    }
  }
  decltype(auto) finish(const select_case& done) {
    if (done.closed) throw_send_on_closed();
    return handler_();
  }
  bool was_unready() const noexcept {
    return to_.what == select_case::kind::never ||
           static_cast<const chan_core*>(to_.source)->was_full();
  }

 private:
  case_source to_;
  [[no_unique_address]] Owner owner_;
  Value value_;
  F handler_;
};

struct no_value {};

template <typename F, typename Owner>
class done_case : public select_case_base {
 public:
  done_case(cancel_node* node, F&& handler, Owner owner) noexcept
      : node_{node}, owner_{std::move(owner)}, handler_{std::forward<F>(handler)} {}

  select_case describe() noexcept {
    const case_source from = source_of(node_);
    return {.what = from.what, .source = from.source};
  }
  decltype(auto) finish(const select_case&) {
    const error& reason = node_->reason();  // Also the edge from the cancel.
    return call_handler(handler_, reason);
  }

 private:
  cancel_node* node_;
  [[no_unique_address]] Owner owner_;
  F handler_;
};

template <typename F>
class after_case : public select_case_base {
 public:
  after_case(clock::duration delay, F&& handler) noexcept
      : delay_{delay}, handler_{std::forward<F>(handler)} {}
  select_case describe() noexcept { return {.what = select_case::kind::after, .delay = delay_}; }
  decltype(auto) finish(const select_case&) { return handler_(); }

 private:
  clock::duration delay_;
  F handler_;
};

template <typename F>
class otherwise_case : public select_case_base {
 public:
  explicit otherwise_case(F&& handler) noexcept : handler_{std::forward<F>(handler)} {}
  select_case describe() noexcept { return {.what = select_case::kind::otherwise}; }
  decltype(auto) finish(const select_case&) { return handler_(); }

 private:
  F handler_;
};

template <typename>
inline constexpr bool is_otherwise = false;
template <typename F>
inline constexpr bool is_otherwise<otherwise_case<F>> = true;

// The index of an otherwise() that wins because the only other case was not ready at one moment of
// the call; else the number of cases.
template <typename... Cases>
std::size_t passed_by(const Cases&...) noexcept {
  return sizeof...(Cases);
}
template <typename First, typename Second>
std::size_t passed_by(const First& first, const Second& second) noexcept {
  if constexpr (is_otherwise<Second> && requires { first.was_unready(); }) {
    return first.was_unready() ? 1 : 2;
  } else if constexpr (is_otherwise<First> && requires { second.was_unready(); }) {
    return second.was_unready() ? 0 : 2;
  } else {
    return 2;
  }
}

// A case that refers to an rvalue is gone with it at the end of the statement.
template <typename>
inline constexpr bool refers_to_rvalue = false;
template <typename T, typename F, typename Owner>
inline constexpr bool refers_to_rvalue<send_case<T, T*, F, Owner>> = true;

/// What select() takes: any case that is made in the call; of those that were named before, the
/// ones that own their value.
template <typename Case>
concept selectable =
    std::derived_from<std::remove_cvref_t<Case>, select_case_base> &&
    !(std::is_lvalue_reference_v<Case> && refers_to_rvalue<std::remove_cvref_t<Case>>);

template <typename Case>
using case_result = decltype(std::declval<Case&>().finish(std::declval<const select_case&>()));

template <typename Result, std::size_t I, typename First, typename... Rest>
Result finish_case(std::size_t winner, const select_case* cases, First& first, Rest&... rest) {
  if constexpr (sizeof...(Rest) == 0) {
    return first.finish(cases[I]);
  } else {
    if (winner == I) return first.finish(cases[I]);
    return finish_case<Result, I + 1>(winner, cases, rest...);
  }
}

// A value that is copied for nothing if it is lost: sending it need not refer to the original.
template <typename T, typename V>
inline constexpr bool sent_by_reference =
    std::is_rvalue_reference_v<V&&> && std::is_same_v<std::remove_cvref_t<V>, T> &&
    !std::is_const_v<std::remove_reference_t<V>> && !std::is_trivially_copyable_v<T>;

template <typename T, typename V>
using sent_value = std::conditional_t<sent_by_reference<T, V>, T*, T>;

}  // namespace detail

/// The case that a value comes from `c`, or that `c` is closed and drained.
///
/// The handler gets std::optional<T> (for events a bool), empty when closed; or nothing at all.
/// Also takes `ctx.done()`, for which the handler gets false.
template <detail::receiver_handle Handle, typename F>
  requires detail::handles<F, detail::received_t<detail::element_of<Handle>>>
[[nodiscard]] auto on_recv(Handle&& c, F&& f) {
  using owner = detail::owner_for<Handle>;
  const auto from = detail::source_of(c, detail::select_case::kind::recv);
  return detail::recv_case<detail::element_of<Handle>, F, owner>{
      from, std::forward<F>(f), detail::own<owner>(std::forward<Handle>(c))};
}
template <typename F>
  requires detail::handles<F, bool>
[[nodiscard]] auto on_recv(detail::done_signal end, F&& f) {
  return on_recv(recv_only<void>{end}, std::forward<F>(f));
}

/// The case that `c` takes `value`. The handler gets nothing.
///
/// Value:  an rvalue of the channel's own element type is moved from only if this case wins; until
///         then the case refers to it, and select() takes the case only in the call that makes it.
///         Anything else is made into an element at once: a copy of an lvalue, or what an rvalue of
///         another type converts to, which is lost with the case.
/// Throws: closed_channel, from select(), if this case is chosen and `c` is closed.
template <detail::sender_handle Handle, typename V, typename F>
  requires(detail::sends<Handle, V> && std::is_invocable_v<F&>)
[[nodiscard]] auto on_send(Handle&& c, V&& value, F&& f) {
  using element = detail::element_of<Handle>;
  using owner = detail::owner_for<Handle>;
  using kept = detail::sent_value<element, V>;
  using made = detail::send_case<element, kept, F, owner>;
  const auto to = detail::source_of(c, detail::select_case::kind::send);
  if constexpr (detail::sent_by_reference<element, V>) {
    return made{to, std::addressof(static_cast<element&>(value)), std::forward<F>(f),
                detail::own<owner>(std::forward<Handle>(c))};
  } else {
    return made{to, std::forward<V>(value), std::forward<F>(f),
                detail::own<owner>(std::forward<Handle>(c))};
  }
}
/// As on_send(c, value, f), of an event.
template <detail::sender_handle Handle, typename F>
  requires(std::is_void_v<detail::element_of<Handle>> && std::is_invocable_v<F&>)
[[nodiscard]] auto on_send(Handle&& c, F&& f) {
  using owner = detail::owner_for<Handle>;
  const auto to = detail::source_of(c, detail::select_case::kind::send);
  return detail::send_case<void, detail::no_value, F, owner>{
      to, detail::no_value{}, std::forward<F>(f), detail::own<owner>(std::forward<Handle>(c))};
}

/// The case that `ctx` has ended. The handler gets the context's error, or nothing at all.
template <typename F>
  requires detail::handles<F, const error&>
[[nodiscard]] auto on_done(const context& ctx, F&& f) {
  return detail::done_case<F, detail::borrowed>{detail::node_of(ctx), std::forward<F>(f), {}};
}
/// As above, of a context that goes with the case: `on_done(with_timeout(ctx, 1s), f)`.
template <typename F>
  requires detail::handles<F, const error&>
[[nodiscard]] auto on_done(context&& ctx, F&& f) {
  detail::cancel_node* const node = detail::node_of(ctx);
  return detail::done_case<F, context>{node, std::forward<F>(f), std::move(ctx)};
}
template <typename CancelFunc, typename F>
  requires detail::handles<F, const error&>
[[nodiscard]] auto on_done(cancelable_context<CancelFunc>&& ctx, F&& f) {
  detail::cancel_node* const node = detail::node_of(ctx.ctx);
  return detail::done_case<F, cancelable_context<CancelFunc>>{node, std::forward<F>(f),
                                                              std::move(ctx)};
}

/// The case that nothing else has won for `d`, counted from the call of select(). With d <= 0 it
/// is ready at once. Of several in one select, only the soonest counts.
template <typename F>
  requires std::is_invocable_v<F&>
[[nodiscard]] auto after(clock::duration d, F&& f) {
  return detail::after_case<F>{d, std::forward<F>(f)};
}

/// The case that no other is ready: with it select() neither waits nor gives way to another fiber,
/// whichever case wins. Whoever tries again and again must yield() himself.
template <typename F>
  requires std::is_invocable_v<F&>
[[nodiscard]] auto otherwise(F&& f) {
  return detail::otherwise_case<F>{std::forward<F>(f)};
}

/// Waits until one of the cases is ready, does it, and calls its handler: the only one that has
/// any effect. Of several that are ready, each is chosen with the same probability.
///
/// All handlers return one type. The handler runs after the communication, outside all locks.
///
/// Returns: what the handler returned; if handlers return nothing, the index of the case that won,
///          counted from 0.
/// Blocks:  until a case is ready; with otherwise(), not at all; without any case, for good.
/// Throws:  closed_channel if a send on a closed channel is chosen; what the handler throws.
/// Ordering: as the send or receive that was done.
/// Cost:    no allocation; about as much as its channels' operations one by one.
template <typename... Cases>
  requires(detail::selectable<Cases> && ...)
decltype(auto) select(Cases&&... cases) {
  constexpr std::size_t count = sizeof...(Cases);
  if constexpr (count == 0) {
    detail::park_forever(detail::wait_reason::select_none);
  } else {
    static_assert((std::size_t{detail::is_otherwise<std::remove_cvref_t<Cases>>} + ...) <= 1,
                  "a select has at most one otherwise()");
    using value =
        detail::case_result<std::tuple_element_t<0, std::tuple<std::remove_reference_t<Cases>...>>>;
    static_assert(
        (std::is_same_v<value, detail::case_result<std::remove_reference_t<Cases>>> && ...),
        "the handlers of a select return one and the same type");

    detail::step("select");
    if (std::size_t winner = detail::passed_by(cases...); winner != count) {
      const detail::select_case undone[count]{};
      if constexpr (std::is_void_v<value>) {
        detail::finish_case<void, 0>(winner, undone, cases...);
        return winner;
      } else {
        return detail::finish_case<value, 0>(winner, undone, cases...);
      }
    }
    detail::select_case list[] = {cases.describe()...};
    alignas(detail::chan_waiter) std::byte waiters[count * sizeof(detail::chan_waiter)];
    detail::select_lock locks[count];
    std::uint32_t ready[count];
    std::size_t winner = detail::select_among(list, count, {waiters, locks, ready});
    if constexpr (std::is_void_v<value>) {
      detail::finish_case<void, 0>(winner, list, cases...);
      return winner;
    } else {
      return detail::finish_case<value, 0>(winner, list, cases...);
    }
  }
}

}  // namespace exeunt
