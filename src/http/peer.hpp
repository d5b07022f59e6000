// SPDX-License-Identifier: Apache-2.0
// Asks the system about a socket's peer, without reading.

#pragma once

namespace exeunt::detail {

struct peer_state {
  bool left = false;  ///< it writes no more, or the connection is broken or closed
  bool sent = false;  ///< there is something to read
};

[[nodiscard]] peer_state look_at_peer(int fd) noexcept;

/// Whether the peer has all that was written, as far as that matters: over a unix socket nothing
/// is lost with a close.
[[nodiscard]] bool has_all(int fd) noexcept;

}  // namespace exeunt::detail
