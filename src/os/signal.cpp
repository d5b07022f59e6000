// SPDX-License-Identifier: Apache-2.0
// What a signal does to a subscription: a value into a channel, or the end of a context.
//
// Invariants:
//   I1  A context's target records its first signal before it cancels anything, so that whoever
//       ends the context after that, also stop(), gives the signal as the cause.
// Locks: none. Wake-ups: none of its own; see signal_dispatcher.cpp.
// Tests: tests/os/signal_test.cpp, signal_child_test.cpp.

#include <exeunt/os/signal.hpp>

#include <sys/types.h>
#include <unistd.h>
#include <chrono>
#include <span>
#include <string>

#include <exeunt/base/clock.hpp>

#include "os/exit_report.hpp"
#include "os/signal_dispatcher.hpp"

namespace exeunt::detail {

namespace {

using os::signal_dispatcher;

class chan_target final : public signal_target {
 public:
  chan_target(const send_only<int>& to, os::signal_set signals) : signal_target{signals}, to_{to} {}

  void deliver(const signal_arrival& arrived) noexcept override {
    try {
      for (unsigned i = 0; i < arrived.times; ++i) {
        static_cast<void>(to_.try_send(arrived.number));
      }
    } catch (const closed_channel&) {
      // Its owner is done with signals, and will stop the subscription when it goes.
    }
  }

 private:
  send_only<int> to_;
};

[[noreturn]] void exit_with_report(int number) noexcept {
  using namespace std::chrono_literals;
  constexpr auto limit = 80ms;  // Of the 100 ms that are promised.
  constexpr int status_base = 128;
  char room[16];
  try {
    std::string headline = "second signal, ";
    headline += os::name_of(number, room);
    headline += ": exiting with ";
    headline += std::to_string(status_base + number);
    headline += "; in flight:";
    os::print_report(std::move(headline), true, limit);
  } catch (...) {
    os::write_if_possible("second signal: exiting (no memory for a report)\n");
  }
  ::_exit(status_base + number);
}

class context_target final : public signal_target {
 public:
  context_target(ref_ptr<cancel_node> node, os::signal_set signals, signal::second then)
      : signal_target{signals}, node_{std::move(node)}, then_{then} {}

  void deliver(const signal_arrival& arrived) noexcept override {
    // order: relaxed; only this thread writes it.
    if (first_.load(memory_order_relaxed) == 0) {
      first_.store(arrived.number, memory_order_release);  // order: pairs with stopped().
      first_sender_ = arrived.sender;
      first_at_ = clock::now();
      if (then_ == signal::second::default_action) signal_dispatcher::instance().leave(*this);
      signal_dispatcher::instance().cancel_later(node_, error::from_signal(arrived.number));
      // What came more than once before the first was seen, is one: so the kernel merges, too.
      return;
    }
    switch (then_) {
      case signal::second::ignore:
        return;
      case signal::second::default_action:
        signal_dispatcher::instance().repeat_by_default(arrived.number, arrived.times);
        return;
      case signal::second::exit_with_report:
        if (!is_the_first_again(arrived)) exit_with_report(arrived.number);
    }
  }

  void stopped() noexcept override {
    const int number = first_.load(memory_order_acquire);  // order: pairs with deliver(). I1
    const error cause = number == 0 ? error{errc::canceled} : error::from_signal(number);
    node_->cancel(errc::canceled, cause);
  }

 private:
  // One request to stop may arrive as two signals. timeout(1) sends its own to the program and then
  // to the program's group; make(1) passes on the one that the group has got already.
  [[nodiscard]] bool is_the_first_again(const signal_arrival& arrived) const noexcept {
    using namespace std::chrono_literals;
    if (arrived.number != first_.load(memory_order_relaxed)) return false;
    if (!node_->canceled()) return true;  // The first has had no effect that anybody could see.
    // Measured: up to 70 µs between the group's and make's own. A busy machine needs more.
    constexpr auto passing_on_takes = 20ms;
    return arrived.sender != first_sender_ && clock::now() - first_at_ < passing_on_takes;
  }

  const ref_ptr<cancel_node> node_;
  const signal::second then_;
  atomic<int> first_{0};  // The signal that ended the context; 0: none yet.
  pid_t first_sender_ = 0;
  clock::time_point first_at_{};
};

os::signal_set set_of(signal::list signals) {
  return os::checked_set(std::span<const int>{signals.begin(), signals.size()});
}

}  // namespace

signal_handle::signal_handle(ref_ptr<signal_target> target) noexcept : target_{std::move(target)} {}
signal_handle::signal_handle(signal_handle&& other) noexcept = default;

signal_handle& signal_handle::operator=(signal_handle&& other) noexcept {
  if (this != &other) {
    stop();
    target_ = std::move(other.target_);
  }
  return *this;
}

signal_handle::~signal_handle() { stop(); }

void signal_handle::stop() noexcept {
  if (target_) target_->stop();
}

}  // namespace exeunt::detail

namespace exeunt::signal {

using detail::cancel_node;
using detail::ref_ptr;
using detail::signal_target;
using os::signal_dispatcher;

subscription notify(const send_only<int>& to, list signals) {
  if (!to) throw panic_error{"notify to the nil channel"};
  const auto target =
      ref_ptr<signal_target>::adopt(new detail::chan_target{to, detail::set_of(signals)});
  signal_dispatcher::instance().subscribe(target);
  return subscription{detail::signal_handle{target}};
}

cancelable_context<stop_func> notify_context(const context& parent, list signals,
                                             notify_options options) {
  const os::signal_set set = detail::set_of(signals);
  ref_ptr<cancel_node> node = cancel_node::make(detail::node_of(parent));
  context ctx = detail::make_context(parent, node, "notify_context");
  const auto target = ref_ptr<signal_target>::adopt(
      new detail::context_target{std::move(node), set, options.second});
  signal_dispatcher::instance().subscribe(target);
  return {std::move(ctx), stop_func{detail::signal_handle{target}}};
}

void ignore(list signals) { signal_dispatcher::instance().set_base(detail::set_of(signals), true); }

void reset(list signals) { signal_dispatcher::instance().set_base(detail::set_of(signals), false); }

bool ignored(int signal_number) noexcept { return os::is_ignored(signal_number); }

quit_dumps::quit_dumps() { signal_dispatcher::instance().add_quit_dumps(); }
quit_dumps::~quit_dumps() { signal_dispatcher::instance().remove_quit_dumps(); }

}  // namespace exeunt::signal
