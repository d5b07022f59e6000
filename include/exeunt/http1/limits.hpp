// SPDX-License-Identifier: Apache-2.0
// How much of a request is read before it is refused.

#pragma once

#include <cstdint>

namespace exeunt::http1 {

/// Bounds on one request. What exceeds one is refused with the status named beside it.
struct limits {
  /// Request line and fields with the empty line that ends them: 431. Also bounds the empty lines
  /// that may precede a request line: 400.
  std::uint32_t head_bytes = 16 * 1024;
  /// The request target: 414.
  std::uint32_t target_bytes = 8 * 1024;
  /// Fields of the head, and fields of the trailer: 431. The slots given to the parser bound it
  /// too.
  std::uint32_t fields = 100;
  /// Trailer fields after a chunked body, line ends included: 431.
  std::uint32_t trailer_bytes = 8 * 1024;
  /// The body without its framing: 413. Decided from Content-Length when the head is complete, from
  /// a chunk's size when the line that announces it is.
  std::uint64_t body_bytes = 1024 * 1024;
};

}  // namespace exeunt::http1
