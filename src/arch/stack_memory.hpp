// SPDX-License-Identifier: Apache-2.0
// What the kernel does for stacks: address space, guards, and taking memory back.

#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <span>

namespace exeunt::arch {

// Newer than the C library's headers.
inline constexpr int madv_guard_install = 102;

std::size_t page_bytes();

inline std::size_t round_up(std::size_t bytes, std::size_t step) {
  return (bytes + step - 1) / step * step;
}

/// Private memory to read and write, none of it touched. Returns: null if there is no address space
/// for it.
void* map_fresh(std::size_t bytes);

/// Whether guards can be marks in the page tables, which split no mapping: Linux from 6.13.
bool have_light_guards();

/// Of the system, as it was at the first call.
long max_map_count();

/// Makes a guard by page protection. Each one splits a mapping and so costs two of what a process
/// may have, so there is a budget for all of them together; negative: half of what is allowed.
/// Returns: false if that is used up, or the kernel refuses.
bool protect_guard(void* base, std::size_t bytes, long budget);
/// So many guards by page protection are gone with their mapping.
void forget_protected_guards(long count);

/// Advises the kernel of each of `ranges`, in one call if it can. Returns: how many, from the first
/// on, it took.
std::size_t advise(std::span<const iovec> ranges, int advice);

/// A few ranges that are advised together.
class batch_of_advice {
 public:
  explicit batch_of_advice(int advice) : advice_(advice) {}
  ~batch_of_advice() { flush(); }
  batch_of_advice(const batch_of_advice&) = delete;
  batch_of_advice& operator=(const batch_of_advice&) = delete;

  void add(void* base, std::size_t bytes) {
    if (count_ == ranges_.size()) flush();
    ranges_[count_++] = {base, bytes};
  }
  void flush() {
    advise({ranges_.data(), count_}, advice_);
    count_ = 0;
  }

 private:
  int advice_;
  std::size_t count_ = 0;
  std::array<iovec, 64> ranges_;
};

}  // namespace exeunt::arch
