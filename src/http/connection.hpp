// SPDX-License-Identifier: Apache-2.0
// One connection of a server, for all of its life: small, as there may be 100 000 idle ones.

#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <exeunt/base/clock.hpp>
#include <exeunt/base/intrusive_list.hpp>
#include <exeunt/base/ref_counted.hpp>
#include <exeunt/base/spin_lock.hpp>
#include <exeunt/net/conn.hpp>
#include <exeunt/sched/cancel.hpp>
#include <exeunt/sched/timer_node.hpp>

namespace exeunt::detail {

class http_core;
class http_exchange;

/// Threads: run() is its fiber's; the rest as said.
class http_connection final : public ref_counted,
                              public list_hook<struct http_connections_tag>,
                              private timer_node {
 public:
  http_connection(ref_ptr<http_core> core, net::conn&& conn) noexcept;
  void release() const noexcept {
    if (drop()) delete this;
  }

  /// Begins to wait for the first request. Called once, by whoever accepted it.
  void begin() noexcept;
  /// Closes it if it waits without a fiber and nothing has come by now; a linger only if
  /// `lingers_too`. Threads: any.
  void expire(bool lingers_too) noexcept;
  /// Ends all its reads and writes. Threads: any.
  void cut() noexcept;

  /// "GET /never from 127.0.0.1:4242, 3.2 s" while a handler runs. Threads: any.
  [[nodiscard]] std::optional<std::string> in_flight(clock::time_point now) const;

  // For its exchange.
  [[nodiscard]] net::conn& conn() noexcept { return conn_; }
  [[nodiscard]] http_core& core() noexcept { return *core_; }
  [[nodiscard]] clock::time_point accepted_at() const noexcept { return accepted_at_; }
  void handling_began(std::string_view method, std::string_view target,
                      clock::time_point now) noexcept;
  void handling_ended() noexcept;
  void something_came() noexcept;
  void begins_to_wait_for_head() noexcept;
  /// Counts it as half a head if the stop has ended the wait, and nobody has counted it before.
  void ended_to_wait_for_head(bool by_stop) noexcept;
  /// Ends its fiber's reads at `when`. Nothing is done if that is set already: each change costs
  /// the next wait a vain look, so a limit that has served its purpose stays where it is.
  void limit_reading(clock::time_point when) noexcept {
    if (std::exchange(reading_limit_, when) != when) conn_.set_read_deadline(when);
  }
  [[nodiscard]] clock::time_point reading_limit() const noexcept { return reading_limit_; }
  /// Counts bytes that were passed over since the last head, whatever fibers saw them.
  std::size_t passed_over(std::size_t bytes) noexcept { return passed_over_ += bytes; }
  void passed_head() noexcept { passed_over_ = 0; }
  /// Cancels `node` when the client goes away, until unwatch(). Nobody may read meanwhile.
  void watch(ref_ptr<cancel_node> node);
  /// Returns: true if something came meanwhile, so that the next read must not wait for news.
  [[nodiscard]] bool unwatch() noexcept;

 private:
  enum class stage : std::uint8_t {
    fresh,      ///< no fiber; nothing was received yet
    idle,       ///< no fiber; between requests
    lingering,  ///< no fiber; the last response is out
    looking,    ///< a fiber looks whether a request came; was fresh or idle
    active,     ///< a fiber reads or ends it
    handling,   ///< a fiber runs a handler or sends its response
  };
  [[nodiscard]] static bool is_parked(stage s) noexcept { return s <= stage::lingering; }

  void run() noexcept;
  void run_exchange(stage before, bool last_call) noexcept;
  void park(stage as, clock::time_point until) noexcept;
  void linger() noexcept;
  void discard(bool last_call) noexcept;
  void end() noexcept;
  void count_idle() noexcept;
  void start() noexcept;
  void expire_if_due() noexcept;
  bool take_back_start() noexcept;
  void watch_fired(const ref_ptr<cancel_node>& node) noexcept;
  static clock::time_point on_fire(timer_node& self, clock::time_point now) noexcept;

  ~http_connection();

  const ref_ptr<http_core> core_;
  net::conn conn_;
  const clock::time_point accepted_at_;
  bool was_used_ = false;  // Its fiber's, as the next: something of a request was received.
  std::size_t passed_over_ = 0;
  clock::time_point reading_limit_ = no_deadline;

  mutable spin_lock lock_;
  stage stage_ = stage::active;
  bool last_call_ = false;  // The next run closes unless there is something to read.
  bool half_head_ = false;  // Waits for the rest of one.
  bool counted_ = false;    // As ended by the stop.
  bool watching_ = false;   // Its fiber's.
  bool unwatched_ = false;
  bool watch_over_ = false;
  bool watch_saw_ = false;  // Something came.
  waiter* unwatching_ = nullptr;
  clock::time_point expires_ = no_deadline;    // Of a parked stage.
  clock::time_point scheduled_ = no_deadline;  // When the timer fires at the latest.
  clock::time_point handling_since_{};
  std::string_view method_;  // While handling: views into the exchange's buffer.
  std::string_view target_;
};

}  // namespace exeunt::detail
