// SPDX-License-Identifier: Apache-2.0
// Invariant: protected_guards is the number of guards by page protection in what the process has
// mapped for stacks.
// Locks and wake-ups: none.
// Tests: tests/arch/stack_test.cpp.

#include "arch/stack_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include <exeunt/base/atomic.hpp>

namespace exeunt::arch {

using detail::atomic;
using detail::memory_order_relaxed;

namespace {

constexpr int pidfd_self = -10000;  // Newer than the C library's headers.

// For the budget. order: relaxed throughout, a count that nothing else hangs on.
atomic<long> protected_guards{0};

// Whether the marks do what they say: an emulator may take unknown advice for a hint and succeed.
bool probe_light_guards() {
  void* const page = map_fresh(page_bytes());
  if (page == nullptr) return false;
  bool works = false;
  if (::madvise(page, page_bytes(), madv_guard_install) == 0) {
    // The kernel is asked to read a path there: EFAULT if it cannot, ENOENT for the empty path.
    const int rc = ::access(static_cast<const char*>(page), F_OK);
    works = rc != 0 && errno == EFAULT;
  }
  ::munmap(page, page_bytes());
  return works;
}

}  // namespace

std::size_t page_bytes() {
  static const auto bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

void* map_fresh(std::size_t bytes) {
  void* const base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (base == MAP_FAILED) return nullptr;
  ::madvise(base, bytes, MADV_NOHUGEPAGE);  // a touched page must not become 2 MiB of memory
  return base;
}

bool have_light_guards() {
  static const bool have = probe_light_guards();
  return have;
}

long max_map_count() {
  static const long count = [] {
    long value = 65530;  // the kernel's default
    if (std::FILE* file = std::fopen("/proc/sys/vm/max_map_count", "re")) {
      if (std::fscanf(file, "%ld", &value) != 1) value = 65530;
      std::fclose(file);
    }
    return value;
  }();
  return count;
}

bool protect_guard(void* base, std::size_t bytes, long budget) {
  if (budget < 0) budget = max_map_count() / 4;
  if (protected_guards.fetch_add(1, memory_order_relaxed) < budget &&
      ::mprotect(base, bytes, PROT_NONE) == 0) {
    return true;
  }
  protected_guards.fetch_sub(1, memory_order_relaxed);
  return false;
}

void forget_protected_guards(long count) {
  protected_guards.fetch_sub(count, memory_order_relaxed);
}

std::size_t advise(std::span<const iovec> ranges, int advice) {
  // order: relaxed, a hint that saves further attempts.
  static atomic<bool> in_one_call{true};
  std::size_t done = 0;
  if (ranges.size() > 1 && in_one_call.load(memory_order_relaxed)) {
    auto bytes =
        ::syscall(SYS_process_madvise, pidfd_self, ranges.data(), ranges.size(), advice, 0);
    if (bytes < 0) in_one_call.store(false, memory_order_relaxed);
    for (; done < ranges.size() && bytes > 0; ++done)
      bytes -= static_cast<long>(ranges[done].iov_len);
    if (bytes < 0) --done;  // It ended within a range: once more.
  }
  for (; done < ranges.size(); ++done) {
    if (::madvise(ranges[done].iov_base, ranges[done].iov_len, advice) != 0) break;
  }
  return done;
}

}  // namespace exeunt::arch
