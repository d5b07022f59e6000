// SPDX-License-Identifier: Apache-2.0
// One active connection: reading requests, calling the handler, writing responses.
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
// Of a body, read and dropped to keep the connection; Go's figure.
constexpr std::size_t discard_limit = std::size_t{256} * 1024;
// What a response gathers before it is streamed.
constexpr std::size_t gather_bytes = std::size_t{16} * 1024;
// Kept for the next response.
constexpr std::size_t keep_bytes = std::size_t{64} * 1024;
constexpr std::size_t short_head_bytes = 1024;

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

// ---- The request's body.

result<std::size_t> http_exchange::fail_body(error why) {
  body_error_ = why;
  return fail(std::move(why));
}

// Reads some of the body, within the time of the whole request and that of a pause. The second one
// moves with each read, and moving the connection's deadline has its price: so an earlier one that
// is set already stays, and is looked at when it ends a read.
result<std::size_t> http_exchange::wait_for_body(net::buffer room) {
  const clock::time_point from = head_began_ == no_deadline ? started_ : head_began_;
  clock::time_point now = clock::now();
  const clock::time_point until = std::min(limit_from(from, core_.options.read_timeout),
                                           limit_from(now, core_.options.body_idle_timeout));
  const clock::time_point set = connection_->reading_limit();
  if (set <= now || set > until) connection_->limit_reading(until);
  while (true) {
    auto count = connection_->conn().read(room);
    if (count || !count.error().is(errc::deadline_exceeded)) return count;
    now = clock::now();
    if (now >= until) return count;
    connection_->limit_reading(until);
  }
}

// Nobody reads any more, so the client can be watched.
void http_exchange::end_body() noexcept {
  body_ended_ = true;
  if (node_) connection_->watch(node_);
}

// Who has read a body of known length to its last byte need not ask for its end, too.
void http_exchange::end_body_if_read() noexcept {
  if (parser_.head().body != http1::body_framing::length || parser_.body_remaining() > 0) return;
  const http1::step end = parser_.parse({});
  EXEUNT_ASSERT(end.what == event::end);
  end_body();
}

result<std::size_t> http_exchange::read(net::buffer into) {
  if (body_error_) return fail(*body_error_);
  if (body_ended_ || into.empty()) return std::size_t{0};
  while (true) {
    const std::span<const char> waiting = unread();
    const http1::step step = parser_.parse(waiting.first(std::min(waiting.size(), into.size())));
    consume(step.consumed);
    switch (step.what) {
      case event::body:
        std::memcpy(into.data(), step.body.data(), step.body.size());
        end_body_if_read();
        return step.body.size();
      case event::end:
        end_body();
        return std::size_t{0};
      case event::error:
        body_error_status_ = step.error.status;
        return fail_body({step.error.status == 413 || step.error.status == 431
                              ? errc::limit_exceeded
                              : errc::malformed,
                          std::string{step.error.reason}});
      case event::need_more:
      case event::head:
        break;
    }
    if (begin_ != end_) continue;

    if (!continued_) {
      if (begun_) return fail_body({errc::closed, "the client was not told to send the body"});
      continued_ = true;
      const const_buffer interim{http1::continue_100};
      if (auto sent = send({&interim, 1}); !sent) return fail_body(sent.error());
    }
    // Bytes of a body of known length need not go through the buffer.
    const bool direct =
        parser_.head().body == http1::body_framing::length && parser_.body_remaining() > 0;
    make_room();
    const net::buffer room =
        direct ? net::buffer{into.data(), static_cast<std::size_t>(std::min<std::uint64_t>(
                                              into.size(), parser_.body_remaining()))}
               : net::buffer{buffer_.get() + end_, capacity_ - end_};
    const auto count = wait_for_body(room);
    if (!count) {
      if (count.error().is(errc::deadline_exceeded)) body_error_status_ = 408;
      return fail_body(count.error());
    }
    if (*count == 0) {
      return fail_body({errc::malformed, "the client ended before the body did"});
    }
    if (direct) {
      const http1::step taken = parser_.parse({static_cast<const char*>(room.data()), *count});
      EXEUNT_ASSERT(taken.what == event::body && taken.consumed == *count);
      end_body_if_read();
      return *count;
    }
    end_ += *count;
  }
}

// Before the head: takes what has come of a body that nobody read, without waiting.
//
// Returns: whether the connection can be kept as far as the body goes.
bool http_exchange::settle_body() {
  std::size_t dropped = 0;
  while (!body_ended_) {
    if (body_error_ || dropped > discard_limit) break;
    const http1::step step = parser_.parse(unread());
    consume(step.consumed);
    dropped += step.body.size();
    if (step.what == event::end) {
      body_ended_ = true;
    } else if (step.what == event::error) {
      body_error_ = error{errc::malformed};
    } else if (step.what == event::need_more) {
      // The client waits to be told, and is told not to send by the response.
      if (!continued_) break;
      if (parser_.head().body == http1::body_framing::length &&
          parser_.body_remaining() > discard_limit - dropped) {
        break;
      }
      const came outcome = try_fill();
      if (outcome == came::end) break;
      if (outcome == came::nothing) return true;  // discard_body() waits for the rest.
    }
  }
  if (!body_ended_) close_after_ = true;
  return body_ended_;
}

// After the response: waits for the rest of a body that nobody read, as long as a last response
// would linger.
//
// Returns: whether it has come.
bool http_exchange::discard_body() {
  std::size_t dropped = 0;
  if (body_ended_ || core_.options.linger <= clock::duration::zero()) return body_ended_;
  net::conn& conn = connection_->conn();
  connection_->limit_reading(limit_from(clock::now(), core_.options.linger));
  while (dropped <= discard_limit) {
    const http1::step step = parser_.parse(unread());
    consume(step.consumed);
    dropped += step.body.size();
    if (step.what == event::end) {
      body_ended_ = true;
      return true;
    }
    if (step.what == event::error) return false;
    if (step.what == event::need_more) {
      make_room();
      const auto count = conn.read(net::buffer{buffer_.get() + end_, capacity_ - end_});
      if (!count || *count == 0) return false;
      end_ += *count;
    }
  }
  return false;
}

context http_exchange::request_context() {
  if (!context_) {
    node_ = core_.make_request_node();
    context_.emplace(core_.make_request_context(node_));
    if (body_ended_) connection_->watch(node_);
  }
  return *context_;
}

// ---- The response.

void http_exchange::set_field(std::string_view name, std::string_view value, bool replace) {
  const auto text_of = [this](std::uint32_t at, std::uint32_t size) {
    return std::string_view{field_text_}.substr(at, size);
  };
  if (replace) {
    std::erase_if(fields_, [&](const stored_field& f) {
      return http1::equal_ignoring_case(text_of(f.name_at, f.name_size), name);
    });
  }
  const auto name_at = static_cast<std::uint32_t>(field_text_.size());
  field_text_.append(name).append(value);
  fields_.push_back({.name_at = name_at,
                     .name_size = static_cast<std::uint32_t>(name.size()),
                     .value_at = static_cast<std::uint32_t>(name_at + name.size()),
                     .value_size = static_cast<std::uint32_t>(value.size())});
}

void http_exchange::append(std::string_view text) {
  if (begun_) {
    static_cast<void>(write(text));
    return;
  }
  if (body_view_.data() != nullptr) {
    body_.assign(body_view_);
    body_view_ = {};
  }
  body_.append(text);
}

void http_exchange::set_body(std::string&& whole) noexcept {
  if (begun_) return;
  body_view_ = {};
  body_ = std::move(whole);
}

void http_exchange::set_body_view(std::string_view whole) noexcept {
  if (begun_) return;
  body_.clear();
  body_view_ = whole.data() != nullptr ? whole : std::string_view{""};
}

void http_exchange::set_error(int code, std::string_view text) {
  if (begun_) return;
  status_ = code;
  fields_.clear();
  field_text_.clear();
  declared_.reset();
  default_type_ = "text/plain; charset=utf-8";
  set_field("X-Content-Type-Options", "nosniff", true);
  body_view_ = {};
  body_.assign(text.empty() ? http1::status_phrase(code) : text);
  body_.push_back('\n');
}

result<> http_exchange::write(std::string_view some) {
  if (write_error_) return fail(*write_error_);
  if (has_no_body() && begun_) {
    body_bytes_ += some.size();
    return {};
  }
  if (body_view_.data() != nullptr) append({});
  const std::uint64_t total = body_bytes_ + body_.size() + some.size();
  if (declared_ && !has_no_body() && total > *declared_) {
    return fail(errc::limit_exceeded, "more than the announced length of the response");
  }
  if (body_.size() + some.size() <= gather_bytes) {
    body_.append(some);
    return {};
  }
  return send_pieces(some);
}

result<> http_exchange::flush() {
  if (write_error_) return fail(*write_error_);
  if (body_view_.data() != nullptr) append({});
  return send_pieces({});
}

// Sends what was gathered and `more`, as one piece, behind the head if that is still to be sent.
result<> http_exchange::send_pieces(std::string_view more) {
  if (write_error_) return fail(*write_error_);
  const std::size_t size = body_.size() + more.size();
  if (!begun_) {
    const mode how = has_no_body()            ? mode::no_body
                     : declared_              ? mode::length
                     : head().http_minor == 0 ? mode::until_close
                                              : mode::chunked;
    mode_ = how;
  }
  if (declared_ && !has_no_body() && body_bytes_ + size > *declared_) {
    // The client would take the rest for the next response.
    if (!begun_) mode_ = mode::undecided;
    close_after_ = true;
    return fail(errc::limit_exceeded, "more than the announced length of the response");
  }
  if (mode_ == mode::no_body) {
    body_bytes_ += size;
    body_.clear();
    return begun_ ? result<>{} : send_head(mode::no_body, 0, {});
  }
  char line[http1::chunk_line_bytes];
  std::array<const_buffer, 4> parts;
  std::size_t count = 0;
  if (size > 0) {
    const bool chunked = mode_ == mode::chunked;
    if (chunked) parts[count++] = {line, http1::write_chunk_line(line, size)};
    if (!body_.empty()) parts[count++] = body_;
    if (!more.empty()) parts[count++] = more;
    if (chunked) parts[count++] = http1::chunk_end;
  }
  body_bytes_ += size;
  const std::span<const const_buffer> pieces{parts.data(), count};
  const result<> sent = begun_ ? (count > 0 ? send(pieces) : result<>{})
                               : send_head(mode_, declared_.value_or(0), pieces);
  body_.clear();
  return sent;
}

// Whether the connection outlives this response, decided when its head is written.
bool http_exchange::decide_keep_alive() {
  if (!head().keep_alive || close_ || close_after_ || mode_ == mode::until_close) return false;
  if (body_error_) return false;
  // Of a body that is not told to come, or not waited for, nobody will see the end.
  if (!body_ended_ && (!continued_ || core_.options.linger <= clock::duration::zero()))
    return false;
  if (!core_.closing()) return true;
  // What the client has already asked for is answered first; there is time for that.
  return body_ended_ && begin_ != end_ && !core_.drained();
}

result<> http_exchange::send_head(mode how, std::uint64_t length,
                                  std::span<const const_buffer> parts) {
  mode_ = how;
  keep_alive_ = decide_keep_alive();
  begun_ = true;

  wire_fields_.clear();
  bool has_type = false;
  for (const stored_field& f : fields_) {
    const std::string_view text = field_text_;
    const http1::field field{text.substr(f.name_at, f.name_size),
                             text.substr(f.value_at, f.value_size)};
    has_type = has_type || http1::equal_ignoring_case(field.name, "content-type");
    wire_fields_.push_back(field);
  }
  const bool typed = status_ != 204 && status_ != 205 && status_ != 304;
  if (!has_type && typed && !default_type_.empty()) {
    wire_fields_.push_back({"Content-Type", default_type_});
  }
  http1::response_head wire{.status = status_, .fields = wire_fields_, .date = date(started_)};
  if (!keep_alive_) {
    const bool expected = head().http_minor == 0 && !head().keep_alive;
    wire.connection = expected ? http1::connection_option::unsaid : http1::connection_option::close;
  } else if (head().http_minor == 0) {
    wire.connection = http1::connection_option::keep_alive;
  }
  switch (how) {
    case mode::whole:
    case mode::length:
      wire.body = http1::body_framing::length;
      wire.content_length = length;
      break;
    case mode::chunked:
      wire.body = http1::body_framing::chunked;
      break;
    case mode::no_body:
      // Of 204 and 304 everybody knows that nothing follows the head; of 205 it has to be said.
      if (status_ == 205) wire.body = http1::body_framing::length;
      break;
    case mode::until_close:
    case mode::undecided:
      break;
  }

  char short_head[short_head_bytes];
  std::span<char> room{short_head};
  if (const std::size_t most = http1::head_bytes_max(wire); most > room.size()) {
    long_head_.resize(most);
    room = long_head_;
  }
  const auto size = http1::write_head(room, wire);
  EXEUNT_ASSERT(size.has_value(), "fields are checked when they are set");
  std::array<const_buffer, 6> all;
  std::size_t count = 0;
  all[count++] = {room.data(), *size};
  for (const const_buffer& part : parts) {
    if (!part.empty()) all[count++] = part;
  }
  return send({all.data(), count});
}

result<> http_exchange::inform(int code) {
  if (begun_ || head().http_minor == 0) return fail(errc::closed, "no interim response now");
  wire_fields_.clear();
  for (const stored_field& f : fields_) {
    const std::string_view text = field_text_;
    wire_fields_.push_back(
        {text.substr(f.name_at, f.name_size), text.substr(f.value_at, f.value_size)});
  }
  const http1::response_head wire{.status = code, .fields = wire_fields_};
  std::string bytes(http1::head_bytes_max(wire), '\0');
  const auto size = http1::write_head(bytes, wire);
  if (!size) return fail(errc::malformed, "interim response");
  const const_buffer part{bytes.data(), *size};
  return send({&part, 1});
}

result<> http_exchange::send(std::span<const const_buffer> parts) {
  if (write_error_) return fail(*write_error_);
  auto sent = connection_->conn().write(parts);
  if (!sent) {
    write_error_ = sent.error();
    close_after_ = true;
  }
  return sent;
}

std::string_view http_exchange::date(clock::time_point now) {
  if (now >= date_until_) {
    const clock::duration wall = unix_time();
    const auto seconds = std::chrono::floor<std::chrono::seconds>(wall);
    date_ = http1::format_date(seconds.count());
    date_until_ = now + (seconds + std::chrono::seconds{1} - wall);
  }
  return {date_.data(), date_.size()};
}

}  // namespace exeunt::detail
