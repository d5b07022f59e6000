// SPDX-License-Identifier: Apache-2.0
// The only source of chance: a small seeded generator.

#pragma once

#include <cstdint>

#include <exeunt/base/export.hpp>

namespace exeunt::detail {

/// xorshift64*, Marsaglia 2003 and Vigna 2016; good enough to choose, not to keep secrets.
class random_source {
 public:
  explicit constexpr random_source(std::uint64_t seed) noexcept
      : state_{seed == 0 ? 0x9e3779b97f4a7c15U : seed} {}

  constexpr std::uint64_t next() noexcept {
    state_ ^= state_ >> 12U;
    state_ ^= state_ << 25U;
    state_ ^= state_ >> 27U;
    return state_ * 0x2545f4914f6cdd1dU;
  }

  /// Uniform in [0, bound), bound > 0; by multiplication, Lemire 2016 (bias below 2^-32).
  constexpr std::uint32_t below(std::uint32_t bound) noexcept {
    return static_cast<std::uint32_t>(((next() >> 32U) * bound) >> 32U);
  }

 private:
  std::uint64_t state_;
};

/// A seed from the operating system, for a runtime that was given none.
EXEUNT_API std::uint64_t random_seed() noexcept;

}  // namespace exeunt::detail
