// SPDX-License-Identifier: Apache-2.0
// What all byte streams share, and what can be done with any of them.

#pragma once

#include <concepts>
#include <cstddef>

#include <exeunt/base/result.hpp>
#include <exeunt/context/context.hpp>
#include <exeunt/net/buffer.hpp>

namespace exeunt::net {

/// Reads some bytes (0: the end) and writes all it is given, waiting as long as a context lives.
template <typename S>
concept byte_stream = requires(S& stream, const context& ctx, buffer into, const_buffer from) {
  { stream.read(ctx, into) } -> std::same_as<result<std::size_t>>;
  { stream.write(ctx, from) } -> std::same_as<result<>>;
};

/// Reads until `into` is full.
///
/// Returns: errc::closed, "unexpected end", if the stream ends before; else what read() fails with.
/// Blocks:  as read().
template <byte_stream S>
[[nodiscard]] result<> read_full(const context& ctx, S& stream, buffer into) {
  while (!into.empty()) {
    const result<std::size_t> count = stream.read(ctx, into);
    if (!count) return fail(count.error());
    if (*count == 0) return fail(errc::closed, "unexpected end of the stream");
    into = into.after(*count);
  }
  return {};
}

/// Copies from one stream to another until the first ends.
///
/// Returns: the number of bytes copied.
/// Blocks:  as read() and write().
template <byte_stream From, byte_stream To>
[[nodiscard]] result<std::size_t> copy(const context& ctx, From& from, To& to) {
  constexpr std::size_t chunk = std::size_t{16} * 1024;  // Of the stack; a fiber has 128 KiB.
  char bytes[chunk];
  std::size_t total = 0;
  while (true) {
    const result<std::size_t> count = from.read(ctx, bytes);
    if (!count) return fail(count.error());
    if (*count == 0) return total;
    if (auto written = to.write(ctx, const_buffer{bytes, *count}); !written) {
      return fail(written.error());
    }
    total += *count;
  }
}

}  // namespace exeunt::net
