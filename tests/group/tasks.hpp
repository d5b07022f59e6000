// SPDX-License-Identifier: Apache-2.0
// Tasks for groups.

#pragma once

#include <optional>

#include <exeunt/base/error.hpp>
#include <exeunt/context/context.hpp>

namespace exeunt::test {

inline auto returning(std::optional<error> outcome) {
  return [outcome](const context&) -> result<> {
    if (outcome) return fail(*outcome);
    return {};
  };
}

inline result<> until_ended(const context& ctx) {
  ctx.wait();
  return fail(*ctx.err());
}

}  // namespace exeunt::test
