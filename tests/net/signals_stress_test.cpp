// SPDX-License-Identifier: Apache-2.0
// Signals that arrive all the time, at each thread, while fibers wait for all there is to wait for.
// Their handler is an application's own, which lets calls of the system fail with EINTR.

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <thread>

#include <exeunt/base/clock.hpp>
#include <exeunt/chan/chan.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/net/conn.hpp>
#include <exeunt/net/listener.hpp>
#include <exeunt/net/stream.hpp>
#include <exeunt/sched/blocking.hpp>
#include <exeunt/sched/go.hpp>
#include <exeunt/sched/io.hpp>
#include <exeunt/sched/runtime.hpp>

#include "net/pair.hpp"
#include "support/on_workers.hpp"

namespace exeunt {
namespace {

using std::chrono::microseconds;

std::atomic<std::uint64_t> handled{0};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);  // For a handler.

// Sends SIGUSR1 to each thread of the process, again and again, as long as it lives.
class bombardment {
 public:
  bombardment() {
    struct sigaction ours{};
    ours.sa_handler = [](int) { ++handled; };
    EXPECT_EQ(::sigaction(SIGUSR1, &ours, &former_), 0);  // Without SA_RESTART.
    sender_ = std::thread{[this] {
      const auto self = static_cast<pid_t>(::syscall(SYS_gettid));
      while (!over_) {
        send_to_all_but(self);
        std::this_thread::yield();
      }
    }};
  }
  ~bombardment() {
    over_ = true;
    sender_.join();
    // What has been sent arrives at the latest when a thread next comes out of the kernel.
    ::signal(SIGUSR1, SIG_IGN);
    EXPECT_EQ(::sigaction(SIGUSR1, &former_, nullptr), 0);
  }
  bombardment(const bombardment&) = delete;
  bombardment& operator=(const bombardment&) = delete;

 private:
  static void send_to_all_but(pid_t self) {
    // A thread that ends meanwhile is not there any more, and need not be.
    std::error_code none;
    for (std::filesystem::directory_iterator at{"/proc/self/task", none}, end; at != end;
         at.increment(none)) {
      const pid_t thread = std::stoi(at->path().filename());
      if (thread != self) ::syscall(SYS_tgkill, ::getpid(), thread, SIGUSR1);
    }
  }

  struct sigaction former_{};
  std::atomic<bool> over_{false};
  std::thread sender_;
};

// Who works goes on for so many rounds at least, and until so many signals have come.
constexpr int rounds_min = 50;
constexpr std::uint64_t signals_min = 2'000;
bool goes_on(int round) { return round < rounds_min || handled < signals_min; }

void sleep_again_and_again() {
  for (int i = 0; goes_on(i); ++i) {
    const clock::duration asked = microseconds{100 + i % 7 * 50};
    const clock::time_point before = clock::now();
    sleep(asked);
    EXPECT_GE(clock::now() - before, asked);
  }
}

// The last of what is sent is 0, and says that it is over.
void hand_over_again_and_again() {
  chan<int> there;
  chan<int> back;
  go([there, back] {
    for (int got = *there.recv(); got != 0; got = *there.recv()) back.send(got + 1);
    back.send(0);
  });
  for (int i = 1; goes_on(i); ++i) {
    there.send(i);
    EXPECT_EQ(back.recv(), i + 1);
  }
  there.send(0);
  EXPECT_EQ(back.recv(), 0);
}

// With an end that comes in time or does not.
void wait_for_a_while_again_and_again() {
  const chan<int> never;
  for (int i = 0; goes_on(i); ++i) {
    auto [ctx, cancel] = with_timeout(context::background(), microseconds{100 + i % 5 * 50});
    const result<int> got = never.recv(ctx);
    EXPECT_TRUE(!got && got.error().is(errc::deadline_exceeded));
  }
}

// Reads or writes one byte. Returns: false at the pipe's end.
bool transfer(detail::io_descriptor& end, detail::io_direction direction, std::uint8_t& byte) {
  const bool reads = direction == detail::io_direction::read;
  for (;;) {
    const ssize_t count = reads ? ::read(end.fd(), &byte, 1) : ::write(end.fd(), &byte, 1);
    const int number = errno;
    if (count >= 0) return count == 1;
    EXPECT_EQ(number, EAGAIN);  // A call that does not wait cannot be interrupted.
    const auto why = reads ? detail::wait_reason::io_read : detail::wait_reason::io_write;
    const result<> waited = end.wait(direction, why, nullptr);
    EXPECT_TRUE(waited.has_value()) << waited.error().message();
  }
}

void read_and_write_a_pipe_again_and_again() {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  auto from = detail::io_descriptor::adopt(ends[0]);
  auto to = detail::io_descriptor::adopt(ends[1]);
  ASSERT_TRUE(from.has_value() && to.has_value());
  chan<std::uint64_t> sum_read{1};
  go([&] {
    std::uint64_t sum = 0;
    for (std::uint8_t byte = 0; transfer(*from, detail::io_direction::read, byte);) sum += byte;
    sum_read.send(sum);
  });
  std::uint64_t sum = 0;
  for (int i = 0; goes_on(i); ++i) {
    auto byte = static_cast<std::uint8_t>(1 + i % 255);
    EXPECT_TRUE(transfer(*to, detail::io_direction::write, byte));
    sum += byte;
    if (i % 3 == 0) yield();
  }
  to->close();
  EXPECT_EQ(sum_read.recv(), sum);
}

// Each message is larger than what the socket takes at once.
void echo_again_and_again() {
  test::conn_pair pair = test::unix_pair();
  chan<void> over;
  go([&] {
    const auto copied = net::copy(context::background(), pair.server, pair.server);
    EXPECT_TRUE(copied.has_value()) << copied.error().message();
    over.send();
  });
  std::string sent(1'000'000, '\0');
  std::string back(sent.size(), '\0');
  for (int i = 0; i < 5 || handled < signals_min; ++i) {
    std::ranges::fill(sent, static_cast<char>('a' + i % 26));
    chan<void> written;
    go([&] {
      const auto all = pair.client.write(sent);
      EXPECT_TRUE(all.has_value()) << all.error().message();
      written.send();
    });
    const auto all = net::read_full(context::background(), pair.client, back);
    EXPECT_TRUE(all.has_value()) << all.error().message();
    EXPECT_TRUE(back == sent);
    EXPECT_TRUE(written.recv());
  }
  EXPECT_TRUE(pair.client.shutdown_write().has_value());
  EXPECT_TRUE(over.recv());
}

void dial_again_and_again() {
  auto door = net::listen("127.0.0.1:0");
  ASSERT_TRUE(door.has_value());
  const std::string where = door->local_address().to_string();
  chan<void> accepted;
  go([&] {
    auto made = door->accept();
    for (; made; made = door->accept()) accepted.send();
    EXPECT_TRUE(made.error().is(errc::closed)) << made.error().message();
    accepted.close();
  });
  for (int i = 0; goes_on(i); ++i) {
    const auto made = net::dial("tcp", where);
    ASSERT_TRUE(made.has_value()) << made.error().message();
    EXPECT_TRUE(accepted.recv());
  }
  door->close();
  EXPECT_FALSE(accepted.recv());
}

void call_again_and_again() {
  int calls = 0;
  int rounds = 0;
  for (; goes_on(rounds); ++rounds) {
    calls = blocking([calls] { return calls + 1; });
    if (rounds % 10 == 0) yield();
  }
  EXPECT_EQ(calls, rounds);
}

class signals_stress : public ::testing::TestWithParam<unsigned> {};
INSTANTIATE_TEST_SUITE_P(workers, signals_stress, ::testing::Values(1U, 2U, 4U),
                         [](const auto& workers) { return std::to_string(workers.param); });

// Goal:   nobody sees that a call was interrupted, and nothing is lost by it.
// Method: fibers that sleep, hand over, wait for a while, read and write, dial and make blocking
//         calls, and a plain thread that waits, until so many signals have come; each knows what
//         has to come out. The runtime starts and ends under them, too.
TEST_P(signals_stress, everybody_goes_on_and_nobody_sees_them) {
  const bombardment signals;
  for (int life = 0; life < 2; ++life) {
    handled = 0;
    test::run_on(GetParam(), [] {
      constexpr std::array works{sleep_again_and_again,
                                 hand_over_again_and_again,
                                 wait_for_a_while_again_and_again,
                                 read_and_write_a_pipe_again_and_again,
                                 echo_again_and_again,
                                 dial_again_and_again,
                                 call_again_and_again};
      chan<void> done{2 * works.size()};
      for (void (*const work)() : works) {
        for (int twice = 0; twice < 2; ++twice) {
          go([&done, work] {
            work();
            done.send();
          });
        }
      }
      std::thread plain{[] {
        sleep_again_and_again();
        hand_over_again_and_again();
        wait_for_a_while_again_and_again();
      }};
      for (std::size_t i = 0; i < 2 * works.size(); ++i) EXPECT_TRUE(done.recv());
      blocking([&] { plain.join(); });
    });
  }
}

}  // namespace
}  // namespace exeunt
