// SPDX-License-Identifier: Apache-2.0

#include <exeunt/net/listener.hpp>

#include <gtest/gtest.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <exeunt/base/log.hpp>
#include <exeunt/chan/chan.hpp>
#include <exeunt/sched/go.hpp>

#include "chan/parked.hpp"
#include "poll/poller.hpp"
#include "sched/seam.hpp"
#include "support/on_workers.hpp"

namespace exeunt {
namespace {

using namespace std::chrono_literals;
using detail::wait_reason;
using test::until_parked;

class net_listener_test : public test::on_workers {};

std::string where_of(const net::listener& door) { return door.local_address().to_string(); }

std::string fresh_path() {
  static std::atomic<int> number{0};
  return (std::filesystem::temp_directory_path() /
          ("exeunt-" + std::to_string(::getpid()) + "-" + std::to_string(number++) + ".sock"))
      .string();
}

TEST_P(net_listener_test, says_that_a_port_is_taken) {
  run([] {
    auto first = net::listen("127.0.0.1:0");
    ASSERT_TRUE(first.has_value());
    const auto second = net::listen(where_of(*first));
    ASSERT_FALSE(second.has_value());
    EXPECT_TRUE(second.error().is(std::errc::address_in_use));
    EXPECT_EQ(second.error().message(),
              "listen tcp " + where_of(*first) + ": address already in use");
  });
}

TEST_P(net_listener_test, says_what_is_wrong_with_an_address) {
  run([] {
    EXPECT_EQ(net::listen("8080").error().message(), "listen tcp 8080: missing port in address");
    EXPECT_TRUE(net::listen("127.0.0.1:99999").error().is(errc::malformed));
    EXPECT_FALSE(net::listen("192.0.2.1:0").has_value());  // Of nobody: TEST-NET-1.
    const auto no_directory = net::listen("unix:/nonexistent/dir/socket");
    EXPECT_EQ(no_directory.error().message(),
              "listen unix /nonexistent/dir/socket: no such file or directory");
  });
}

TEST_P(net_listener_test, without_a_host_takes_both_families) {
  run([] {
    auto door = net::listen(":0");
    ASSERT_TRUE(door.has_value()) << door.error().message();
    const std::string port = std::to_string(door->local_address().port());
    ASSERT_TRUE(net::dial("tcp", "127.0.0.1:" + port).has_value());
    const auto by_v4 = door->accept();
    ASSERT_TRUE(by_v4.has_value());
    EXPECT_EQ(by_v4->remote_address().host(), "127.0.0.1");
    if (door->local_address().family() == net::family::ipv6) {
      ASSERT_TRUE(net::dial("tcp", "[::1]:" + port).has_value());
      EXPECT_EQ(door->accept()->remote_address().host(), "::1");
    }
  });
}

TEST_P(net_listener_test, accepts_over_unix_sockets) {
  run([] {
    const std::string path = fresh_path();
    {
      auto door = net::listen("unix:" + path);
      ASSERT_TRUE(door.has_value()) << door.error().message();
      EXPECT_EQ(where_of(*door), path);
      EXPECT_TRUE(std::filesystem::exists(path));
      auto client = net::dial("unix", path);
      ASSERT_TRUE(client.has_value());
      auto server = door->accept();
      ASSERT_TRUE(server.has_value());
      ASSERT_TRUE(client->write("hi").has_value());
      std::array<char, 8> bytes;
      EXPECT_EQ(*server->read(bytes), 2U);
    }
    EXPECT_FALSE(std::filesystem::exists(path));
    auto hidden = net::listen("@exeunt-test-" + std::to_string(::getpid()));
    ASSERT_TRUE(hidden.has_value());
    EXPECT_TRUE(net::dial("unix", where_of(*hidden)).has_value());
  });
}

// NE-03: closing a listener ends all blocked accepts.  NE-08: many accept on one listener.
TEST_P(net_listener_test, many_accept_and_close_ends_all) {
  run([] {
    auto door = net::listen("127.0.0.1:0");
    ASSERT_TRUE(door.has_value());
    constexpr std::size_t fibers = 10;
    constexpr std::size_t dials = 100;
    chan<void> accepted{dials};
    chan<bool> ended{fibers};
    for (std::size_t i = 0; i < fibers; ++i) {
      go([&] {
        while (true) {
          auto made = door->accept();
          if (!made) {
            ended.send(made.error().is(errc::closed));
            return;
          }
          accepted.send();
        }
      });
    }
    for (std::size_t i = 0; i < dials; ++i) {
      ASSERT_TRUE(net::dial("tcp", where_of(*door)).has_value());
    }
    for (std::size_t i = 0; i < dials; ++i) EXPECT_TRUE(accepted.recv());
    door->close();
    for (std::size_t i = 0; i < fibers; ++i) EXPECT_TRUE(*ended.recv());
    EXPECT_TRUE(door->accept().error().is(errc::closed));
    EXPECT_TRUE(door->accept_now().error().is(errc::closed));
    door->close();  // Does nothing.
  });
}

TEST_P(net_listener_test, accept_ends_with_context_and_deadline) {
  run([] {
    auto door = net::listen("127.0.0.1:0");
    auto [ctx, cancel] = with_cancel(context::background());
    chan<bool> canceled{1};
    go([&, own = context{ctx}] { canceled.send(door->accept(own).error().is(errc::canceled)); });
    until_parked(1, wait_reason::io_accept);
    cancel();
    EXPECT_TRUE(*canceled.recv());

    const auto until = deadline_after(2ms);
    door->set_deadline(until);
    EXPECT_TRUE(door->accept().error().is(errc::deadline_exceeded));
    EXPECT_GE(clock::now(), until);
    // NE-01: lifted, it is as if it had never been.
    door->set_deadline(no_deadline);
    ASSERT_TRUE(net::dial("tcp", where_of(*door)).has_value());
    EXPECT_TRUE(door->accept().has_value());
  });
}

// Goal: whoever the kernel had let in before the door closed is served, and nobody is let in after.
// Method: a dial after stop_incoming() would wait for seconds; it is given up by a context once
//         the queue has been emptied and found to hold only those from before.
TEST_P(net_listener_test, empties_its_queue_and_lets_nobody_in) {
  run([] {
    for (const char* const where : {"127.0.0.1:0", ":0"}) {
      auto door = net::listen(where);
      ASSERT_TRUE(door.has_value());
      const std::string at = "127.0.0.1:" + std::to_string(door->local_address().port());
      std::vector<net::conn> clients;
      for (int i = 0; i < 20; ++i) clients.push_back(std::move(net::dial("tcp", at).value()));
      ASSERT_TRUE(door->stop_incoming().has_value());

      auto [ctx, cancel] = with_cancel(context::background());
      chan<bool> late{1};
      go([&, own = context{ctx}] { late.send(net::dial(own, "tcp", at).has_value()); });
      until_parked(1, wait_reason::io_connect);
      std::vector<net::conn> served;
      while (auto next = door->accept_now().value()) served.push_back(std::move(*next));
      EXPECT_EQ(served.size(), clients.size());
      door->close();
      cancel();
      EXPECT_FALSE(*late.recv());
      // The filter is inherited by those let in before, and does them no harm.
      for (std::size_t i = 0; i < served.size(); ++i) {
        ASSERT_TRUE(clients[i].write("x").has_value());
        std::array<char, 4> bytes;
        EXPECT_EQ(served[i].read(bytes).value(), 1U);
      }
    }
  });
}

TEST_P(net_listener_test, unix_door_closes_by_losing_its_name) {
  run([] {
    const std::string path = fresh_path();
    auto door = net::listen(path);
    auto before = net::dial("unix", path);
    ASSERT_TRUE(before.has_value());
    ASSERT_TRUE(door->stop_incoming().has_value());
    EXPECT_FALSE(net::dial("unix", path).has_value());
    EXPECT_EQ(door->waiting(), 1U);
    EXPECT_EQ(door->handshakes(), 0U);
    EXPECT_TRUE(door->accept_now()->has_value());
    EXPECT_FALSE(door->accept_now()->has_value());
    EXPECT_EQ(door->waiting(), 0U);
  });
}

// Goal:   a handshake whose last word has not come is seen, and no longer once it has.
// Method: a listener that defers has the system take an ACK without data for none, so the client
//         decides when the handshake ends, and needs no crafted packets for it.
TEST_P(net_listener_test, tells_of_handshakes_under_way) {
  run([] {
    for (const char* const where : {"127.0.0.1:0", ":0"}) {
      auto door = net::listen(where);
      ASSERT_TRUE(door.has_value());
      EXPECT_EQ(door->handshakes(), 0U);
      const int seconds = 10;
      ASSERT_EQ(::setsockopt(door->native_handle(), IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds,
                             sizeof seconds),
                0);
      auto client = net::dial("tcp", "127.0.0.1:" + std::to_string(door->local_address().port()));
      ASSERT_TRUE(client.has_value());
      ASSERT_TRUE(door->stop_incoming().has_value());
      EXPECT_EQ(door->handshakes(), 1U);
      EXPECT_EQ(door->waiting(), 0U);
      ASSERT_TRUE(client->write("x").has_value());
      EXPECT_TRUE(door->accept().has_value());
      EXPECT_EQ(door->handshakes(), 0U);
      door->close();
      EXPECT_EQ(door->handshakes(), 0U);
    }
  });
}

TEST_P(net_listener_test, takes_over_a_listening_socket) {
  run([] {
    auto original = net::listen("127.0.0.1:0");
    const int copy = ::fcntl(original->native_handle(), F_DUPFD_CLOEXEC, 0);
    auto door = net::listener::adopt(copy);
    ASSERT_TRUE(door.has_value());
    EXPECT_EQ(door->local_address(), original->local_address());
    original->close();
    ASSERT_TRUE(net::dial("tcp", where_of(*door)).has_value());
    EXPECT_TRUE(door->accept().has_value());

    const int no_listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_FALSE(net::listener::adopt(no_listener).has_value());
  });
}

TEST_P(net_listener_test, shares_a_port_if_asked) {
  run([] {
    auto first = net::listen("127.0.0.1:0", {.reuse_port = true});
    ASSERT_TRUE(first.has_value());
    EXPECT_TRUE(net::listen(where_of(*first), {.reuse_port = true}).has_value());
  });
}

// Lowers the limit of descriptors so that not one more can be opened.
class no_more_descriptors {
 public:
  no_more_descriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const int lowest_free = ::dup(STDIN_FILENO);
    ::close(lowest_free);
    rlimit now = before_;
    now.rlim_cur = static_cast<rlim_t>(lowest_free);
    ::setrlimit(RLIMIT_NOFILE, &now);
  }
  ~no_more_descriptors() { lift(); }
  no_more_descriptors(const no_more_descriptors&) = delete;
  no_more_descriptors& operator=(const no_more_descriptors&) = delete;
  void lift() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

std::atomic<int> lines_logged{0};

// HS-11, the listener's part: accept that fails for want of descriptors waits, says so once, and
// goes on when there are some; and it can be ended while it waits.
TEST_P(net_listener_test, waits_out_a_want_of_descriptors) {
  lines_logged = 0;
  set_log_sink([](std::string_view) noexcept { ++lines_logged; });
  run([] {
    auto door = net::listen("127.0.0.1:0");
    {
      const no_more_descriptors none_left;
      EXPECT_EQ(door->accept_now().value(), std::nullopt) << "nobody waits, so nothing is wanted";
    }
    auto client = net::dial("tcp", where_of(*door));
    ASSERT_TRUE(client.has_value());
    chan<bool> outcome{1};
    {
      no_more_descriptors none_left;
      EXPECT_TRUE(door->accept_now().error().is(std::errc::too_many_files_open));
      EXPECT_EQ(door->waiting(), 1U);
      go([&] { outcome.send(door->accept().has_value()); });
      while (lines_logged == 0) yield();
      until_parked(1, wait_reason::io_accept);
      none_left.lift();
      EXPECT_TRUE(*outcome.recv());
    }
    auto other = net::dial("tcp", where_of(*door));
    ASSERT_TRUE(other.has_value());
    {
      const no_more_descriptors none_left;
      go([&] { outcome.send(door->accept().error().is(errc::closed)); });
      until_parked(1, wait_reason::io_accept);
      door->close();
      EXPECT_TRUE(*outcome.recv());
    }
  });
  set_log_sink(nullptr);
  EXPECT_EQ(lines_logged, 1) << "a shortage that comes again at once is not told again";
}

// The poller of the system, which refuses descriptors when told to.
class stingy_poller final : public poll::poller {
 public:
  result<> add(int fd, std::uint64_t token) noexcept override {
    if (refuses) return fail(error::from_errno(ENOSPC));
    return real_->add(fd, token);
  }
  void remove(int fd) noexcept override { real_->remove(fd); }
  std::size_t wait(poll::event* events, std::size_t room,
                   clock::time_point until) noexcept override {
    return real_->wait(events, room, until);
  }
  void wake() noexcept override { real_->wake(); }

  std::atomic<bool> refuses{false};

 private:
  std::unique_ptr<poll::poller> real_ = poll::make_epoll_poller();
};

// A client that the system accepted and the poller has no room for stays, until there is.
TEST(net_listener_seam_test, keeps_a_client_that_the_poller_refuses) {
  stingy_poller poller;
  detail::seam parts{.poller = &poller};
  runtime workers{{.procs = 2, .seam = &parts}};
  workers.run([&] {
    auto door = net::listen("127.0.0.1:0");
    auto client = net::dial("tcp", where_of(*door));
    ASSERT_TRUE(client.has_value());
    poller.refuses = true;
    EXPECT_TRUE(door->accept_now().error().is(std::errc::no_space_on_device));
    EXPECT_EQ(door->waiting(), 1U);
    poller.refuses = false;
    auto served = door->accept();
    ASSERT_TRUE(served.has_value());
    EXPECT_EQ(door->waiting(), 0U);
    EXPECT_EQ(served->remote_address(), client->local_address());
    ASSERT_TRUE(client->write("x").has_value());
    std::array<char, 4> bytes;
    EXPECT_EQ(served->read(bytes).value(), 1U);
  });
}

EXEUNT_ON_WORKERS(net_listener_test);

}  // namespace
}  // namespace exeunt
