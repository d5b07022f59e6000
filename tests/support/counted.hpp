// SPDX-License-Identifier: Apache-2.0
// A value that knows whether it is there, and how many of its kind there are.

#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>

namespace exeunt::test {

/// Each use checks that it has not been destroyed, nor changed while somebody looks.
class counted {
 public:
  explicit counted(int number) noexcept : number_{number} { ++alive; }
  counted(const counted& other) noexcept : number_{other.number()} { ++alive; }
  counted& operator=(const counted& other) noexcept {
    number_ = other.number();
    check_ = fine;
    return *this;
  }
  ~counted() {
    check();
    check_ = gone;
    --alive;
  }

  [[nodiscard]] int number() const noexcept {
    check();
    return number_;
  }

  inline static std::atomic<int> alive{0};

 private:
  static constexpr std::uint64_t fine = 0x600d600d600d600d;
  static constexpr std::uint64_t gone = 0xdeaddeaddeaddead;

  void check() const noexcept { EXPECT_EQ(check_, fine) << "used after its end"; }

  int number_;
  volatile std::uint64_t check_ = fine;
};

}  // namespace exeunt::test
