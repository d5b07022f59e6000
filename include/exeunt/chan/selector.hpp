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
/// Cases are numbered from 0 in the order they are added, but the number of one that was removed is
/// given again. Handlers may add and remove cases, their own too. The selector keeps its own
/// handles, values and handlers; what handlers return is ignored.
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
    EXEUNT_ASSERT(otherwise_ == none, "a selector has at most one otherwise()");
    return otherwise_ = add([&] { return exeunt::otherwise(std::decay_t<F>(std::forward<F>(f))); });
  }

  /// Switches a case off: it is never ready from now on. Its number stays.
  /// Throws: panic_error if there is no such case.
  void disable(std::size_t index) { at(index)->off = true; }
  /// Takes a case away, with its handle, its value and its handler; a handler that runs goes when
  /// it returns. Its number is given to a case that is added later.
  ///
  /// Throws: panic_error if there is no such case.
  void remove(std::size_t index) {
    std::unique_ptr<entry>& one = at(index);
    free_.push_back(index);
    if (index == otherwise_) otherwise_ = none;
    if (one->runs == 0) return one.reset();
    one->removed = true;
    static_cast<void>(one.release());  // Its running() frees it.
  }
  /// How many cases there are, switched off or not.
  [[nodiscard]] std::size_t size() const noexcept { return entries_.size() - free_.size(); }

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
      cases_.push_back(!one || one->off ? detail::select_case{} : one->describe());
    }
    waiters_.resize(count);
    locks_.resize(count);
    ready_.resize(count);
    const std::size_t winner =
        detail::select_among(cases_.data(), count, {waiters_.data(), locks_.data(), ready_.data()});
    const running one{*entries_[winner]};
    if (one->once && !cases_[winner].closed) one->off = true;
    one->finish(cases_[winner]);
    return winner;
  }

 private:
  struct entry {
    virtual ~entry() = default;
    virtual detail::select_case describe() noexcept = 0;
    virtual void finish(const detail::select_case& done) = 0;

    bool off = false;
    bool once = false;
    bool removed = false;  // By a handler, while `runs`.
    unsigned runs = 0;     // Of its own handler, now.
  };
  /// Keeps a case while its handler runs.
  class running {
   public:
    explicit running(entry& one) noexcept : one_{one} { ++one_.runs; }
    ~running() {
      if (--one_.runs == 0 && one_.removed) delete &one_;
    }
    running(const running&) = delete;
    running& operator=(const running&) = delete;
    entry* operator->() const noexcept { return &one_; }

   private:
    entry& one_;
  };
  static constexpr std::size_t none = ~std::size_t{0};
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
    if (size() == cases_max) throw panic_error{"selector: too many cases"};
    auto made = std::make_unique<entry_of<decltype(make())>>(make);
    made->once = once;
    if (free_.empty()) {
      entries_.push_back(std::move(made));
      return entries_.size() - 1;
    }
    const std::size_t index = free_.back();
    free_.pop_back();
    entries_[index] = std::move(made);
    return index;
  }
  [[nodiscard]] std::unique_ptr<entry>& at(std::size_t index) {
    if (index >= entries_.size() || !entries_[index]) {
      throw panic_error{"selector: no such case"};
    }
    return entries_[index];
  }

  std::vector<std::unique_ptr<entry>> entries_;  // Null: removed.
  std::vector<std::size_t> free_;                // The numbers of these.
  std::vector<detail::select_case> cases_;
  std::vector<raw_waiter> waiters_;
  std::vector<detail::select_lock> locks_;
  std::vector<std::uint32_t> ready_;
  std::size_t otherwise_ = none;  // Its number.
};

}  // namespace exeunt
