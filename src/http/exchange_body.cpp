// SPDX-License-Identifier: Apache-2.0
// Of one exchange: the request's body, and the handler's context, which ends with the client once
// the body is read.
// Invariants, locks and wake-ups: exchange.cpp.
// Tests: tests/http/body_test.cpp, drain_test.cpp.

#include "http/exchange.hpp"

#include <algorithm>
#include <cstring>

#include <exeunt/base/assert.hpp>

#include "http/connection.hpp"
#include "http/core.hpp"

namespace exeunt::detail {

using http1::event;
using net::const_buffer;

namespace {

// Of a body, read and dropped to keep the connection; Go's figure.
constexpr std::size_t discard_limit = std::size_t{256} * 1024;

}  // namespace

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

}  // namespace exeunt::detail
