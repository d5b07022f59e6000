// SPDX-License-Identifier: Apache-2.0
// Who wants which signal, and the thread that tells them.

#pragma once

#include <pthread.h>
#include <sys/types.h>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/error.hpp>
#include <exeunt/base/intrusive_list.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/sched/cancel.hpp>
#include <exeunt/sched/wait.hpp>

#include "os/signal_table.hpp"

namespace exeunt::detail {

/// A thread that is started while one lives inherits a mask that blocks everything.
class all_signals_blocked {
 public:
  all_signals_blocked() noexcept {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~all_signals_blocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  all_signals_blocked(const all_signals_blocked&) = delete;
  all_signals_blocked& operator=(const all_signals_blocked&) = delete;

 private:
  sigset_t before_;
};

/// Signals of one number that were counted since the last round.
struct signal_arrival {
  int number;
  unsigned times;
  pid_t sender;  ///< Of the latest; 0 if it was the kernel, as for ^C.
};

/// One subscription: what is to happen at which signals.
class signal_target : public ref_counted {
 public:
  explicit signal_target(os::signal_set signals) noexcept : signals_{signals} {}
  void release() const noexcept {
    if (drop()) delete this;
  }
  signal_target(const signal_target&) = delete;
  signal_target& operator=(const signal_target&) = delete;

  /// Called by the delivering thread, with no lock held, one at a time. Must not wait.
  virtual void deliver(const signal_arrival& arrived) noexcept = 0;
  /// Called once, after the last deliver().
  virtual void stopped() noexcept {}

  void stop() noexcept;

 protected:
  virtual ~signal_target() = default;

 private:
  friend struct target_access;
  os::signal_set signals_;  // Under the dispatcher's lock, once it is subscribed.
  bool leaving_ = false;    // Likewise: counts no longer as one who wants a signal.
  atomic<bool> stop_called_{false};
};

}  // namespace exeunt::detail

namespace exeunt::os {

/// The process's one table of subscriptions; never destroyed. See signal_dispatcher.cpp.
///
/// Threads: all members, any thread or fiber, but those of the delivering thread.
class signal_dispatcher {
 public:
  static signal_dispatcher& instance();

  /// Throws: std::system_error, std::bad_alloc; then nothing has changed.
  void subscribe(detail::ref_ptr<detail::signal_target> target);
  /// Blocks: until `target` gets no more.
  void unsubscribe(detail::signal_target& target) noexcept;

  /// Takes `signals` from all targets, then sets their base effect.
  /// Blocks: until nobody gets them any more.
  void set_base(const signal_set& signals, bool is_ignored);

  void add_quit_dumps();
  void remove_quit_dumps() noexcept;

  /// For targets, in deliver(): no more of any signal, from the next round on; what nobody else
  /// wants has its base effect at once.
  void leave(detail::signal_target& target) noexcept;
  /// For targets, in deliver(): gives `number` its base effect as often as it came, unless
  /// somebody else wants it.
  void repeat_by_default(int number, unsigned times) noexcept;
  /// For targets: cancels `node` on the thread that does only this, since call-backs of a cancel
  /// may wait, and delivery must not.
  void cancel_later(detail::ref_ptr<detail::cancel_node> node, error cause);

 private:
  struct round_waiter : detail::waiter {
    detail::signal_target* leaving = nullptr;
  };

  signal_dispatcher() = default;
  void start_threads();
  [[nodiscard]] bool in_forked_child() const noexcept;
  void refuse_in_child() const noexcept;
  void run_delivery() noexcept;
  void run_cancels() noexcept;
  void do_round() noexcept;
  void deliver(const detail::signal_arrival& arrived) noexcept;
  void dump_and_quit() noexcept;
  void wait_round(detail::signal_target* leaving) noexcept;
  void release_unwanted(const signal_set& signals, bool deadly) noexcept;
  [[nodiscard]] bool wanted(int number) const noexcept;
  void take_mask() noexcept;

  std::mutex lock_;
  signal_table table_;
  std::vector<detail::ref_ptr<detail::signal_target>> targets_;
  unsigned quit_dumps_ = 0;
  bool started_ = false;
  detail::atomic<pid_t> process_{0};  // Who has the threads, once they are started.
  std::thread::id delivering_;

  std::vector<detail::ref_ptr<detail::signal_target>> receivers_;  // The delivering thread's own.

  detail::spin_lock rounds_lock_;
  detail::intrusive_list<round_waiter, void> asked_;   // Wait for a round to begin.
  detail::intrusive_list<round_waiter, void> served_;  // Wait for the present one's end.

  std::mutex cancels_lock_;
  std::condition_variable cancels_ready_;
  std::deque<std::pair<detail::ref_ptr<detail::cancel_node>, error>> cancels_;
};

}  // namespace exeunt::os
