// SPDX-License-Identifier: Apache-2.0
// One active connection: reading requests, calling the handler, and what comes after. The request's
// body and the response are in files of their own.
//
// Invariants:
//   I1  begin_ <= end_ <= capacity_. While a handler runs, bytes before body_base_ stay.
//   I2  The parser has seen all that is consumed and nothing else, so what it says of the message's
//       end is about begin_.
//   I3  mode_ is undecided exactly while no head has been sent.
//   I4  Nothing is sent after a write has failed.
// The buffer holds a whole head and a little more, so it never grows: a head that does not fit has
// been refused by the parser before.
// Locks: none; all of it belongs to the connection's fiber.
// Wake-ups: none of its own; net's.
// Tests: tests/http/server_test.cpp, body_test.cpp, response_test.cpp, drain_test.cpp.

#include "http/exchange.hpp"

#include <algorithm>
#include <cstring>

#include <exeunt/base/assert.hpp>
#include <exeunt/sched/boundary.hpp>

#include "http/connection.hpp"
#include "http/core.hpp"
#include "net/socket.hpp"

namespace exeunt::detail {

using http1::event;
using net::const_buffer;

namespace {

// Behind a head of the largest size there is still room for this much of its body, or of the empty
// lines before it.
constexpr std::size_t spare_bytes = 4096;
// Kept for the next response.
constexpr std::size_t keep_bytes = std::size_t{64} * 1024;

http1::limits limits_of(const http::config& options) noexcept {
  return {.head_bytes = options.header_limit,
          .target_bytes = std::max<std::uint32_t>(options.header_limit / 2, 1),
          .fields = options.max_header_fields,
          .trailer_bytes = std::min<std::uint32_t>(options.header_limit, 8 * 1024),
          .body_bytes = options.body_limit};
}

int status_of(const error& why) noexcept {
  if (why.is(errc::malformed)) return 400;
  if (why.is(errc::limit_exceeded)) return 413;
  if (why.is(errc::deadline_exceeded) || why.is(errc::shutting_down)) return 503;
  return 500;
}

}  // namespace

http_exchange::http_exchange(http_core& core)
    : core_{core},
      buffer_{new char[core.options.header_limit + spare_bytes]},
      capacity_{core.options.header_limit + spare_bytes},
      slots_(std::max<std::size_t>(core.options.max_header_fields, 1)),
      parser_{slots_, limits_of(core.options)} {}

// ---- Between requests.

http_exchange::next http_exchange::run(http_connection& connection, bool is_new) {
  connection_ = &connection;
  begin_ = end_ = 0;
  parser_ = http1::request_parser{slots_, limits_of(core_.options)};
  close_after_ = probe_ = false;
  // On a new connection the time for the first head began when it was accepted.
  head_began_ = is_new ? connection.accepted_at() : no_deadline;

  switch (try_fill()) {
    case came::nothing:
      return next::nothing_came;
    case came::end:
      return next::close;
    case came::bytes:
      break;
  }
  connection.something_came();
  next quiet = next::nothing_came;
  while (true) {
    const http1::step step = parser_.parse(unread());
    consume(step.consumed);
    switch (step.what) {
      case event::head: {
        if (needs_to_move(step.consumed)) break;
        connection.passed_head();
        const next then = handle();
        if (then != next::idle) return then;
        head_began_ = no_deadline;
        quiet = next::idle;
        break;
      }
      case event::need_more:
        // What is consumed without a head are the empty lines before it.
        if (connection.passed_over(step.consumed) > core_.options.header_limit) {
          return refuse(400, "too many empty lines");
        }
        if (begin_ == end_) {
          // Only a watch can have seen bytes come that nobody was told of.
          if (!std::exchange(probe_, false)) return quiet;
          switch (try_fill()) {
            case came::nothing:
              return quiet;
            case came::end:
              return next::close;
            case came::bytes:
              break;
          }
        } else if (auto over = read_more_of_head()) {
          return *over;
        }
        break;
      case event::error:
        return refuse(step.error.status, step.error.reason);
      case event::end:
      case event::body:
        break;  // Of a body that was dropped.
    }
  }
}

// Moves what is unread to where there is most room behind it.
void http_exchange::make_room() noexcept {
  const std::size_t base = body_base_;
  if (begin_ == end_) {
    begin_ = end_ = base;
  } else if (end_ == capacity_ && begin_ > base) {
    std::memmove(buffer_.get() + base, buffer_.get() + begin_, end_ - begin_);
    end_ -= begin_ - base;
    begin_ = base;
  }
}

// A body needs some room behind its head. If there is too little, moves the head, of `size` bytes,
// to the front, to be parsed again.
bool http_exchange::needs_to_move(std::size_t size) noexcept {
  const std::size_t start = begin_ - size;
  if (parser_.head().body == http1::body_framing::none || start == 0 ||
      capacity_ - begin_ >= spare_bytes) {
    return false;
  }
  std::memmove(buffer_.get(), buffer_.get() + start, end_ - start);
  begin_ = 0;
  end_ -= start;
  parser_ = http1::request_parser{slots_, limits_of(core_.options)};
  return true;
}

http_exchange::came http_exchange::try_fill() {
  make_room();
  if (end_ == capacity_) return came::nothing;
  const auto count =
      connection_->conn().try_read(net::buffer{buffer_.get() + end_, capacity_ - end_});
  if (!count) return came::end;
  if (!*count) return came::nothing;
  end_ += **count;
  return **count == 0 ? came::end : came::bytes;
}

// Returns: how it goes on if not with more bytes.
std::optional<http_exchange::next> http_exchange::read_more_of_head() {
  make_room();
  if (end_ == capacity_) return refuse(431, "the head is too large");
  if (head_began_ == no_deadline) head_began_ = clock::now();
  net::conn& conn = connection_->conn();
  connection_->limit_reading(std::min(limit_from(head_began_, core_.options.read_header_timeout),
                                      limit_from(head_began_, core_.options.read_timeout)));
  connection_->begins_to_wait_for_head();
  const auto count = conn.read(core_.heads(), net::buffer{buffer_.get() + end_, capacity_ - end_});
  connection_->ended_to_wait_for_head(
      !count && core_.drained() &&
      (count.error().is(errc::deadline_exceeded) || count.error().is(errc::canceled)));
  if (!count) {
    const error& why = count.error();
    if (why.is(errc::closed)) return next::close;
    if (why.is(errc::deadline_exceeded) || why.is(errc::canceled)) {
      return refuse(408, "the head did not come in time");
    }
    return next::close;
  }
  if (*count == 0) return refuse(400, "the request ended early");
  end_ += *count;
  return std::nullopt;
}

http_exchange::next http_exchange::refuse(int status, std::string_view reason) {
  char text[http1::error_response_bytes];
  started_ = clock::now();
  const auto size = http1::write_error_response(text, status, reason, date(started_));
  EXEUNT_ASSERT(size.has_value(), "reasons of refusals are short");
  status_ = status;
  write_error_.reset();
  const const_buffer whole{text, *size};
  static_cast<void>(send({&whole, 1}));
  record(0);
  return next::linger;
}

// ---- One request.

void http_exchange::reset_request() {
  path_values_.clear();
  body_error_.reset();
  body_error_status_ = 0;
  continued_ = !head().expects_continue;
  status_ = 200;
  mode_ = mode::undecided;
  begun_ = close_ = false;
  keep_alive_ = head().keep_alive;
  declared_.reset();
  body_bytes_ = 0;
  default_type_ = {};
  field_text_.clear();
  fields_.clear();
  if (body_.capacity() > keep_bytes) {
    body_ = std::string{};
  } else {
    body_.clear();
  }
  body_view_ = {};
  write_error_.reset();
}

http_exchange::next http_exchange::handle() {
  started_ = clock::now();
  body_base_ = begin_;
  reset_request();
  net::conn& conn = connection_->conn();
  const bool limits_writing = core_.options.write_timeout > clock::duration::zero();
  if (limits_writing) {
    conn.set_write_deadline(limit_from(started_, core_.options.write_timeout));
  }

  const http1::request_head& head = parser_.head();
  // Without a body the end of the message is there already.
  body_ended_ = head.body != http1::body_framing::chunked && head.content_length == 0;
  if (body_ended_) {
    const http1::step end = parser_.parse({});
    EXEUNT_ASSERT(end.what == event::end);
  }
  connection_->handling_began(head.method, head.target, started_);

  if (head.expects_other) {
    set_error(417, {});
    close_after_ = true;
  } else if (head.method == "CONNECT") {
    // Who is told yes sends bytes that are no requests, and there is nobody to read them.
    set_error(501, {});
    close_after_ = true;
  } else if (head.form == http1::target_form::asterisk) {
    // Asks about the server as a whole: 200 without a body.
  } else {
    call_handler();
  }
  const next then = finish();
  if (limits_writing && then == next::idle) conn.set_write_deadline(no_deadline);
  body_base_ = 0;
  return then;
}

void http_exchange::call_handler() {
  http::request req{*this};
  http::response res{*this};
  result<> outcome;
  const std::optional<error> thrown =
      call_caught([&] { outcome = core_.options.handler(req, res); });
  if (connection_->unwatch()) probe_ = true;
  if (thrown) {
    core_.panics.fetch_add(1, memory_order_relaxed);  // order: relaxed; a count.
    const auto name = connection_->in_flight(clock::now());
    report_panic(thrown->wrap(core_.options.name + ": " + name.value_or("request")));
    set_error(500, {});
    close_after_ = true;
  } else if (!outcome) {
    answer_failure(outcome.error());
  }
  if (node_) {
    node_->cancel(errc::canceled, errc::canceled);
    context_.reset();
    node_ = nullptr;
  }
}

void http_exchange::answer_failure(const error& why) {
  int status = status_of(why);
  if (body_error_) {
    // The client's doing, whatever the handler made of it.
    close_after_ = true;
    if (body_error_status_ != 0) status = body_error_status_;
  }
  if (status == 500 && !write_error_) {
    const auto name = connection_->in_flight(clock::now());
    core_.log(name.value_or("request") + ": " + why.message());
  }
  if (begun_) close_after_ = true;
  set_error(status, {});
}

// Sends what is still to be sent, and finds out how the connection goes on.
http_exchange::next http_exchange::finish() {
  if (!begun_) {
    static_cast<void>(settle_body());
    const std::string_view whole = body_view_.data() != nullptr ? body_view_ : body_;
    if (!is_head_request() && declared_ && *declared_ != whole.size() && !has_no_body()) {
      core_.log("a response announced " + std::to_string(*declared_) + " bytes and had " +
                std::to_string(whole.size()));
      set_error(500, {});
      declared_.reset();
      close_after_ = true;
      return finish();
    }
    body_bytes_ = whole.size();
    if (status_ == 204 || status_ == 205 || status_ == 304) {
      static_cast<void>(send_head(mode::no_body, 0, {}));
    } else if (is_head_request()) {
      static_cast<void>(send_head(mode::whole, declared_.value_or(whole.size()), {}));
    } else {
      const const_buffer part{whole};
      static_cast<void>(send_head(mode::whole, whole.size(), {&part, 1}));
    }
  } else if (!close_after_) {
    static_cast<void>(send_pieces({}));
    if (mode_ == mode::chunked && !write_error_) {
      const const_buffer last{http1::last_chunk};
      static_cast<void>(send({&last, 1}));
    }
    if (mode_ == mode::length && body_bytes_ != declared_) close_after_ = true;
    if (!settle_body()) close_after_ = true;
  } else if (mode_ == mode::until_close) {
    // Only a reset tells the client that this is not the end of the body.
    connection_->conn().abort();
  }
  record(body_bytes_);
  connection_->handling_ended();  // It is answered, whatever its body still does.

  if (write_error_) return next::close;
  if (close_after_ && begun_ && (mode_ == mode::chunked || mode_ == mode::length)) {
    return next::linger;  // The body stays incomplete, as the client will see.
  }
  if (!keep_alive_ || close_after_) {
    // To a client that asked for the end and has everything, nothing can be lost by whatever may
    // still come.
    const bool agreed = !head().keep_alive && body_ended_ && begin_ == end_ &&
                        net::has_all(connection_->conn().native_handle());
    return agreed ? next::close : next::linger;
  }
  return discard_body() ? next::idle : next::linger;
}

void http_exchange::record(std::uint64_t bytes) {
  if (!core_.options.access_log) return;
  const http::access_record done{.method = head().method,
                                 .target = head().target,
                                 .status = status_,
                                 .body_bytes = bytes,
                                 .took = clock::now() - started_,
                                 .remote = &connection_->conn().remote_address()};
  if (const auto thrown = call_caught([&] { core_.options.access_log(done); })) {
    report_panic(*thrown);
  }
}

}  // namespace exeunt::detail
