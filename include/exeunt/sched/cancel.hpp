// SPDX-License-Identifier: Apache-2.0
// detail: the node of the cancellation tree, which makes every wait cancellable without the
// scheduler knowing what a context is.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/error.hpp>
#include <exeunt/base/export.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/sched/wait.hpp>

namespace exeunt::detail {

class deadline_node;

/// Something to be called when a node is cancelled: on the canceller's stack, outside all locks.
struct cancel_callback : list_hook<struct cancel_callback_tag> {
  void (*call)(cancel_callback& self) noexcept = nullptr;
  /// For share_callback() only: frees it, with its node.
  void (*destroy)(cancel_callback* self) noexcept = nullptr;
};

/// A place in the cancellation tree: live, or cancelled once with an error and a cause.
///
/// Threads:  all members, concurrently.
/// Ordering: what came before a cancel() is visible to whoever finds the node cancelled.
class EXEUNT_API cancel_node : public ref_counted, public list_hook<struct cancel_child_tag> {
 public:
  /// A node below `parent` (null: a root). Cancelled at once if the parent is. There are `room`
  /// bytes in the same memory, at room(), for whatever lives no longer than the node.
  [[nodiscard]] static ref_ptr<cancel_node> make(cancel_node* parent, std::size_t room = 0);
  /// The same, and cancelled at `deadline` with errc::deadline_exceeded and `cause`; at once if
  /// that is past.
  [[nodiscard]] static ref_ptr<cancel_node> make(cancel_node* parent, clock::time_point deadline,
                                                 const error& cause);
  /// The same for who has just looked at the clock.
  [[nodiscard]] static ref_ptr<cancel_node> make(cancel_node* parent, clock::time_point deadline,
                                                 const error& cause, std::size_t room,
                                                 clock::time_point now);
  /// As aligned as the node.
  [[nodiscard]] void* room() noexcept;

  /// Cancels this node and all below it; the first cancel wins, later ones do nothing.
  /// Not to be called from a timer's call-back, since it stops the timers of the nodes below.
  /// Wakes: every waiter and runs every call-back, before it returns, if this call was the one.
  ///        Whichever it was, all nodes below are cancelled when it returns. Iterative: trees may
  ///        be 100 000 deep.
  /// Returns: true if this call was the one.
  bool cancel(const error& reason, const error& cause) noexcept;

  /// Cost: one load.
  EXEUNT_NO_TSAN [[nodiscard]] bool canceled() const noexcept {
    if (!peek()) return false;
    race_acquire(this);
    return true;
  }
  /// As canceled(), for whoever may yet go by something else: the race detector is told nothing.
  EXEUNT_NO_TSAN [[nodiscard]] bool peek() const noexcept { return !is_live(state_); }
  /// Cancelled, and so is all below. Cost: one load.
  EXEUNT_NO_TSAN [[nodiscard]] bool settled() const noexcept {
    return state_.load(memory_order_acquire) == ended;  // order: pairs with spread() and begin().
  }
  /// For who asks often whether it is live: is_live(state()), as long as the node is there.
  [[nodiscard]] const atomic<std::uint8_t>& state() const noexcept { return state_; }
  EXEUNT_NO_TSAN [[nodiscard]] static bool is_live(const atomic<std::uint8_t>& state) noexcept {
    return state.load(memory_order_acquire) == live;  // order: pairs with begin().
  }
  static constexpr std::uint8_t live = 0;

  /// Asserts: canceled().
  [[nodiscard]] const error& reason() const noexcept;
  [[nodiscard]] const error& cause() const noexcept;

  /// Parks until cancelled.
  void wait(wait_reason why = wait_reason::context) noexcept;

  /// Links `w`, to be claimed by a cancel. False (and not linked) if cancelled already.
  [[nodiscard]] bool add_waiter(waiter& w) noexcept;
  /// Unlinks `w` if it still is; when it returns no canceller touches `w`.
  void remove_waiter(waiter& w) noexcept;

  /// As add_waiter, for call-backs. False: cancelled already, and not called. The owner keeps a
  /// reference to the node until the call-back is called or removed.
  [[nodiscard]] bool add_callback(cancel_callback& callback) noexcept;
  /// Returns: true if it was prevented. False: it has been called, or is being called now.
  [[nodiscard]] bool remove_callback(cancel_callback& callback) noexcept;

  /// The node's one shared call-back: `candidate`, which the node takes over, if it has none yet.
  /// Returns: the one it has. If that is not `candidate`, this one is still the caller's. Null if
  ///          the node is cancelled and has none.
  [[nodiscard]] cancel_callback* share_callback(cancel_callback* candidate) noexcept;

  /// Leaves the parent's list of children: a finished node must not be kept by a living parent.
  /// A cancel does it, and so does the end of the last handle.
  void detach() noexcept;

  /// How many nodes below are linked now; for tests and reports.
  [[nodiscard]] std::size_t child_count() noexcept;

  void release() const noexcept;

 private:
  friend class deadline_node;
  using child_list = intrusive_list<cancel_node, cancel_child_tag>;
  static constexpr std::uint8_t unclaimed = 1;  // Has begun to end; below it some may be live.
  static constexpr std::uint8_t spreading = 2;  // And somebody is about to end those.
  static constexpr std::uint8_t ended = 3;

  explicit cancel_node(bool has_deadline) noexcept : has_deadline_{has_deadline} {}
  ~cancel_node();

  void set_parent(cancel_node* parent) noexcept;
  void link() noexcept;
  enum class begun : std::uint8_t { no, alone, childless, with_children };
  begun begin(const error& reason, const error& cause) noexcept;
  void settle() noexcept;
  bool claim() noexcept;
  void wait_until_settled() noexcept;
  void spread() noexcept;
  void take_children(cancel_node*& last) noexcept;
  bool wake_some() noexcept;
  bool wake_batch(spin_guard& guard) noexcept;
  [[nodiscard]] bool quiet() noexcept;
  void run_callbacks() noexcept;
  void stop_timer() noexcept;

  atomic<std::uint8_t> state_{live};
  const bool has_deadline_;  // It is a deadline_node.
  spin_lock lock_;
  spin_lock spreading_;                // See I7.
  cancel_node* parent_ = nullptr;      // Owned; set once, before link().
  cancel_node* next_ended_ = nullptr;  // In the list of the one spread() that visits it.
  cancel_callback* shared_ = nullptr;
  child_list children_;  // Weak: a child keeps its parent, not the reverse.
  intrusive_list<waiter> waiters_;
  intrusive_list<cancel_callback, cancel_callback_tag> callbacks_;
  std::optional<error> reason_;  // There and fixed once state_ is not `live`, as is cause_.
  std::optional<error> cause_;
};

/// The state of what never ends.
EXEUNT_API extern const atomic<std::uint8_t> live_for_good;

}  // namespace exeunt::detail
