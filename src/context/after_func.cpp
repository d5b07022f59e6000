// SPDX-License-Identifier: Apache-2.0
// Registrations on a context's end.
//
// Invariants:
//   I1  While an entry is linked in its node it has one reference for that, and keeps the node.
//   I2  Exactly one of these takes the link: the cancel, which starts f, or one stop().
// Locks: the node's, inside its members.
// Tests: tests/context/after_func_test.cpp (I1, I2).

#include <exeunt/context/after_func.hpp>

#include <exeunt/base/atomic.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/wait.hpp>

namespace exeunt {
namespace detail {

class after_func_entry : public ref_counted, public cancel_callback {
 public:
  after_func_entry(ref_ptr<cancel_node> node, unique_function<void()>&& f,
                   std::source_location where) noexcept
      : node_{std::move(node)}, f_{std::move(f)}, where_{where} {
    call = [](cancel_callback& self) noexcept { static_cast<after_func_entry&>(self).start(); };
    race_release(this);
  }

  void add() {
    if (!node_) return;  // It never ends.
    add_ref();
    if (!node_->add_callback(*this)) start();
  }

  bool stop() noexcept {
    if (!node_) {
      // order: relaxed; only which call came first counts.
      return !stopped_.exchange(true, memory_order_relaxed);
    }
    if (!node_->remove_callback(*this)) return false;
    race_acquire(this);
    f_ = nullptr;
    release();
    return true;
  }

  void release() noexcept {
    if (drop()) delete this;
  }

 private:
  using entry_ptr = ref_ptr<after_func_entry>;

  // Hands the link's reference to a fiber, which sees what came before after_func(), though the
  // canceller does not.
  void start() {
    start_fiber_in(home_, {.name = "after_func", .started_at = where_},
                   [entry = entry_ptr::adopt(this)]() mutable {
                     race_acquire(entry.get());
                     unique_function<void()> f = std::move(entry->f_);
                     entry = nullptr;
                     f();
                   });
  }

  timer_queue* const home_ = home_of_caller();
  const ref_ptr<cancel_node> node_;
  unique_function<void()> f_;  // Belongs to whoever took the link.
  const std::source_location where_;
  atomic<bool> stopped_{false};
};

void after_func_release::release(after_func_entry* entry) noexcept { entry->release(); }

}  // namespace detail

bool after_func_handle::stop() noexcept {
  detail::step("after_func stop", entry_);
  return entry_ != nullptr && entry_->stop();
}

after_func_handle after_func(const context& ctx, unique_function<void()> f,
                             std::source_location where) {
  detail::step("after_func", detail::node_of(ctx));
  auto* const entry = new detail::after_func_entry{
      detail::ref_ptr<detail::cancel_node>::share(detail::node_of(ctx)), std::move(f), where};
  after_func_handle handle{entry};
  entry->add();
  return handle;
}

}  // namespace exeunt
