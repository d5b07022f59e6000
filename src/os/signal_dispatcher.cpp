// SPDX-License-Identifier: Apache-2.0
// From the handler to the subscriptions: counts, one thread in rounds, and how to leave.
//
// The handler adds one to the signal's count and writes to an eventfd. The delivering thread wakes
// and does a *round*: it takes each count and calls the targets that want the signal, without a
// lock. A second thread cancels contexts, whose call-backs may take their time.
//
// Invariants, whenever lock_ is free:
//   I1  A signal is installed if a target that is not leaving, or quit_dumps_, wants it.
//   I2  A target in targets_ that is leaving is named by a round_waiter, or will be in the round
//       under way, which removes it at its end.
//   I3  A count that finds no target and no installed handler was on its way when the handler was
//       taken out: it is sent again, and has the effect that the signal has now. So a signal is
//       delivered or takes effect, never neither.
//   I4  Each caught signal is counted; a count is taken by one round only.
// Why stop() needs a whole round: one that began before may have taken its targets already. The
//   round that serves the waiter began after the handler was out, so all that was counted before is
//   delivered in it; the thread itself removes the target, so that no later round can know it.
// Locks: lock_, then nothing. rounds_lock_ and cancels_lock_ are leaves. Fibers hold lock_ for some
//   sigactions only, and never across a park.
// Wake-ups: wait_round() is woken by the delivering thread at the end of the round.
// Tests: tests/os/signal_test.cpp, signal_child_test.cpp.

#include "os/signal_dispatcher.hpp"

#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <system_error>
#include <thread>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/race.hpp>

#include "os/exit_report.hpp"

namespace exeunt::detail {

struct target_access {
  static os::signal_set& signals(signal_target& target) noexcept { return target.signals_; }
  static bool& leaving(signal_target& target) noexcept { return target.leaving_; }
};

void signal_target::stop() noexcept {
  // order: acq_rel; only one call goes on.
  if (stop_called_.exchange(true, memory_order_acq_rel)) return;
  os::signal_dispatcher::instance().unsubscribe(*this);
  stopped();
}

}  // namespace exeunt::detail

namespace exeunt::os {

using detail::memory_order_acquire;
using detail::memory_order_relaxed;
using detail::memory_order_release;
using detail::ref_ptr;
using detail::signal_target;
using detail::spin_guard;
using detail::target_access;

namespace {

// The handler's world: nothing but these, which exist before it is installed.
std::array<detail::atomic<unsigned>, signal_count> counts{};
std::array<detail::atomic<pid_t>, signal_count> senders{};
detail::atomic<int> wake_fd{-1};

static_assert(detail::atomic<unsigned>::is_always_lock_free);

void ring() noexcept {
  const std::uint64_t one = 1;
  // order: acquire; pairs with the release in start_threads().
  // By its number: a sanitizer's wrapper of write() is not for handlers.
  [[maybe_unused]] const auto written =
      ::syscall(SYS_write, wake_fd.load(memory_order_acquire), &one, sizeof one);
}

extern "C" void exeunt_on_signal(int number, siginfo_t* info, void*) {
  const int errno_before = errno;
  const bool by_process = info->si_code <= 0;  // kill(), sigqueue(), raise(); not ^C.
  // order: relaxed; published by the count. A later signal may overwrite it before it is read.
  senders[static_cast<std::size_t>(number)].store(by_process ? info->si_pid : 0,
                                                  memory_order_relaxed);
  // order: release; the round that takes it sees what came before, at no cost.
  counts[static_cast<std::size_t>(number)].fetch_add(1, memory_order_release);
  ring();
  errno = errno_before;
}

// The numbers in a set.
template <typename F>
void for_each(const signal_set& signals, F&& f) {
  for (int number = 1; number < signal_count; ++number) {
    if (signals.test(static_cast<std::size_t>(number))) f(number);
  }
}

}  // namespace

signal_dispatcher& signal_dispatcher::instance() {
  static signal_dispatcher* const only = [] {
    auto* const made = new signal_dispatcher;
    detail::race_release(made);
    return made;
  }();
  detail::race_acquire(only);  // Or its locks' first use would look like a race with its making.
  return *only;
}

// A forked child has no delivering thread. It is told before it takes a lock, which a thread that
// is not there either may hold for ever.
bool signal_dispatcher::in_forked_child() const noexcept {
  const pid_t process = process_.load(memory_order_relaxed);  // order: see start_threads().
  return process != 0 && process != ::getpid();
}

void signal_dispatcher::refuse_in_child() const noexcept {
  if (in_forked_child()) {
    detail::fatal("a forked child asks for signals; only exec is allowed after fork");
  }
}

// Under lock_.
void signal_dispatcher::start_threads() {
  if (started_) return;
  // order: relaxed; under lock_.
  if (wake_fd.load(memory_order_relaxed) < 0) {
    const int made = ::eventfd(0, EFD_CLOEXEC);
    if (made < 0) throw std::system_error{errno, std::system_category(), "eventfd"};
    wake_fd.store(made, memory_order_release);         // order: see ring().
    process_.store(::getpid(), memory_order_relaxed);  // order: a child has it by the fork.
  }
  const detail::all_signals_blocked blocked;
  std::thread{[this] { run_cancels(); }}.detach();
  std::thread delivering{[this] { run_delivery(); }};
  delivering_ = delivering.get_id();
  delivering.detach();
  started_ = true;
}

// Under lock_.
bool signal_dispatcher::wanted(int number) const noexcept {
  if (number == SIGQUIT && quit_dumps_ > 0) return true;
  return std::ranges::any_of(targets_, [number](const ref_ptr<signal_target>& target) {
    return !target_access::leaving(*target) &&
           target_access::signals(*target).test(static_cast<std::size_t>(number));
  });
}

// Under lock_.
void signal_dispatcher::release_unwanted(const signal_set& signals, bool deadly) noexcept {
  for_each(signals, [&](int number) {
    if (!wanted(number)) table_.uninstall(number, deadly);
  });
}

void signal_dispatcher::subscribe(ref_ptr<signal_target> target) {
  refuse_in_child();
  const signal_set signals = target_access::signals(*target);
  {
    const std::lock_guard guard{lock_};
    start_threads();
    targets_.push_back(std::move(target));
    for_each(signals, [&](int number) { table_.install(number, &exeunt_on_signal); });
  }
  ring();  // The delivering thread then lets these signals come to itself, too.
}

void signal_dispatcher::unsubscribe(signal_target& target) noexcept {
  if (in_forked_child()) return;
  {
    const std::lock_guard guard{lock_};
    target_access::leaving(target) = true;
    release_unwanted(target_access::signals(target), false);
  }
  wait_round(&target);
}

void signal_dispatcher::leave(signal_target& target) noexcept {
  const std::lock_guard guard{lock_};
  target_access::leaving(target) = true;
  release_unwanted(target_access::signals(target), true);
}

void signal_dispatcher::set_base(const signal_set& signals, bool is_ignored) {
  refuse_in_child();
  {
    const std::lock_guard guard{lock_};
    start_threads();
    for (const ref_ptr<signal_target>& target : targets_) {
      target_access::signals(*target) &= ~signals;
    }
    for_each(signals, [&](int number) {
      is_ignored ? table_.ignore(number) : table_.reset(number);
      if (wanted(number)) table_.install(number, &exeunt_on_signal);  // For quit_dumps.
    });
  }
  wait_round(nullptr);
}

void signal_dispatcher::add_quit_dumps() {
  refuse_in_child();
  const std::lock_guard guard{lock_};
  start_threads();
  ++quit_dumps_;
  table_.install(SIGQUIT, &exeunt_on_signal);
  ring();
}

void signal_dispatcher::remove_quit_dumps() noexcept {
  if (in_forked_child()) return;
  const std::lock_guard guard{lock_};
  --quit_dumps_;
  if (!wanted(SIGQUIT)) table_.uninstall(SIGQUIT, true);
}

void signal_dispatcher::wait_round(signal_target* leaving) noexcept {
  // A former handler of SIGQUIT may exit the process from the delivering thread. No other round is
  // under way then, and this one will not go on.
  if (std::this_thread::get_id() == delivering_) return;
  round_waiter self;
  self.leaving = leaving;
  detail::race_release(this);
  spin_guard guard{rounds_lock_};
  asked_.push_back(self);
  ring();
  park(guard.release(), detail::wait_reason::condition, this);  // Woken by: do_round(), at its end.
  detail::race_acquire(this);
}

void signal_dispatcher::cancel_later(ref_ptr<detail::cancel_node> node, error cause) {
  {
    const std::lock_guard guard{cancels_lock_};
    cancels_.emplace_back(std::move(node), std::move(cause));
  }
  cancels_ready_.notify_one();
}

void signal_dispatcher::run_cancels() noexcept {
  ::pthread_setname_np(::pthread_self(), "exeunt-cancel");
  while (true) {
    std::unique_lock guard{cancels_lock_};
    cancels_ready_.wait(guard, [this] { return !cancels_.empty(); });
    auto [node, cause] = std::move(cancels_.front());
    cancels_.pop_front();
    guard.unlock();
    node->cancel(errc::canceled, cause);
  }
}

void signal_dispatcher::run_delivery() noexcept {
  ::pthread_setname_np(::pthread_self(), "exeunt-signal");
  while (true) {
    std::uint64_t rings = 0;
    // order: relaxed; this thread was started after the store.
    if (::read(wake_fd.load(memory_order_relaxed), &rings, sizeof rings) < 0) {
      EXEUNT_ASSERT(errno == EINTR);
      continue;
    }
    take_mask();
    do_round();
  }
}

// An application may block all signals on all of its own threads. Those that are caught come here
// then; the others stay away, since their handlers may not expect this thread.
void signal_dispatcher::take_mask() noexcept {
  sigset_t blocked;
  ::sigfillset(&blocked);
  {
    const std::lock_guard guard{lock_};
    for_each(table_.installed(), [&](int number) { ::sigdelset(&blocked, number); });
  }
  ::pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
}

void signal_dispatcher::do_round() noexcept {
  {
    const spin_guard guard{rounds_lock_};
    served_.append(asked_);
  }
  for (int number = 1; number < signal_count; ++number) {
    // order: acquire; pairs with the handler's release.
    const auto at = static_cast<std::size_t>(number);
    const unsigned times = counts[at].exchange(0, memory_order_acquire);
    if (times == 0) continue;
    deliver({.number = number,
             .times = times,
             .sender = senders[at].load(memory_order_relaxed)});  // order: see the handler.
  }
  while (true) {
    detail::wakeup due;
    ref_ptr<signal_target> gone;
    round_waiter* waiting = nullptr;
    {
      const spin_guard guard{rounds_lock_};
      waiting = served_.front();
      if (waiting == nullptr) return;
    }
    // Nobody but this thread takes waiters from served_, so it stays valid without the lock.
    if (waiting->leaving != nullptr) {
      const std::lock_guard guard{lock_};
      const auto it = std::ranges::find_if(
          targets_, [waiting](const auto& target) { return target.get() == waiting->leaving; });
      if (it != targets_.end()) {
        gone = std::move(*it);
        targets_.erase(it);
      }
    }
    {
      const spin_guard guard{rounds_lock_};
      served_.remove(*waiting);
      static_cast<void>(waiting->claim(due));
    }
    detail::race_release(this);
    due.fire();
  }
}

void signal_dispatcher::deliver(const detail::signal_arrival& arrived) noexcept {
  const int number = arrived.number;
  bool is_late = false;
  bool dumps = false;
  {
    const std::lock_guard guard{lock_};
    for (const ref_ptr<signal_target>& target : targets_) {
      if (target_access::signals(*target).test(static_cast<std::size_t>(number))) {
        receivers_.push_back(target);
      }
    }
    is_late = receivers_.empty() && !table_.installed(number);
    // Whoever is leaving may still take what was on its way, but keeps nobody else from it.
    dumps = number == SIGQUIT && quit_dumps_ > 0 &&
            std::ranges::all_of(receivers_, [](const ref_ptr<signal_target>& target) {
              return target_access::leaving(*target);
            });
  }
  for (const ref_ptr<signal_target>& target : receivers_) target->deliver(arrived);
  receivers_.clear();
  if (is_late) repeat_by_default(number, arrived.times);  // I3
  if (dumps) dump_and_quit();
}

void signal_dispatcher::repeat_by_default(int number, unsigned times) noexcept {
  {
    const std::lock_guard guard{lock_};
    if (table_.installed(number)) return;
  }
  for (; times > 0; --times) ::kill(::getpid(), number);
}

void signal_dispatcher::dump_and_quit() noexcept {
  using namespace std::chrono_literals;
  print_report("SIGQUIT: quit\n", false, 2s);
  {
    const std::lock_guard guard{lock_};
    if (!table_.had_handler(SIGQUIT)) ::_exit(2);
    table_.hand_back(SIGQUIT);
  }
  // The former handler runs on this thread, as the kernel would run it, and without our lock: it
  // may end the process by exit(), whose destructors end subscriptions.
  sigset_t one;
  sigset_t before;
  ::sigemptyset(&one);
  ::sigaddset(&one, SIGQUIT);
  ::pthread_sigmask(SIG_UNBLOCK, &one, &before);
  ::pthread_kill(::pthread_self(), SIGQUIT);  // Handled before it returns, as it is not blocked.
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  const std::lock_guard guard{lock_};
  if (wanted(SIGQUIT)) table_.install(SIGQUIT, &exeunt_on_signal);
}

}  // namespace exeunt::os
