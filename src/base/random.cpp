// SPDX-License-Identifier: Apache-2.0
// Seeds from the kernel.
// Tests: tests/base/random_test.cpp.

#include <exeunt/base/random.hpp>

#include <sys/random.h>

namespace exeunt::detail {

std::uint64_t random_seed() noexcept {
  std::uint64_t seed = 0;
  // Early in boot the call can fail; a fixed seed then still chooses fairly.
  if (::getrandom(&seed, sizeof seed, GRND_NONBLOCK) != static_cast<ssize_t>(sizeof seed)) return 1;
  return seed;
}

}  // namespace exeunt::detail
