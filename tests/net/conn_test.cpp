// SPDX-License-Identifier: Apache-2.0

#include <exeunt/net/conn.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <exeunt/chan/chan.hpp>
#include <exeunt/net/stream.hpp>
#include <exeunt/sched/go.hpp>

#include "chan/parked.hpp"
#include "net/pair.hpp"
#include "support/on_workers.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using detail::wait_reason;
using test::conn_pair;
using test::fill;
using test::tcp_pair;
using test::unix_pair;
using test::until_parked;

static_assert(net::byte_stream<net::conn>);

class net_conn_test : public test::on_workers {};

// The bytes that `from` gives until its end.
std::string read_all(net::conn& from) {
  std::string all;
  std::array<char, 4096> bytes;
  while (true) {
    const auto count = from.read(bytes);
    EXPECT_TRUE(count.has_value()) << count.error().message();
    if (!count || *count == 0) return all;
    all.append(bytes.data(), *count);
  }
}

void echo(net::conn& with) {
  EXPECT_TRUE(net::copy(context::background(), with, with).has_value());
  EXPECT_TRUE(with.shutdown_write().has_value());
}

TEST_P(net_conn_test, echoes_over_tcp_and_unix) {
  run([] {
    for (auto make : {&tcp_pair, &unix_pair}) {
      conn_pair pair = make();
      chan<void> done;
      go([&] {
        echo(pair.server);
        done.send();
      });
      std::array<char, 5> back{};
      for (int i = 0; i < 100; ++i) {
        ASSERT_TRUE(pair.client.write("hello").has_value());
        ASSERT_TRUE(net::read_full(context::background(), pair.client, back).has_value());
        ASSERT_EQ(std::string_view(back.data(), back.size()), "hello");
      }
      ASSERT_TRUE(pair.client.shutdown_write().has_value());
      EXPECT_EQ(*pair.client.read(back), 0U);
      EXPECT_TRUE(done.recv());
    }
  });
}

TEST(net_conn, echoes_between_plain_threads) {
  conn_pair pair = tcp_pair();
  std::thread server{[&] { echo(pair.server); }};
  std::array<char, 4> back{};
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(pair.client.write("ping").has_value());
    ASSERT_TRUE(net::read_full(context::background(), pair.client, back).has_value());
  }
  ASSERT_TRUE(pair.client.shutdown_write().has_value());
  EXPECT_EQ(*pair.client.read(back), 0U);
  server.join();
}

// Goal: partial writes lose nothing and repeat nothing.
TEST_P(net_conn_test, moves_more_than_any_buffer_holds) {
  run([] {
    conn_pair pair = tcp_pair();
    std::string sent(8 * 1024 * 1024, '\0');
    for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 7 + i / 4096);
    chan<void> done;
    go([&] {
      EXPECT_TRUE(pair.client.write(sent).has_value());
      EXPECT_TRUE(pair.client.shutdown_write().has_value());
      done.send();
    });
    EXPECT_TRUE(read_all(pair.server) == sent);
    EXPECT_TRUE(done.recv());
  });
}

// Goal: many buffers, more than one call takes, with empty ones among them, arrive in order.
TEST_P(net_conn_test, writes_several_buffers_in_order) {
  run([] {
    conn_pair pair = tcp_pair();
    std::vector<std::string> parts;
    std::string expected;
    for (int i = 0; i < 200; ++i) {
      const auto length = static_cast<std::size_t>(i % 5 == 0 ? 0 : i * 100);
      parts.emplace_back(length, static_cast<char>('a' + i % 26));
      expected += parts.back();
    }
    const std::vector<net::const_buffer> buffers{parts.begin(), parts.end()};
    chan<void> done;
    go([&] {
      EXPECT_TRUE(pair.client.write(buffers).has_value());
      EXPECT_TRUE(pair.client.shutdown_write().has_value());
      done.send();
    });
    EXPECT_TRUE(read_all(pair.server) == expected);
    EXPECT_TRUE(done.recv());
  });
}

TEST_P(net_conn_test, reads_on_after_its_own_end) {
  run([] {
    conn_pair pair = tcp_pair();
    ASSERT_TRUE(pair.client.shutdown_write().has_value());
    std::array<char, 8> bytes;
    EXPECT_EQ(*pair.server.read(bytes), 0U);
    EXPECT_EQ(*pair.server.read(bytes), 0U);  // And again: the end stays.
    ASSERT_TRUE(pair.server.write("late").has_value());
    EXPECT_EQ(*pair.client.read(bytes), 4U);
    EXPECT_FALSE(pair.client.write("no").has_value());
  });
}

// Goal: data and end in one edge: whoever took the data in a short read must still see the end.
// Method: both are there before the poller can look once more; the read is shorter than asked, so
//         the next one waits first.
TEST_P(net_conn_test, sees_an_end_that_came_with_the_data) {
  run([] {
    for (auto make : {&tcp_pair, &unix_pair}) {
      conn_pair pair = make();
      std::array<char, 64> bytes;
      ASSERT_TRUE(pair.client.write("x").has_value());
      ASSERT_EQ(*pair.server.read(bytes), 1U);
      chan<std::size_t> counts{2};
      go([&] {
        std::array<char, 64> more;
        counts.send(*pair.server.read(more));
        counts.send(*pair.server.read(more));
      });
      until_parked(1, wait_reason::io_read);
      ASSERT_TRUE(pair.client.write("last").has_value());
      pair.client.close();
      EXPECT_EQ(*counts.recv(), 4U);
      EXPECT_EQ(*counts.recv(), 0U);
    }
  });
}

TEST_P(net_conn_test, names_peer_and_reason_of_a_reset) {
  run([] {
    conn_pair pair = tcp_pair();
    const std::string peer = pair.server.remote_address().to_string();
    pair.client.abort();
    std::array<char, 8> bytes;
    const auto count = pair.server.read(bytes);
    ASSERT_FALSE(count.has_value());
    EXPECT_TRUE(count.error().is(std::errc::connection_reset));
    EXPECT_EQ(count.error().message(), "read tcp " + peer + ": connection reset by peer");
  });
}

// Goal: a write to a peer that has gone is an error, and no signal ends the process.
TEST_P(net_conn_test, write_to_nobody_fails_without_a_signal) {
  run([] {
    for (auto make : {&tcp_pair, &unix_pair}) {
      conn_pair pair = make();
      pair.server.abort();
      result<> outcome;
      while (outcome) outcome = pair.client.write("into the void");
      EXPECT_TRUE(outcome.error().is(std::errc::broken_pipe) ||
                  outcome.error().is(std::errc::connection_reset));
    }
  });
}

// NE-03: closing one end makes the peer's blocked read see the end.
TEST_P(net_conn_test, close_ends_the_peers_read) {
  run([] {
    conn_pair pair = tcp_pair();
    chan<std::size_t> counts{1};
    go([&] {
      std::array<char, 8> bytes;
      counts.send(pair.server.read(bytes).value());
    });
    until_parked(1, wait_reason::io_read);
    pair.client.close();
    EXPECT_EQ(*counts.recv(), 0U);
  });
}

// NE-07: closing wakes all who wait on the descriptor, and later calls fail.
TEST_P(net_conn_test, close_ends_ones_own_calls) {
  run([] {
    conn_pair pair = tcp_pair();
    fill(pair.client);
    constexpr std::size_t readers = 5;
    chan<bool> closed{readers + 1};
    for (std::size_t i = 0; i < readers; ++i) {
      go([&] {
        std::array<char, 8> bytes;
        closed.send(pair.client.read(bytes).error().is(errc::closed));
      });
    }
    go([&] { closed.send(pair.client.write("more").error().is(errc::closed)); });
    until_parked(readers, wait_reason::io_read);
    until_parked(1, wait_reason::io_write);
    pair.client.close();
    for (std::size_t i = 0; i < readers + 1; ++i) EXPECT_TRUE(*closed.recv());
    std::array<char, 8> bytes;
    EXPECT_TRUE(pair.client.read(bytes).error().is(errc::closed));
    EXPECT_TRUE(pair.client.write("x").error().is(errc::closed));
    EXPECT_TRUE(pair.client.shutdown_write().error().is(errc::closed));
    EXPECT_EQ(pair.client.native_handle(), -1);
    pair.client.close();  // Does nothing.
  });
}

TEST_P(net_conn_test, readers_take_turns) {
  run([] {
    conn_pair pair = tcp_pair();
    constexpr int readers = 8;
    chan<char> got{readers};
    for (int i = 0; i < readers; ++i) {
      go([&] {
        std::array<char, 1> one;
        EXPECT_EQ(pair.server.read(one).value(), 1U);
        got.send(one[0]);
      });
    }
    until_parked(readers, wait_reason::io_read);
    ASSERT_TRUE(pair.client.write("abcdefgh").has_value());
    std::string all;
    for (int i = 0; i < readers; ++i) all += *got.recv();
    std::ranges::sort(all);
    EXPECT_EQ(all, "abcdefgh");
  });
}

TEST_P(net_conn_test, read_and_write_end_with_their_context) {
  run([] {
    conn_pair pair = tcp_pair();
    fill(pair.client);
    auto [ctx, cancel] = with_cancel_cause(context::background());
    chan<bool> canceled{3};
    go([&, own = context{ctx}] {
      std::array<char, 8> bytes;
      canceled.send(pair.client.read(own, bytes).error().is(errc::canceled));
    });
    go([&, own = context{ctx}] {
      canceled.send(pair.client.write(own, "more").error().is(errc::canceled));
    });
    until_parked(1, wait_reason::io_read);
    until_parked(1, wait_reason::io_write);
    // A second reader, waiting for its turn only.
    go([&, own = context{ctx}] {
      std::array<char, 8> bytes;
      canceled.send(pair.client.read(own, bytes).error().is(errc::canceled));
    });
    until_parked(2, wait_reason::io_read);
    cancel(errc::shutting_down);
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(*canceled.recv());
    // An ended context is refused even if there is something to read.
    ASSERT_TRUE(pair.server.write("x").has_value());
    std::array<char, 8> bytes;
    EXPECT_TRUE(pair.client.read(ctx, bytes).error().is(errc::canceled));
    // And the connection lives on.
    EXPECT_EQ(*pair.client.read(bytes), 1U);
  });
}

// NE-04: not before the deadline, with the deadline's error.
TEST_P(net_conn_test, deadlines_end_reads_and_writes) {
  run([] {
    conn_pair pair = tcp_pair();
    std::array<char, 8> bytes;
    const auto read_until = deadline_after(3ms);
    pair.client.set_read_deadline(read_until);
    EXPECT_TRUE(pair.client.read(bytes).error().is(errc::deadline_exceeded));
    EXPECT_GE(clock::now(), read_until);
    EXPECT_TRUE(pair.client.read(bytes).error().is(errc::deadline_exceeded));

    fill(pair.client);
    const auto write_until = deadline_after(3ms);
    pair.client.set_write_deadline(write_until);
    EXPECT_TRUE(pair.client.write("more").error().is(errc::deadline_exceeded));
    EXPECT_GE(clock::now(), write_until);

    const auto with_limit = with_timeout(context::background(), 3ms);
    EXPECT_TRUE(pair.server.write(with_limit, "x").has_value());
    pair.client.set_read_deadline(no_deadline);
    ASSERT_TRUE(pair.client.read(bytes).has_value());
    EXPECT_TRUE(pair.client.read(with_limit, bytes).error().is(errc::deadline_exceeded));
  });
}

// NE-01: a past deadline that was lifted again leaves no trace.
TEST_P(net_conn_test, lifted_deadline_is_forgotten) {
  run([] {
    conn_pair pair = tcp_pair();
    pair.server.set_deadline(clock::now() - 1s);
    pair.server.set_deadline(no_deadline);
    chan<bool> outcome{1};
    go([&] {
      std::array<char, 8> bytes;
      outcome.send(pair.server.read(bytes).error().is(errc::closed));
    });
    until_parked(1, wait_reason::io_read);
    pair.server.close();
    EXPECT_TRUE(*outcome.recv());
  });
}

TEST_P(net_conn_test, moved_deadline_reaches_those_who_wait) {
  run([] {
    conn_pair pair = tcp_pair();
    pair.server.set_read_deadline(deadline_after(1h));
    constexpr std::size_t readers = 3;  // One in the read, two in its queue.
    chan<bool> outcome{readers};
    for (std::size_t i = 0; i < readers; ++i) {
      go([&] {
        std::array<char, 8> bytes;
        outcome.send(pair.server.read(bytes).error().is(errc::deadline_exceeded));
      });
    }
    until_parked(readers, wait_reason::io_read);
    pair.server.set_read_deadline(deadline_after(2h));  // Later: nobody is ended by it.
    until_parked(readers, wait_reason::io_read);
    pair.server.set_read_deadline(clock::now());
    for (std::size_t i = 0; i < readers; ++i) EXPECT_TRUE(*outcome.recv());
  });
}

TEST_P(net_conn_test, try_forms_never_wait) {
  run([] {
    conn_pair pair = tcp_pair();
    std::array<char, 8> bytes;
    EXPECT_EQ(pair.client.try_read(bytes).value(), std::nullopt);
    ASSERT_TRUE(pair.server.write("abc").has_value());
    std::optional<std::size_t> count;
    while (!count) count = pair.client.try_read(bytes).value();
    EXPECT_EQ(*count, 3U);
    fill(pair.client);
    EXPECT_EQ(*pair.client.write_some(context::background(), ""), 0U);

    // Somebody else is in.
    chan<bool> ended{1};
    go([&] {
      std::array<char, 1> one;
      ended.send(pair.client.read(one).error().is(errc::closed));
    });
    until_parked(1, wait_reason::io_read);
    EXPECT_EQ(pair.client.try_read(bytes).value(), std::nullopt);
    pair.client.close();
    EXPECT_TRUE(pair.client.try_read(bytes).error().is(errc::closed));
    EXPECT_TRUE(*ended.recv());
  });
}

TEST_P(net_conn_test, starts_a_fiber_when_there_is_something) {
  run([] {
    for (auto make : {&tcp_pair, &unix_pair}) {
      conn_pair pair = make();
      chan<std::string> lines{4};
      // Each byte starts a fiber of its own, and in between there is none.
      for (const char* const text : {"one", "two", "three"}) {
        pair.server.when_readable([&] {
          std::array<char, 64> bytes;
          const auto count = pair.server.read(bytes);
          lines.send(std::string(bytes.data(), count.value()));
        });
        ASSERT_TRUE(pair.client.write(text).has_value());
        EXPECT_EQ(*lines.recv(), text);
      }
      // The end does, too.
      pair.server.when_readable([&] {
        std::array<char, 64> bytes;
        EXPECT_EQ(pair.server.read(bytes).value(), 0U);
        lines.send("end");
      });
      pair.client.close();
      EXPECT_EQ(*lines.recv(), "end");
    }
  });
}

// Goal: what a filled buffer has left in the socket starts a fiber, although no edge will come.
TEST_P(net_conn_test, starts_at_once_for_what_is_left) {
  run([] {
    conn_pair pair = tcp_pair();
    ASSERT_TRUE(pair.client.write("abcdef").has_value());
    std::array<char, 3> bytes;
    ASSERT_TRUE(net::read_full(context::background(), pair.server, bytes).has_value());
    chan<std::size_t> counts{1};
    pair.server.when_readable([&] {
      std::array<char, 64> rest;
      counts.send(pair.server.read(rest).value());
    });
    EXPECT_EQ(*counts.recv(), 3U);
  });
}

TEST_P(net_conn_test, start_can_be_taken_back_or_ended_by_close) {
  run([] {
    conn_pair pair = tcp_pair();
    pair.server.when_readable([] { ADD_FAILURE(); });
    EXPECT_TRUE(pair.server.cancel_when_readable());
    EXPECT_FALSE(pair.server.cancel_when_readable());

    chan<bool> closed{1};
    pair.server.when_readable([&] {
      std::array<char, 8> bytes;
      closed.send(pair.server.read(bytes).error().is(errc::closed));
    });
    pair.server.close();
    EXPECT_TRUE(*closed.recv());

    // A destructor takes it back.
    conn_pair other = tcp_pair();
    other.server.when_readable([] { ADD_FAILURE(); });
    other.server = net::conn{};
    std::array<char, 8> bytes;
    EXPECT_EQ(*other.client.read(bytes), 0U);
  });
}

TEST_P(net_conn_test, many_idle_connections_have_no_fibers) {
  run([] {
    constexpr std::size_t count = 50;
    std::vector<conn_pair> pairs;
    chan<std::size_t> woken{count};
    for (std::size_t i = 0; i < count; ++i) pairs.push_back(tcp_pair());
    for (std::size_t i = 0; i < count; ++i) {
      pairs[i].server.when_readable([&, i] { woken.send(i); });
    }
    EXPECT_EQ(runtime::current().fibers().size(), 1U);
    std::size_t sum = 0;
    for (conn_pair& pair : pairs) ASSERT_TRUE(pair.client.write("x").has_value());
    for (std::size_t i = 0; i < count; ++i) sum += *woken.recv();
    EXPECT_EQ(sum, count * (count - 1) / 2);
  });
}

TEST_P(net_conn_test, an_empty_handle_fails_softly) {
  run([] {
    net::conn none;
    std::array<char, 8> bytes;
    EXPECT_FALSE(none);
    EXPECT_TRUE(none.read(bytes).error().is(errc::closed));
    EXPECT_TRUE(none.write("x").error().is(errc::closed));
    EXPECT_EQ(none.native_handle(), -1);
    EXPECT_EQ(none.remote_address().to_string(), "");
    none.close();
  });
}

TEST_P(net_conn_test, knows_both_addresses) {
  run([] {
    conn_pair pair = tcp_pair();
    EXPECT_EQ(pair.client.local_address(), pair.server.remote_address());
    EXPECT_EQ(pair.server.local_address(), pair.client.remote_address());
    EXPECT_TRUE(pair.client.set_nodelay(false).has_value());
  });
}

TEST_P(net_conn_test, dial_says_whom_and_why_not) {
  run([] {
    // A port that was free a moment ago.
    std::string where;
    {
      auto door = net::listen("127.0.0.1:0");
      where = door->local_address().to_string();
    }
    const auto refused = net::dial("tcp", where);
    ASSERT_FALSE(refused.has_value());
    EXPECT_TRUE(refused.error().is(std::errc::connection_refused));
    EXPECT_EQ(refused.error().message(), "dial tcp " + where + ": connection refused");
    EXPECT_EQ(net::dial("tcp", "no port").error().message(),
              "dial tcp no port: missing port in address");
    EXPECT_TRUE(net::dial("tcp", "nowhere.invalid:1")
                    .error()
                    .message()
                    .starts_with("dial tcp nowhere.invalid:1: lookup nowhere.invalid: "));
    EXPECT_TRUE(net::dial(context::background(), net::address{}).error().is(errc::malformed));
    EXPECT_FALSE(net::dial("unix", "/nonexistent/socket").has_value());
  });
}

// Goal: a dial that nobody answers ends with its context.
// Method: a listener with a full queue does not answer; no network is needed.
TEST_P(net_conn_test, dial_ends_with_its_context) {
  run([] {
    auto door = net::listen("127.0.0.1:0", {.backlog = 0});
    const std::string where = door->local_address().to_string();
    auto [ctx, cancel] = with_cancel(context::background());
    chan<result<>> outcome{1};
    go([&, own = context{ctx}] {
      std::vector<net::conn> taken;
      while (true) {
        auto made = net::dial(own, "tcp", where);
        if (!made) {
          outcome.send(fail(made.error()));
          return;
        }
        taken.push_back(std::move(*made));
      }
    });
    until_parked(1, wait_reason::io_connect);
    cancel();
    const auto ended = *outcome.recv();
    EXPECT_TRUE(ended.error().is(errc::canceled)) << ended.error().message();
  });
}

EXEUNT_ON_WORKERS(net_conn_test);

}  // namespace
}  // namespace exeunt
