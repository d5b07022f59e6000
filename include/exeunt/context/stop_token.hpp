// SPDX-License-Identifier: Apache-2.0
// Bridges between contexts and std::stop_token.
//
// All is in the header, so that the standard's stop state, which is inline code too, is seen by
// ThreadSanitizer from both of its sides or from none.

#pragma once

#include <memory>
#include <stop_token>
#include <utility>

#include <exeunt/base/race.hpp>
#include <exeunt/context/context.hpp>

namespace exeunt {

namespace detail {

/// Stops the standard's token when its node ends. A node has at most one, and owns it.
struct stop_on_cancel final : cancel_callback {
  stop_on_cancel() {
    call = [](cancel_callback& self) noexcept {
      race_acquire(&self);
      static_cast<stop_on_cancel&>(self).stopped.request_stop();
    };
    destroy = [](cancel_callback* self) noexcept { delete static_cast<stop_on_cancel*>(self); };
    race_release(this);
  }

  std::stop_source stopped;
};

/// Ends a node when the standard's token is stopped. Lives until the node ends, whoever ends it,
/// and is freed by that. ~stop_callback waits for a call that is running on another thread; that
/// call only cancels, and so does not wait for us.
struct cancel_on_stop final : cancel_callback {
  struct action {
    void operator()() const noexcept {
      // Copied first: the cancel frees the bridge, and this object with it.
      const ref_ptr<cancel_node> target = node;
      target->cancel(errc::canceled, errc::canceled);
    }

    ref_ptr<cancel_node> node;
  };

  cancel_on_stop(std::stop_token token, const ref_ptr<cancel_node>& node)
      : bridge{std::move(token), action{node}} {
    call = [](cancel_callback& self) noexcept {
      race_acquire(&self);
      delete static_cast<cancel_on_stop*>(&self);
    };
    race_release(this);
  }

  std::stop_callback<action> bridge;
};

}  // namespace detail

/// A token that is stopped when `ctx` ends, for code that knows only the standard's. A context that
/// can never end gives a token that cannot be stopped.
///
/// Its std::stop_callbacks run on the stack of whoever ends the context and must not block.
/// Throws: std::bad_alloc.
/// Cost:   one allocation for each context that can end on its own, however often it is called.
[[nodiscard]] inline std::stop_token stop_token(const context& ctx) {
  detail::cancel_node* const node = detail::node_of(ctx);
  if (node == nullptr) return {};
  auto fresh = std::make_unique<detail::stop_on_cancel>();
  detail::cancel_callback* const shared = node->share_callback(fresh.get());
  if (shared == nullptr) {
    fresh->stopped.request_stop();
    return fresh->stopped.get_token();
  }
  if (shared == fresh.get()) static_cast<void>(fresh.release());
  detail::race_acquire(shared);
  std::stop_source& stopped = static_cast<detail::stop_on_cancel*>(shared)->stopped;
  // Who ended the node may not have come to it yet; err() and the token must say the same.
  if (node->canceled()) stopped.request_stop();
  return stopped.get_token();
}

/// The context would end in the same statement, and its token be stopped.
template <typename CancelFunc>
void stop_token(cancelable_context<CancelFunc>&& ctx) = delete;

/// A context below `parent` that also ends, as if cancelled, when `token` is stopped.
///
/// Throws: std::bad_alloc.
[[nodiscard]] inline with_cancel_result with_stop_token(const context& parent,
                                                        std::stop_token token) {
  auto node = detail::cancel_node::make(detail::node_of(parent));
  context ctx = detail::make_context(parent, node, "with_stop_token");
  if (token.stop_possible()) {
    // A stop that comes from here on cancels the node, maybe before the next line.
    auto made = std::make_unique<detail::cancel_on_stop>(std::move(token), node);
    if (node->add_callback(*made)) static_cast<void>(made.release());
  }
  return {std::move(ctx), cancel_func{std::move(node)}};
}
/// The parent would end in the same statement.
template <typename CancelFunc>
void with_stop_token(cancelable_context<CancelFunc>&& parent, std::stop_token token) = delete;

}  // namespace exeunt
