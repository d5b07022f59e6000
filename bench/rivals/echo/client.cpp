// SPDX-License-Identifier: Apache-2.0
// The load for all echo servers: keeps one message of 64 bytes in flight on each connection.
//
//   client PORT CONNECTIONS SECONDS THREADS [BLOCKING]
//
// One message of BLOCKING asks the server to block its thread for 50 ms before it answers; 0, the
// default, is none. Prints the round trips per second of the other messages, and the median and
// 99th percentile of their times in us.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "echo/socket.hpp"
#include "harness.hpp"

namespace {

constexpr std::size_t message_size = 64;

struct connection {
  int fd = -1;
  std::uint32_t asked = 0;  // Messages so far.
  bool blocks = false;      // The one in flight does.
  std::size_t received = 0;
  rivals::steady::time_point sent{};
};

std::uint32_t blocking_every = 0;

void send_message(connection& to) {
  std::array<char, message_size> message{};
  to.blocks = blocking_every != 0 && ++to.asked % blocking_every == 0;
  if (to.blocks) message[0] = rivals::asks_to_block;
  to.received = 0;
  to.sent = rivals::steady::now();
  rivals::require(send(to.fd, message.data(), message.size(), MSG_NOSIGNAL) == message_size,
                  "a message was not taken whole");
}

int connect_to(std::uint16_t port) {
  const int fd = rivals::checked(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  const sockaddr_in address = rivals::loopback(port);
  rivals::checked(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address),
                  "connect");
  rivals::set_nodelay(fd);
  return fd;
}

/// Round trips on some connections until `end`, their times in microseconds.
std::vector<double> load(std::vector<connection>& all, rivals::steady::time_point end) {
  const int epoll = rivals::checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  for (std::size_t i = 0; i < all.size(); ++i) rivals::watch(epoll, all[i].fd, EPOLLIN, i);
  for (connection& one : all) send_message(one);
  std::vector<double> times;
  times.reserve(1'000'000);
  char bytes[message_size];
  epoll_event events[128];
  while (true) {
    const int count = epoll_wait(epoll, events, 128, 1000);
    rivals::require(count > 0, "no answer within a second");
    for (int i = 0; i < count; ++i) {
      connection& one = all[events[i].data.u64];
      const ssize_t got = recv(one.fd, bytes, message_size - one.received, 0);
      rivals::require(got > 0, "the server ended a connection");
      one.received += static_cast<std::size_t>(got);
      if (one.received < message_size) continue;
      if (!one.blocks) times.push_back(rivals::ns_since(one.sent) / 1e3);
      send_message(one);
    }
    if (rivals::steady::now() >= end) break;
  }
  close(epoll);
  return times;
}

}  // namespace

int main(int argc, char** argv) {
  rivals::require(argc == 5 || argc == 6, "client PORT CONNECTIONS SECONDS THREADS [BLOCKING]");
  if (argc == 6) blocking_every = static_cast<std::uint32_t>(std::atoi(argv[5]));
  const auto port = static_cast<std::uint16_t>(std::atoi(argv[1]));
  const auto connections = static_cast<std::size_t>(std::atoi(argv[2]));
  const double seconds = std::atof(argv[3]);
  const auto threads = std::min(static_cast<std::size_t>(std::atoi(argv[4])), connections);
  std::vector<std::vector<connection>> shares(threads);
  for (std::size_t i = 0; i < connections; ++i) {
    shares[i % threads].push_back(
        {.fd = connect_to(port), .asked = static_cast<std::uint32_t>(i)});  // Not all at once.
  }
  const auto start = rivals::steady::now();
  const auto end = start + std::chrono::duration_cast<rivals::steady::duration>(
                               std::chrono::duration<double>{seconds});
  std::vector<std::vector<double>> times(threads);
  std::vector<std::thread> loaders;
  for (std::size_t i = 0; i < threads; ++i) {
    loaders.emplace_back([&, i] { times[i] = load(shares[i], end); });
  }
  for (std::thread& one : loaders) one.join();
  const double took = rivals::ns_since(start) / 1e9;
  std::vector<double> all;
  for (const auto& some : times) all.insert(all.end(), some.begin(), some.end());
  rivals::require(!all.empty(), "no round trip");
  const double p50 = rivals::percentile(all, 50);
  std::printf("%.6g\t%.6g\t%.6g\n", static_cast<double>(all.size()) / took, p50,
              rivals::percentile(all, 99));
}
