// SPDX-License-Identifier: Apache-2.0
// Whether the other end of a socket is still there.

#pragma once

namespace exeunt::detail {

/// True if the peer of `fd` has ended its writing or has gone, also behind unread bytes.
[[nodiscard]] bool peer_has_left(int fd) noexcept;

}  // namespace exeunt::detail
