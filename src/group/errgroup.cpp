// SPDX-License-Identifier: Apache-2.0
// What an errgroup keeps: its tasks, its failures, and who waits.
//
// A task *enters* when it gets one of the limit's slots, before its fiber starts, and *leaves* as
// the last thing that its fiber does with the group.
//
// Invariants, whenever lock_ is free:
//   I1  active_ counts the tasks between enter() and leave(); 0 <= limit_ => active_ <= limit_.
//   I2  slots_ not empty  =>  active_ == limit_: a leaving task hands its slot over.
//   I3  waiters_ not empty  =>  active_ > 0.
//   I4  canceled_ is set before the context is ended, so that a task which sees that end finds it.
//   I5  A task's failure is recorded, and the context ended for it, before the task leaves.
//   I6  While active_ > 0, home_ is the end of the runtime in which all tasks are, or null if they
//       are in several: then a wait from outside does not notice that one of those has stopped.
// Locks: lock_ is a source's. Nothing is called under it; failures and names are allocated outside.
// Wake-ups: leave() fires after unlocking. From then on the group may be gone. A waiter from
//   outside the tasks' runtime is also woken when that has stopped, and takes lock_ once more.
// Tests: tests/group/errgroup_test.cpp, errgroup_limit_test.cpp (I1-I5), left_behind_test.cpp (I6),
// group_race_test.cpp, errgroup_stress_test.cpp, group_litmus_test.cpp.

#include <exeunt/group/errgroup.hpp>

#include <algorithm>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/log.hpp>
#include <exeunt/sched/fiber_local.hpp>

namespace exeunt {

using detail::cancel_node;
using detail::errgroup_task;
using detail::node_of;
using detail::spin_guard;
using detail::waiter;

namespace {

// Joins in pairs of equal size: with many failures, one by one would copy the list each time.
error join_all(const std::vector<error>& failures, std::size_t first, std::size_t last) {
  if (last - first == 1) return failures[first];
  const std::size_t middle = first + (last - first) / 2;
  return join(join_all(failures, first, middle), join_all(failures, middle, last));
}

}  // namespace

errgroup::errgroup()
    : errgroup{context::background(), errgroup_options{.cancel_on = cancel_on::nothing}} {}

errgroup::errgroup(const context& parent, errgroup_options options)
    : cancel_on_{options.cancel_on},
      limit_{options.limit},
      ctx_{detail::make_context(parent, cancel_node::make(node_of(parent)), "errgroup")},
      node_{node_of(ctx_)} {}

errgroup::~errgroup() {
  cancel();
  if (const std::size_t left = wait_all(true).left; left != 0) {
    log_line("exeunt: an errgroup does not wait for " + std::to_string(left) +
             (left == 1 ? " task" : " tasks") + ", as the runtime has stopped without");
  }
  auto unread = failures_.begin();
  std::advance(unread, static_cast<std::ptrdiff_t>(read_));
  for (; unread != failures_.end(); ++unread) {
    detail::report_unread(*unread, "a task of an errgroup");
  }
}

// Under lock_: one of the active tasks will be in the runtime with that end.
void errgroup::use_runtime(cancel_node& end) noexcept {
  if (active_ == 1) {
    home_ = &end;
  } else if (home_ != &end) {
    home_ = nullptr;
  }
}

// Under lock_: a task that will be in the runtime with that end enters, if one may now.
bool errgroup::take_slot(cancel_node& end) noexcept {
  const bool full = limit_ >= 0 && active_ >= static_cast<std::size_t>(limit_);
  if (finished_ || full || !slots_.empty()) return false;
  ++active_;
  use_runtime(end);
  return true;
}

// Called with lock_ held by `guard`, which it releases. Links the caller in `waiters` and parks.
// Returns: false if the runtime that was home_ has stopped.
bool errgroup::park_in(detail::intrusive_list<waiter>& waiters, spin_guard& guard) noexcept {
  cancel_node* const home = home_;
  if (home == nullptr || detail::shares_runtime(*home)) {
    waiter self;
    waiters.push_back(self);
    detail::park(guard.release(), detail::wait_reason::errgroup, this);  // Woken by: leave().
    return true;
  }
  detail::ticket several;
  waiter self{several};
  self.whom = detail::caller::current();  // For leave(), which wakes after it has unlocked.
  waiter stopped{several};
  waiters.push_back(self);
  guard.unlock();
  if (home->add_waiter(stopped)) {
    detail::park(several, detail::wait_reason::errgroup, this);  // Woken by: leave(), stop().
    home->remove_waiter(stopped);
  } else {
    // Nobody is parked, so nothing is due. If this fails, leave() was faster.
    detail::wakeup due;
    static_cast<void>(stopped.claim(due));
  }
  // Also if it won: leave() must have let go of the group.
  const spin_guard again{lock_};
  if (self.linked()) waiters.remove(self);
  return self.won();
}

void errgroup::enter() {
  detail::step("errgroup go", this);
  cancel_node& end = detail::end_of_runtime();
  {
    const spin_guard guard{lock_};
    if (take_slot(end)) return;
  }
  enter_late(end);
}

// As enter(), for who may have to wait.
void errgroup::enter_late(cancel_node& end) {
  const char* misuse = nullptr;
  for (const cancel_node* stopped = nullptr; misuse == nullptr;) {
    spin_guard guard{lock_};
    cancel_node* const home = home_;
    if (take_slot(end)) return;
    if (finished_) {
      misuse = "errgroup: go() after wait() has returned";
    } else if (limit_ == 0) {
      misuse = "errgroup: go() with a limit of 0";
    } else if (stopped != nullptr && stopped == home) {
      misuse = "errgroup: go() while the runtime of its tasks has stopped";
    } else if (park_in(slots_, guard)) {  // Woken by: leave(), which hands its slot over; stop().
      const spin_guard again{lock_};
      use_runtime(end);
      return;
    } else {
      stopped = home;
    }
  }
  throw panic_error{misuse};
}

bool errgroup::try_enter() {
  detail::step("errgroup go", this);
  cancel_node& end = detail::end_of_runtime();
  {
    const spin_guard guard{lock_};
    if (take_slot(end)) return true;
    if (!finished_) return false;
  }
  throw panic_error{"errgroup: try_go() after wait() has returned"};
}

void errgroup::leave(errgroup_task* task) noexcept {
  detail::race_release(this);
  detail::wakeup next;
  detail::intrusive_list<waiter> released;
  {
    const spin_guard guard{lock_};
    if (task != nullptr) tasks_.remove(*task);
    EXEUNT_ASSERT(active_ > 0);
    if (active_ > 1 && slots_.empty()) {  // Nobody waits for this one.
      --active_;
      return;
    }
    if (detail::claim_first(slots_, next) == nullptr) {
      --active_;
      while (waiter* const first = active_ == 0 ? waiters_.pop_front() : nullptr) {
        // One that is parked stays until it is woken; another may be gone when it has lock_.
        detail::wakeup due;
        if (first->claim(due) && due) released.push_back(*first);
      }
    }
  }
  next.fire();
  while (waiter* const first = released.pop_front()) detail::wakeup{first->whom}.fire();
}

void errgroup::run(const std::source_location& where,
                   function_ref<result<>(const context&)> body) noexcept {
  errgroup_task task;
  task.name = this_fiber::name();
  task.started_at = where;
  {
    const spin_guard guard{lock_};
    tasks_.push_back(task);
  }
  {
    const result<> ended = body(ctx_);
    detail::step("the end of an errgroup's task", this);
    if (!ended || cancel_on_ == cancel_on::first_exit) record(ended);
  }
  detail::end_fiber_locals();
  leave(&task);
}

// A failure, or with cancel_on::first_exit any end.
void errgroup::record(const result<>& ended) noexcept {
  bool end_all = cancel_on_ == cancel_on::first_exit;
  error why = errc::canceled;
  if (!ended) {
    std::list<error> one{ended.error()};
    const spin_guard guard{lock_};
    bool counts = true;
    if (canceled_) {
      counts = !one.front().only(errc::canceled);
    } else if (node_->canceled() && one.front().only(node_->reason().code())) {
      counts = !parent_ended_;
      parent_ended_ = true;
      // Only a cause knows which signal it was.
      if (node_->cause().signal()) one.front() = node_->cause();
    }
    if (counts) {
      why = one.front();
      failures_.splice(failures_.end(), one);
      end_all = cancel_on_ != cancel_on::nothing;
    }
  }
  if (!end_all) return;
  {
    const spin_guard guard{lock_};
    if (canceled_ || node_->canceled()) return;
    canceled_ = true;
  }
  node_->cancel(errc::canceled, why);
}

void errgroup::set_limit(int limit) {
  {
    const spin_guard guard{lock_};
    if (active_ == 0) {
      limit_ = limit;
      return;
    }
  }
  throw panic_error{"errgroup: set_limit() while tasks run"};
}

errgroup::outcome errgroup::wait_all(bool for_good) noexcept {
  outcome ended{};
  for (const cancel_node* stopped = nullptr;;) {
    spin_guard guard{lock_};
    cancel_node* const home = home_;
    if (active_ == 0 || (stopped != nullptr && stopped == home)) {
      finished_ = for_good;
      ended = {failures_.size(), active_};
      break;
    }
    // Woken by: the last task's leave(); stop(), after which tasks of another runtime may be there.
    if (!park_in(waiters_, guard)) stopped = home;
  }
  detail::race_acquire(this);
  return ended;
}

void errgroup::cancel() noexcept {
  if (node_->settled()) return;
  {
    const spin_guard guard{lock_};
    if (!node_->canceled()) canceled_ = true;
  }
  node_->cancel(errc::canceled, errc::canceled);  // Ended already: waits until all below has, too.
}

result<> errgroup::wait() {
  detail::step("errgroup wait", this);
  const bool for_good = cancel_on_ != cancel_on::nothing;
  const auto [recorded, left] = wait_all(for_good);
  if (for_good) cancel();
  std::optional<error> abandoned;
  if (left != 0) {
    abandoned.emplace(errc::shutting_down, "the runtime has stopped without " +
                                               std::to_string(left) + " of the group's tasks");
  }
  if (recorded == 0) return abandoned ? result<>{fail(std::move(*abandoned))} : result<>{};
  // A group that goes on may add failures meanwhile; the ones up to here do not change.
  std::vector<error> seen;
  seen.reserve(recorded);
  auto next = failures_.begin();
  seen.push_back(*next);
  while (seen.size() < recorded) seen.push_back(*++next);
  {
    const spin_guard guard{lock_};
    read_ = std::max(read_, recorded);
  }
  if (abandoned) seen.push_back(std::move(*abandoned));
  return fail(join_all(seen, 0, seen.size()));
}

std::vector<std::string> errgroup::running() const {
  struct line {
    char name[32] = "";
    std::source_location started_at;
  };
  std::vector<line> lines;
  for (std::size_t room = 16;; room *= 2) {
    lines.reserve(room);
    bool complete = true;
    {
      const spin_guard guard{lock_};
      // The list is circular, so that a walk of it needs the list itself.
      auto& tasks = const_cast<detail::intrusive_list<errgroup_task>&>(tasks_);
      for (errgroup_task* task = tasks.front(); task != nullptr; task = tasks.next(*task)) {
        if (lines.size() == lines.capacity()) {
          complete = false;
          break;
        }
        line& added = lines.emplace_back();
        const detail::race_ignore own;  // The fiber's block will be another's one day.
        task->name.copy(added.name, sizeof added.name - 1);
        added.started_at = task->started_at;
      }
    }
    if (complete) break;
    lines.clear();
  }
  std::vector<std::string> texts;
  for (const line& task : lines) {
    texts.push_back(std::string{task.name} + (task.name[0] == '\0' ? "(" : " (") +
                    task.started_at.file_name() + ":" + std::to_string(task.started_at.line()) +
                    ")");
  }
  return texts;
}

}  // namespace exeunt
