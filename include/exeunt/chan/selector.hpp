// SPDX-License-Identifier: Apache-2.0
// select() for cases that are known only at run time.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/clock.hpp>
#include <exeunt/base/error.hpp>
#include <exeunt/chan/chan.hpp>
#include <exeunt/chan/core.hpp>
#include <exeunt/chan/select.hpp>
#include <exeunt/context/context.hpp>

namespace exeunt {

/// A list of cases to select from, again and again.
///
/// Cases are numbered from 0 in the order they are added. The selector keeps its own handles,
/// values and handlers; what handlers return is ignored.
///
/// Threads: one at a time.
/// Cost:    add: allocations. run(): none, from the second time on.
class selector {
 public:
  /// The most cases a selector takes.
  static constexpr std::size_t cases_max = 65'536;

  selector() = default;
  selector(selector&&) noexcept = default;
  selector& operator=(selector&&) noexcept = default;
  ~selector() = default;

  /// Adds the case that a value comes from `c`; see exeunt::on_recv().
  /// Returns: its number. Throws: panic_error if there are cases_max already, as all that add.
  template <typename Handle, typename F>
    requires(detail::receiver_handle<Handle> ||
             std::is_same_v<std::remove_cvref_t<Handle>, detail::done_signal>)
  std::size_t on_recv(Handle&& c, F&& f) {
    using kept = std::remove_cvref_t<Handle>;
    return add([&] {
      return exeunt::on_recv(kept(std::forward<Handle>(c)), std::decay_t<F>(std::forward<F>(f)));
    });
  }
  /// Adds the case that `c` takes `value`. Once it has won, it is switched off, since the value is
  /// gone; add another to send more.
  template <detail::sender_handle Handle, typename V, typename F>
    requires detail::sends<Handle, V>
  std::size_t on_send(Handle&& c, V&& value, F&& f) {
    using kept = std::remove_cvref_t<Handle>;
    using element = detail::element_of<Handle>;
    using handler = std::decay_t<F>;
    return add(
        [&] {
          const auto to = detail::source_of(c, detail::select_case::kind::send);
          return detail::send_case<element, element, handler, kept>{to, std::forward<V>(value),
                                                                    handler(std::forward<F>(f)),
                                                                    kept(std::forward<Handle>(c))};
        },
        true);
  }
  template <detail::sender_handle Handle, typename F>
    requires std::is_void_v<detail::element_of<Handle>>
  std::size_t on_send(Handle&& c, F&& f) {
    using kept = std::remove_cvref_t<Handle>;
    return add([&] {
      return exeunt::on_send(kept(std::forward<Handle>(c)), std::decay_t<F>(std::forward<F>(f)));
    });
  }
  /// Adds the case that `ctx` has ended.
  template <typename F>
  std::size_t on_done(const context& ctx, F&& f) {
    return add([&] { return exeunt::on_done(context(ctx), std::decay_t<F>(std::forward<F>(f))); });
  }
  /// As above, of a context that goes with the selector.
  template <typename CancelFunc, typename F>
  std::size_t on_done(cancelable_context<CancelFunc>&& ctx, F&& f) {
    return add(
        [&] { return exeunt::on_done(std::move(ctx), std::decay_t<F>(std::forward<F>(f))); });
  }
  /// Adds the case that nothing else has won for `d`, counted from each run().
  template <typename F>
  std::size_t after(clock::duration d, F&& f) {
    return add([&] { return exeunt::after(d, std::decay_t<F>(std::forward<F>(f))); });
  }
  /// Adds the case that no other is ready. Asserts: there is none yet.
  template <typename F>
  std::size_t otherwise(F&& f) {
    EXEUNT_ASSERT(!has_otherwise_, "a selector has at most one otherwise()");
    has_otherwise_ = true;
    return add([&] { return exeunt::otherwise(std::decay_t<F>(std::forward<F>(f))); });
  }

  /// Switches a case off: it is never ready from now on. Its number stays.
  void disable(std::size_t index) { entries_.at(index)->off = true; }
  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }

  /// As select(): waits for one case, does it, and calls its handler.
  ///
  /// Returns: the number of the case.
  /// Blocks:  until a case is ready; without any that can be, for good.
  /// Throws:  closed_channel if a send on a closed channel is chosen; what the handler throws.
  std::size_t run() {
    detail::step("select");
    const std::size_t count = entries_.size();
    cases_.clear();
    cases_.reserve(count);
    for (const auto& one : entries_) {
      cases_.push_back(one->off ? detail::select_case{} : one->describe());
    }
    waiters_.resize(count);
    locks_.resize(count);
    ready_.resize(count);
    const std::size_t winner =
        detail::select_among(cases_.data(), count, {waiters_.data(), locks_.data(), ready_.data()});
    entry& one = *entries_[winner];
    if (one.once && !cases_[winner].closed) one.off = true;
    one.finish(cases_[winner]);
    return winner;
  }

 private:
  struct entry {
    virtual ~entry() = default;
    virtual detail::select_case describe() noexcept = 0;
    virtual void finish(const detail::select_case& done) = 0;

    bool off = false;
    bool once = false;
  };
  template <typename Case>
  struct entry_of final : entry {
    template <typename Make>
    explicit entry_of(Make& make) : one(make()) {}
    detail::select_case describe() noexcept override { return one.describe(); }
    void finish(const detail::select_case& done) override { static_cast<void>(one.finish(done)); }

    Case one;
  };
  struct alignas(detail::chan_waiter) raw_waiter {
    std::byte bytes[sizeof(detail::chan_waiter)];
  };

  template <typename Make>
  std::size_t add(Make make, bool once = false) {
    if (entries_.size() == cases_max) throw panic_error{"selector: too many cases"};
    entries_.push_back(std::make_unique<entry_of<decltype(make())>>(make));
    entries_.back()->once = once;
    return entries_.size() - 1;
  }

  std::vector<std::unique_ptr<entry>> entries_;
  std::vector<detail::select_case> cases_;
  std::vector<raw_waiter> waiters_;
  std::vector<detail::select_lock> locks_;
  std::vector<std::uint32_t> ready_;
  bool has_otherwise_ = false;
};

}  // namespace exeunt
