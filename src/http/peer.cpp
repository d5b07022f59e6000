// SPDX-License-Identifier: Apache-2.0
// Asks the system about a socket's peer, without reading.
//
// Tests: tests/http/idle_test.cpp, response_test.cpp.

#include "http/peer.hpp"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

namespace exeunt::detail {

peer_state look_at_peer(int fd) noexcept {
  if (fd < 0) return {.left = true};  // Closed by ourselves; poll(2) would pass it over.
  pollfd asked{.fd = fd, .events = POLLIN | POLLRDHUP, .revents = 0};
  if (::poll(&asked, 1, 0) <= 0) return {};
  return {.left = (asked.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0,
          .sent = (asked.revents & POLLIN) != 0};
}

bool has_all(int fd) noexcept {
  int domain = 0;
  socklen_t size = sizeof domain;
  if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 || domain == AF_UNIX)
    return true;
  int unacknowledged = 0;
  return ::ioctl(fd, SIOCOUTQ, &unacknowledged) == 0 && unacknowledged == 0;
}

}  // namespace exeunt::detail
