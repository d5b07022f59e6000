// SPDX-License-Identifier: Apache-2.0
// A TCP echo server without any library: each thread has an epoll instance and a listening socket
// of its own on the same port. It prints its port and serves until killed. This is the limit.

#include <cstdio>
#include <thread>
#include <vector>

#include "echo/socket.hpp"
#include "harness.hpp"

namespace {

int listen_at(std::uint16_t port) {
  const int fd =
      rivals::checked(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
  const int on = 1;
  rivals::checked(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on), "setsockopt");
  const sockaddr_in address = rivals::loopback(port);
  rivals::checked(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), "bind");
  rivals::checked(listen(fd, 4096), "listen");
  return fd;
}

void accept_all(int epoll, int door) {
  while (true) {
    const int fd = accept4(door, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    rivals::set_nodelay(fd);
    rivals::watch(epoll, fd, EPOLLIN, static_cast<std::uint64_t>(fd));
  }
}

void echo(int fd) {
  char bytes[4096];
  const ssize_t count = recv(fd, bytes, sizeof bytes, 0);
  if (count > 0) {
    if (bytes[0] == rivals::asks_to_block) rivals::block_thread();
    static_cast<void>(send(fd, bytes, static_cast<std::size_t>(count), MSG_NOSIGNAL));
  } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
    close(fd);
  }
}

void serve(int door) {
  const int epoll = rivals::checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  rivals::watch(epoll, door, EPOLLIN, static_cast<std::uint64_t>(door));
  epoll_event events[128];
  while (true) {
    const int count = epoll_wait(epoll, events, 128, -1);
    for (int i = 0; i < count; ++i) {
      const int fd = static_cast<int>(events[i].data.u64);
      if (fd == door) {
        accept_all(epoll, door);
      } else {
        echo(fd);
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const rivals::harness bench{argc, argv};
  std::vector<int> doors{listen_at(0)};
  sockaddr_in address{};
  socklen_t size = sizeof address;
  rivals::checked(getsockname(doors[0], reinterpret_cast<sockaddr*>(&address), &size),
                  "getsockname");
  for (unsigned i = 1; i < bench.workers(); ++i)
    doors.push_back(listen_at(ntohs(address.sin_port)));
  std::vector<std::thread> threads;
  for (std::size_t i = 1; i < doors.size(); ++i) threads.emplace_back(serve, doors[i]);
  std::printf("%u\n", unsigned{ntohs(address.sin_port)});
  std::fflush(stdout);
  serve(doors[0]);
}
