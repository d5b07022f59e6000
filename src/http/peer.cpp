// SPDX-License-Identifier: Apache-2.0
// Asks the system about a socket's peer, without reading.
//
// Tests: tests/http/idle_test.cpp.

#include "http/peer.hpp"

#include <poll.h>

namespace exeunt::detail {

bool peer_has_left(int fd) noexcept {
  pollfd asked{.fd = fd, .events = POLLRDHUP, .revents = 0};
  return ::poll(&asked, 1, 0) > 0 && (asked.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

}  // namespace exeunt::detail
