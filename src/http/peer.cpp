// SPDX-License-Identifier: Apache-2.0
// Asks the system about a socket's peer, without reading.
//
// Tests: tests/http/idle_test.cpp.

#include "http/peer.hpp"

#include <poll.h>

namespace exeunt::detail {

peer_state look_at_peer(int fd) noexcept {
  if (fd < 0) return {.left = true};  // Closed by ourselves; poll(2) would pass it over.
  pollfd asked{.fd = fd, .events = POLLIN | POLLRDHUP, .revents = 0};
  if (::poll(&asked, 1, 0) <= 0) return {};
  return {.left = (asked.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0,
          .sent = (asked.revents & POLLIN) != 0};
}

}  // namespace exeunt::detail
