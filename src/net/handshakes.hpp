// SPDX-License-Identifier: Apache-2.0
// Asks the system for TCP handshakes under way.

#pragma once

#include <cstddef>

#include <exeunt/base/result.hpp>
#include <exeunt/net/address.hpp>

namespace exeunt::net {

/// How many clients have asked for a connection to this address' port and were answered, but have
/// not confirmed. Does not look at the host, so listeners of other hosts with that port count, too.
///
/// Returns: the system's error if it does not tell.
[[nodiscard]] result<std::size_t> count_handshakes(const address& local);

}  // namespace exeunt::net
