// SPDX-License-Identifier: Apache-2.0
// What a server handle stands for. Its connections keep it, so that handlers that outlive a stop
// still find it.

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <exeunt/base/atomic.hpp>
#include <exeunt/base/clock.hpp>
#include <exeunt/base/intrusive_list.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/context/completion.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/http/server.hpp>
#include <exeunt/net/listener.hpp>
#include <exeunt/sched/cancel.hpp>
#include <exeunt/sync/mutex.hpp>
#include <exeunt/sync/pool.hpp>

#include "http/connection.hpp"
#include "http/exchange.hpp"

namespace exeunt::detail {

class http_exchange;

/// Of options that are limits: zero is none.
constexpr clock::time_point limit_from(clock::time_point start, clock::duration d) noexcept {
  return d <= clock::duration::zero() ? no_deadline : deadline_after(start, d);
}

/// Threads: all members, any.
class http_core final : public ref_counted {
 public:
  explicit http_core(http::config&& options);
  void release() const noexcept {
    if (drop()) delete this;
  }

  // What server offers; see there.
  [[nodiscard]] result<> listen(const context& ctx);
  [[nodiscard]] net::address address();
  [[nodiscard]] result<> serve(const context& ctx);
  result<> shutdown(const context& ctx);
  void close() noexcept;
  void on_shutdown(unique_function<void()> f);
  [[nodiscard]] std::vector<std::string> in_flight();
  [[nodiscard]] std::size_t connections() noexcept;

  const http::config options;
  atomic<std::uint64_t> panics{0};

  /// The stop has begun.
  [[nodiscard]] bool stopping() const noexcept {
    return stopping_.load(memory_order_acquire);  // order: see stop().
  }
  /// The door is closed: responses say that the connection ends.
  [[nodiscard]] bool closing() const noexcept {
    return closing_.load(memory_order_acquire);  // order: see stop().
  }
  /// The time of idle connections is over.
  [[nodiscard]] bool drained() const noexcept {
    return drained_.load(memory_order_acquire);  // order: see stop().
  }

  /// Ends when heads have no more time to complete.
  [[nodiscard]] const context& heads() const noexcept { return heads_; }
  /// A context for one request, and the node that ends it.
  [[nodiscard]] context make_request_context(const ref_ptr<cancel_node>& node) const;
  [[nodiscard]] ref_ptr<cancel_node> make_request_node() const;

  /// What the user's sink throws is reported, and the line given to exeunt::log_line().
  void log(std::string_view text) const noexcept;

  // For connections.
  void remove(http_connection& connection) noexcept;
  /// What a connection needs while it is not idle. Throws: std::bad_alloc.
  [[nodiscard]] pooled<http_exchange> take_exchange();
  /// How a parked or half-read connection was ended by the stop, for the last log line.
  void count_idle() noexcept { idle_ended_.fetch_add(1, memory_order_relaxed); }
  void count_half_head() noexcept { heads_ended_.fetch_add(1, memory_order_relaxed); }

 private:
  enum class phase : std::uint8_t { fresh, serving, ended };
  using connection_list = intrusive_list<http_connection, http_connections_tag>;

  ~http_core();

  result<> accept_until(const context& end);
  [[nodiscard]] bool wait_for_room(const context& end);
  void admit(net::conn&& conn) noexcept;
  result<> stop(result<> accepted);
  void keep_out();
  [[nodiscard]] std::optional<error> take_in();
  [[nodiscard]] std::optional<error> close_door(clock::time_point until);
  [[nodiscard]] std::optional<error> wait_at_door(std::optional<error> shortage,
                                                  clock::time_point until, bool while_some_leave);
  [[nodiscard]] bool wait_until_empty(clock::time_point until);
  [[nodiscard]] std::vector<ref_ptr<http_connection>> all_connections();
  result<> cut_the_rest();
  void abandon() noexcept;

  mutex binding_;           // Held while binding, which may take a look-up's time.
  net::listener listener_;  // Set under lock_ with bound_, before phase `serving`; then it stays.
  clock::time_point sweep_until_ = no_deadline;  // The stop's; see take_in().

  spin_lock lock_;
  phase phase_ = phase::fresh;
  bool bound_ = false;
  ref_ptr<cancel_node> look_up_;  // Ends the one that binds.
  connection_list connections_;
  std::size_t connection_count_ = 0;
  ref_ptr<completion> room_;  // While newcomers wait for there to be some.
  bool awaits_empty_ = false;
  ref_ptr<completion> empty_;
  std::vector<unique_function<void()>> hooks_;

  atomic<bool> stopping_{false};
  atomic<bool> closing_{false};
  atomic<bool> drained_{false};
  atomic<bool> closed_{false};           // By close(), not by a stop.
  atomic<std::uint64_t> idle_ended_{0};  // order: relaxed; read once nobody is left.
  atomic<std::uint64_t> heads_ended_{0};

  ref_ptr<cancel_node> stop_;         // Below the context of serve(); set under lock_.
  const ref_ptr<cancel_node> force_;  // Ends the wait of a stop: all is cut.
  const ref_ptr<cancel_node> heads_node_;
  const ref_ptr<cancel_node> requests_;  // Above the nodes of all requests.
  const context heads_;
  std::optional<context> values_;     // Of the context of serve(). Set before phase `serving`.
  const ref_ptr<completion> served_;  // serve() is over; then outcome_ is fixed.
  result<> outcome_;
  pool<http_exchange> exchanges_;
};

}  // namespace exeunt::detail
