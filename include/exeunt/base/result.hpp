// SPDX-License-Identifier: Apache-2.0
// result<T>: a value or an error. True is success, everywhere.

#pragma once

#include <expected>
#include <string>
#include <utility>

#include <exeunt/base/error.hpp>

namespace exeunt {

/// What a call returns that can fail in production.
template <typename T = void>
using result = std::expected<T, error>;

/// `return fail(errc::closed, "accept")` from any function that returns a result.
[[nodiscard]] inline std::unexpected<error> fail(error e) noexcept {
  return std::unexpected<error>{std::move(e)};
}
[[nodiscard]] inline std::unexpected<error> fail(errc code, std::string message) {
  return std::unexpected<error>{error{code, std::move(message)}};
}

/// What main() returns: 0 for success and for "ended by a signal as asked"; else 1, with the
/// message on stderr.
EXEUNT_API int exit_code(const result<>& outcome) noexcept;

}  // namespace exeunt
