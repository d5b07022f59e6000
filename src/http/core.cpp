// SPDX-License-Identifier: Apache-2.0
// Accepting, and the stop: the door, the drain, the bound.
//
// Invariants, whenever lock_ is free:
//   I1  connection_count_ is the length of connections_; a connection in the list has a reference
//       of its own fiber or of its pending start.
//   I2  Once closing_ is set and the door is closed, connections_ only shrinks.
//   I3  The flags turn true once, in the order stopping_, closing_, drained_.
//   I4  phase_ only grows; outcome_ is fixed before served_ completes.
// The last connection to leave completes empty_, for which the stop waits. Only the door is looked
// at in steps, while handshakes are under way or descriptors are wanted: nobody tells of either.
// Locks: binding_ (parks) before lock_; nothing that parks is called under lock_.
// Wake-ups: remove() completes empty_ and room_ after unlocking. close() and shutdown() end stop_
//   and force_, close() also look_up_.
// Tests: tests/http/drain_test.cpp (I2, I3), server_test.cpp, listen_test.cpp, simulated_test.cpp.

#include "http/core.hpp"

#include <algorithm>
#include <utility>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/log.hpp>
#include <exeunt/os/signal.hpp>
#include <exeunt/sched/boundary.hpp>
#include <exeunt/sched/go.hpp>

#include "http/exchange.hpp"
#include "http/guarded.hpp"

namespace exeunt::detail {

namespace {

// From the filter to the first look, for a SYN that another CPU has let past it just before.
constexpr clock::duration door_pause = std::chrono::milliseconds{1};
// How long the door stays open for handshakes whose last word has not come: a round trip around
// the world.
constexpr clock::duration door_limit = std::chrono::milliseconds{300};
// Between two looks at what nobody tells of. Who completes a handshake ends the first.
constexpr clock::duration handshake_step = std::chrono::milliseconds{10};
constexpr clock::duration shortage_step = std::chrono::milliseconds{5};
// After the cut, for handlers that obey their contexts.
constexpr clock::duration cut_grace = std::chrono::milliseconds{100};

// Unlocks what its maker has locked.
class unlocking {
 public:
  explicit unlocking(mutex& m) noexcept : m_{m} {}
  ~unlocking() { m_.unlock(); }
  unlocking(const unlocking&) = delete;
  unlocking& operator=(const unlocking&) = delete;

 private:
  mutex& m_;
};

std::string counted(std::size_t count, std::string_view what) {
  std::string text = std::to_string(count);
  text.append(" ").append(what);
  if (count != 1) text.append("s");
  return text;
}

// At once for less than nothing.
clock::time_point later(clock::time_point from, clock::duration d) noexcept {
  return deadline_after(from, std::max(d, clock::duration::zero()));
}

}  // namespace

http_core::http_core(http::config&& given)
    : options{std::move(given)},
      empty_{ref_ptr<completion>::adopt(new completion)},
      force_{cancel_node::make(nullptr)},
      heads_node_{cancel_node::make(nullptr)},
      requests_{cancel_node::make(nullptr)},
      heads_{make_context(context::background(), heads_node_, "http::server heads")},
      served_{ref_ptr<completion>::adopt(new completion)},
      exchanges_{{.make = [this] { return http_exchange{*this}; }, .limits = options.spare}} {
  EXEUNT_ASSERT(static_cast<bool>(options.handler), "an http::server needs a handler");
}

http_core::~http_core() = default;

void http_core::log(std::string_view text) const noexcept {
  const auto thrown = call_caught([&] {
    std::string line = options.name;
    line.append(": ").append(text);
    if (options.log) {
      if (const auto by_sink = call_caught([&] { options.log(line); })) {
        report_panic(*by_sink);
      } else {
        return;
      }
    }
    log_line(line);
  });
  if (thrown) report_panic(*thrown);
}

// ---- Accepting.

result<> http_core::listen(const context& ctx) {
  if (!binding_.try_lock()) {
    if (auto turn = binding_.lock(ctx); !turn) return turn;
  }
  const unlocking binding{binding_};
  const auto look_up = cancel_node::make(node_of(ctx));
  {
    const ordered_guard guard{lock_};
    if (bound_) return {};
    if (closed_.load(memory_order_relaxed)) return fail(errc::closed, "http server");
    look_up_ = look_up;
  }
  auto bound = net::listen(make_context(ctx, look_up, "http::server listen"), options.address);
  look_up->detach();
  bool was_closed = false;
  {
    // Under one lock with close(): one of the two closes what was bound.
    const ordered_guard guard{lock_};
    look_up_ = nullptr;  // Never the last reference.
    was_closed = closed_.load(memory_order_relaxed);
    if (bound && !was_closed) {
      listener_ = std::move(*bound);
      bound_ = true;
    }
  }
  if (was_closed) return fail(errc::closed, "http server");
  if (!bound) return fail(bound.error());
  log("listening on " + listener_.local_address().to_string());
  return {};
}

net::address http_core::address() {
  {
    const ordered_guard guard{lock_};
    if (!bound_) return {};
  }
  return listener_.local_address();
}

void http_core::admit(net::conn&& conn) noexcept {
  ref_ptr<http_connection> connection;
  const auto thrown = call_caught([&] {
    connection = ref_ptr<http_connection>::adopt(
        new http_connection{ref_ptr<http_core>::share(this), std::move(conn)});
  });
  if (thrown) {
    log("a client is lost: " + thrown->message());
    return;
  }
  {
    const ordered_guard guard{lock_};
    connections_.push_back(*connection);
    ++connection_count_;
  }
  connection->begin();
}

// Returns: whether there is room for one connection more; if not, `end` has ended.
bool http_core::wait_for_room(const context& end) {
  const auto is_full = [this] {
    return options.max_connections > 0 && connection_count_ >= options.max_connections;
  };
  while (true) {
    {
      const ordered_guard guard{lock_};
      if (!is_full()) return true;
    }
    const auto room = ref_ptr<completion>::adopt(new completion);
    {
      const ordered_guard guard{lock_};
      if (!is_full()) return true;
      room_ = room;
    }
    if (!room->wait(wait_reason::io_accept, node_of(end))) return false;
  }
}

// Returns: success when `end` has ended, or the listener was closed.
result<> http_core::accept_until(const context& end) {
  while (true) {
    if (!wait_for_room(end)) return {};
    auto conn = listener_.accept(end);
    if (conn) {
      admit(std::move(*conn));
    } else if (end.err() || conn.error().is(errc::closed)) {
      return {};
    } else {
      return fail(conn.error());
    }
  }
}

result<> http_core::serve(const context& ctx) {
  const auto self = ref_ptr<http_core>::share(this);
  if (auto bound = listen(ctx); !bound) return bound;
  const auto until_stopped = cancel_node::make(node_of(ctx));
  context values = make_context(without_cancel(ctx), requests_, "http::server");
  {
    const ordered_guard guard{lock_};
    if (phase_ != phase::fresh) return fail(errc::closed, "http server");
    phase_ = phase::serving;
    stop_ = until_stopped;
    values_.emplace(std::move(values));
  }
  // From here on somebody may wait for served_, so nothing may leave but by its completion.
  std::optional<result<>> outcome;
  call_into(outcome, [&] {
    const exit_reporter in_flight_report{[this] {
      std::string text;
      for (const std::string& name : in_flight()) {
        text.append(options.name).append(": ").append(name).append("\n");
      }
      return text;
    }};
    std::optional<result<>> accepted;
    call_into(accepted,
              [&] { return accept_until(make_context(ctx, until_stopped, "http::server")); });
    return stop(std::move(*accepted));
  });
  outcome_ = std::move(*outcome);
  if (!outcome_ && outcome_.error().is(errc::panic)) abandon();
  until_stopped->detach();
  {
    const ordered_guard guard{lock_};
    phase_ = phase::ended;
  }
  served_->complete();
  return outcome_;
}

// ---- Stopping.

result<> http_core::stop(result<> accepted) {
  const clock::time_point began = clock::now();
  const clock::time_point bound = later(began, options.shutdown_timeout);
  std::vector<unique_function<void()>> hooks;
  {
    const ordered_guard guard{lock_};
    stopping_.store(true, memory_order_release);  // order: publishes nothing but itself.
    hooks.swap(hooks_);
  }
  for (unique_function<void()>& hook : hooks) {
    start_fiber({.name = "http on_shutdown"}, std::move(hook));
  }
  if (accepted && options.drain_delay > clock::duration::zero()) {
    const clock::time_point until = std::min(later(began, options.drain_delay), bound);
    accepted = accept_until(make_context(
        context::background(), cancel_node::make(force_.get(), until, errc::deadline_exceeded),
        "http::server drain_delay"));
  }

  closing_.store(true, memory_order_release);  // order: publishes nothing but itself.
  log("draining (" + counted(in_flight().size(), "request") + ")");
  const clock::time_point drain_end = std::min(later(clock::now(), options.drain), bound);
  keep_out();
  std::optional<error> shortage = close_door(std::min(later(clock::now(), door_limit), drain_end));
  if (shortage) {
    log("clients wait at the door: " + shortage->message());
    // Each connection that ends makes room for one of them.
    shortage = wait_at_door(std::move(shortage), drain_end, false);
  }
  result<> drained;
  if (shortage || !wait_until_empty(drain_end)) {
    drained_.store(true, memory_order_release);  // order: before the look at each connection.
    heads_node_->cancel(errc::deadline_exceeded, errc::shutting_down);
    for (const auto& connection : all_connections()) connection->expire(false);
    if (shortage) shortage = wait_at_door(std::move(shortage), bound, true);
    const std::size_t lost = listener_.waiting();
    listener_.close();
    if (shortage && lost > 0) {
      drained = fail(shortage->wrap(counted(lost, "client") + " lost at the door"));
    }
    if (!wait_until_empty(bound)) {
      const result<> cut = cut_the_rest();
      if (!cut) drained = drained ? cut : fail(join(cut.error(), drained.error()));
    }
  }

  std::string text = "stopped";
  const std::uint64_t idle = idle_ended_.load(memory_order_relaxed);
  const std::uint64_t heads = heads_ended_.load(memory_order_relaxed);
  if (idle + heads > 0) {
    text.append("; closed ").append(counted(idle, "idle connection")).append(" and ");
    text.append(counted(heads, "connection")).append(" with half a head");
  }
  if (!drained) text.append("; ").append(drained.error().message());
  log(text);
  if (closed_.load()) return fail(errc::closed, "http server");
  if (!accepted) return drained ? accepted : fail(join(accepted.error(), drained.error()));
  return drained;
}

void http_core::keep_out() {
  const auto out = listener_.stop_incoming();
  if (!out && !out.error().is(errc::closed)) {
    log("newcomers cannot be kept out: " + out.error().message());
    sweep_until_ = later(clock::now(), door_limit);
  }
  exeunt::sleep(door_pause);
}

// Takes in who waits. If newcomers cannot be kept out, that has an end only by the clock.
//
// Returns: what the system is short of, if that is why somebody still waits.
std::optional<error> http_core::take_in() {
  while (true) {
    auto conn = listener_.accept_now();
    if (!conn) {
      if (conn.error().is(errc::closed)) return std::nullopt;
      return conn.error();
    }
    if (!*conn) return std::nullopt;
    admit(std::move(**conn));
    if (sweep_until_ != no_deadline && clock::now() >= sweep_until_) return std::nullopt;
  }
}

// Takes in who waits and whose handshake is under way, then closes the listener.
//
// Returns: as take_in(), with the listener still open.
std::optional<error> http_core::close_door(clock::time_point until) {
  std::size_t unfinished = 0;
  while (true) {
    // Before the look into the queue: who leaves the one for the other in between is seen there.
    const auto under_way = listener_.handshakes();
    if (auto shortage = take_in()) return shortage;
    // Asking takes a descriptor; without one, some may be under way.
    unfinished = under_way.value_or(
        under_way || !under_way.error().is(std::errc::too_many_files_open) ? 0 : 1);
    if (unfinished == 0 || force_->canceled() || clock::now() >= until) break;
    const clock::time_point step = std::min(later(clock::now(), handshake_step), until);
    auto conn = listener_.accept(make_context(
        context::background(), cancel_node::make(force_.get(), step, errc::deadline_exceeded),
        "http::server door"));
    if (conn) admit(std::move(*conn));
  }
  if (unfinished > 0) log(counted(unfinished, "handshake") + " did not complete in time");
  listener_.close();
  return std::nullopt;
}

// Goes on trying until a shortage is over. `while_some_leave`: gives up when no connection of ours
// is left that could make room.
//
// Returns: as close_door().
std::optional<error> http_core::wait_at_door(std::optional<error> shortage, clock::time_point until,
                                             bool while_some_leave) {
  while (shortage) {
    const bool last =
        clock::now() >= until || force_->canceled() || (while_some_leave && connections() == 0);
    shortage = close_door(std::min(later(clock::now(), door_limit), until));
    if (last || !shortage) return shortage;
    const auto pause = cancel_node::make(
        force_.get(), std::min(later(clock::now(), shortage_step), until), errc::deadline_exceeded);
    pause->wait(wait_reason::drain);
  }
  return shortage;
}

bool http_core::wait_until_empty(clock::time_point until) {
  {
    const ordered_guard guard{lock_};
    if (connection_count_ == 0) return true;
    awaits_empty_ = true;
  }
  const auto patience = cancel_node::make(force_.get(), until, errc::deadline_exceeded);
  return empty_->wait(wait_reason::drain, patience.get());
}

result<> http_core::cut_the_rest() {
  const std::vector<std::string> names = in_flight();
  requests_->cancel(errc::canceled, error{errc::shutting_down, "the stop has reached its bound"});
  for (const auto& connection : all_connections()) connection->cut();
  const auto grace = cancel_node::make(nullptr, deadline_after(cut_grace), errc::deadline_exceeded);
  static_cast<void>(empty_->wait(wait_reason::drain, grace.get()));
  if (names.empty()) return {};
  std::string text = counted(names.size(), "request") + " cut: ";
  for (std::size_t i = 0; i < names.size(); ++i) text.append(i == 0 ? "" : "; ").append(names[i]);
  return fail(error{errc::deadline_exceeded, std::move(text)}.wrap("stop of " + options.name));
}

// After a stop that could not be gone through for want of memory.
void http_core::abandon() noexcept {
  listener_.close();
  requests_->cancel(errc::canceled, errc::shutting_down);
  const auto thrown = call_caught([this] {
    for (const auto& connection : all_connections()) connection->cut();
  });
  if (thrown) report_panic(*thrown);
}

result<> http_core::shutdown(const context& ctx) {
  const auto self = ref_ptr<http_core>::share(this);
  ref_ptr<cancel_node> until_stopped;
  {
    const ordered_guard guard{lock_};
    if (phase_ == phase::serving) until_stopped = stop_;
    if (phase_ == phase::fresh) phase_ = phase::ended;
  }
  if (!until_stopped) {
    if (served_->done()) return outcome_;
    close();
    return {};
  }
  until_stopped->cancel(errc::canceled, errc::shutting_down);
  if (!served_->wait(wait_reason::drain, node_of(ctx))) {
    force_->cancel(errc::canceled, errc::shutting_down);
    static_cast<void>(served_->wait(wait_reason::drain));
  }
  return outcome_;
}

void http_core::close() noexcept {
  ref_ptr<cancel_node> until_stopped;
  ref_ptr<cancel_node> look_up;
  bool bound = false;
  {
    const ordered_guard guard{lock_};
    closed_.store(true);
    if (phase_ == phase::fresh) phase_ = phase::ended;
    until_stopped = stop_;
    look_up = look_up_;
    bound = bound_;
  }
  force_->cancel(errc::canceled, errc::closed);
  if (until_stopped) until_stopped->cancel(errc::canceled, errc::closed);
  if (look_up) look_up->cancel(errc::canceled, errc::closed);
  if (bound) listener_.close();
}

void http_core::on_shutdown(unique_function<void()> f) {
  {
    const ordered_guard guard{lock_};
    if (!stopping()) {
      hooks_.push_back(std::move(f));
      return;
    }
  }
  start_fiber({.name = "http on_shutdown"}, std::move(f));
}

// ---- Connections.

void http_core::remove(http_connection& connection) noexcept {
  bool was_last = false;
  ref_ptr<completion> room;
  {
    const ordered_guard guard{lock_};
    connection_list::remove(connection);
    --connection_count_;
    room = std::move(room_);
    was_last = awaits_empty_ && connection_count_ == 0;
  }
  if (room) room->complete();
  if (was_last) empty_->complete();
}

std::vector<ref_ptr<http_connection>> http_core::all_connections() {
  std::vector<ref_ptr<http_connection>> all;
  std::size_t expected = connections();
  while (true) {
    // Memory is got without the lock; one more round if there were more by then.
    all.reserve(expected);
    const ordered_guard guard{lock_};
    if (connection_count_ > all.capacity()) {
      expected = connection_count_;
      continue;
    }
    for (http_connection* c = connections_.front(); c != nullptr; c = connections_.next(*c)) {
      all.push_back(ref_ptr<http_connection>::share(c));
    }
    return all;
  }
}

std::vector<std::string> http_core::in_flight() {
  std::vector<std::string> names;
  const clock::time_point now = clock::now();
  for (const auto& connection : all_connections()) {
    if (auto name = connection->in_flight(now)) names.push_back(std::move(*name));
  }
  return names;
}

std::size_t http_core::connections() noexcept {
  const ordered_guard guard{lock_};
  return connection_count_;
}

ref_ptr<cancel_node> http_core::make_request_node() const {
  return cancel_node::make(requests_.get());
}

context http_core::make_request_context(const ref_ptr<cancel_node>& node) const {
  return make_context(*values_, node, "http::request");
}

pooled<http_exchange> http_core::take_exchange() { return exchanges_.get(); }

}  // namespace exeunt::detail
