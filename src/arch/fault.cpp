// SPDX-License-Identifier: Apache-2.0
//
// The handler that tells a fiber's stack overflow from other faults.
//
// Invariants.
//   I1  previous[] is written before our handler can run, and not while it is installed.
//   I2  A fault is never swallowed: it ends in the previous handler or in the default action.
//
// Locks. installing, a leaf, against two installers; the handler takes none.
//
// Tests. fault_test.cpp: I2 by death tests with and without a previous handler.

#include "arch/fault.hpp"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include <exeunt/base/assert.hpp>
#include <exeunt/base/atomic.hpp>
#include <exeunt/base/spin_lock.hpp>

namespace exeunt::arch {
namespace {

using detail::atomic;
using detail::memory_order_acquire;
using detail::memory_order_release;

constexpr int fault_signals[] = {SIGSEGV, SIGBUS};

detail::spin_lock installing;
unsigned wanted = 0;     // install_fault_handler() calls that have not been taken back.
bool installed = false;  // While wanted, or while somebody who replaced ours may call it.
struct sigaction previous[std::size(fault_signals)];
atomic<describe_fault> describe_now{nullptr};

struct sigaction& previous_of(int signal_number) {
  return previous[signal_number == fault_signals[0] ? 0 : 1];
}

// Text put together without allocation, written at once so that lines of two threads do not mix.
struct report {
  char text[512];
  std::size_t size = 0;

  void add(const char* part) {
    const std::size_t n = std::min(std::strlen(part), sizeof text - size);
    std::memcpy(text + size, part, n);
    size += n;
  }
  void write() const {
    // A short write loses the rest of the line; in a dying process that is all that can be done.
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, size);
  }
};

void pass_on(int signal_number, siginfo_t* info, void* machine_context) {
  const struct sigaction& before = previous_of(signal_number);
  if ((before.sa_flags & SA_SIGINFO) != 0) {
    before.sa_sigaction(signal_number, info, machine_context);
    return;
  }
  if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    before.sa_handler(signal_number);
    return;
  }
  const bool sent_by_someone = info->si_code <= 0;  // kill() and the like, no fault
  if (before.sa_handler == SIG_IGN && sent_by_someone) return;
  // With the default action in place the instruction is run again and faults again, so the process
  // dies with the registers and the core that it would have had without us.
  struct sigaction by_default{};
  by_default.sa_handler = SIG_DFL;
  ::sigaction(signal_number, &by_default, nullptr);
  if (sent_by_someone) ::raise(signal_number);  // pending until we return
}

void on_fault(int signal_number, siginfo_t* info, void* machine_context) {
  const int saved_errno = errno;
  // order: acquire, pairs with the release in install_fault_handler(); what describe reads.
  const describe_fault describe = describe_now.load(memory_order_acquire);
  char whose[256];
  if (info->si_code > 0 && describe != nullptr && describe(info->si_addr, whose, sizeof whose)) {
    report r;
    r.add("exeunt: stack overflow in ");
    r.add(whose);
    r.add(
        "\nexeunt: its stack is used up: endless recursion, large local variables, or too small"
        " a stack_size (fiber_options, runtime_options)\n");
    r.write();
  }
  pass_on(signal_number, info, machine_context);
  errno = saved_errno;
}

// Stands at the low end of the alternate stacks that we made, so that they are known again without
// a thread-local variable. The address in it makes a chance hit impossible.
struct alt_stack_mark {
  const void* self;
  const void* maker;
  void* mapping;
  std::size_t mapping_bytes;
};

const void* const maker_tag = &describe_now;

std::size_t page_bytes() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

}  // namespace

void install_fault_handler(describe_fault describe) {
  const detail::spin_guard held(installing);
  // order: release, pairs with the acquire in on_fault().
  describe_now.store(describe, memory_order_release);
  ++wanted;
  if (installed) return;
  for (const int signal_number : fault_signals) {
    ::sigaction(signal_number, nullptr, &previous_of(signal_number));  // I1
    struct sigaction ours{};
    ours.sa_sigaction = on_fault;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigemptyset(&ours.sa_mask);
    EXEUNT_ASSERT(::sigaction(signal_number, &ours, nullptr) == 0);
  }
  installed = true;
}

void uninstall_fault_handler() {
  const detail::spin_guard held(installing);
  if (wanted == 0 || --wanted > 0) return;
  bool all_back = true;
  for (const int signal_number : fault_signals) {
    struct sigaction now{};
    ::sigaction(signal_number, nullptr, &now);
    const bool ours = (now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == on_fault;
    if (ours) ::sigaction(signal_number, &previous_of(signal_number), nullptr);
    all_back = all_back && ours;
  }
  // order: release, as in install_fault_handler().
  describe_now.store(nullptr, memory_order_release);
  // Whoever replaced ours may still call it, so it stays as it is and only passes faults on.
  installed = !all_back;
}

void ensure_alt_stack() {
  stack_t now{};
  EXEUNT_ASSERT(::sigaltstack(nullptr, &now) == 0);
  if ((now.ss_flags & SS_DISABLE) == 0) return;
  // Enough for a previous handler that prints a stack trace; only what is touched is memory.
  const std::size_t page = page_bytes();
  const auto kernel_wants = static_cast<std::size_t>(std::max(::sysconf(_SC_SIGSTKSZ), 0L));
  const std::size_t usable =
      (std::max(std::size_t{64} * 1024, kernel_wants) + page - 1) / page * page;
  const std::size_t bytes = page + usable;
  void* const mapping = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (mapping == MAP_FAILED) return;  // overflows then die without a report, as without us
  ::mprotect(mapping, page, PROT_NONE);
  auto* const low = static_cast<std::byte*>(mapping) + page;
  const alt_stack_mark mark{low, maker_tag, mapping, bytes};
  std::memcpy(low, &mark, sizeof mark);
  stack_t ours{};
  ours.ss_sp = low;
  ours.ss_size = usable;
  if (::sigaltstack(&ours, nullptr) != 0) ::munmap(mapping, bytes);
}

void release_alt_stack() {
  stack_t now{};
  EXEUNT_ASSERT(::sigaltstack(nullptr, &now) == 0);
  if ((now.ss_flags & SS_DISABLE) != 0 || now.ss_size < sizeof(alt_stack_mark)) return;
  alt_stack_mark mark{};
  std::memcpy(&mark, now.ss_sp, sizeof mark);
  if (mark.self != now.ss_sp || mark.maker != maker_tag) return;
  stack_t none{};
  none.ss_flags = SS_DISABLE;
  ::sigaltstack(&none, nullptr);
  ::munmap(mark.mapping, mark.mapping_bytes);
}

}  // namespace exeunt::arch
