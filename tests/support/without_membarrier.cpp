// SPDX-License-Identifier: Apache-2.0
// Runs a program to which the kernel refuses membarrier(2), as an old one does, or the filter of a
// container: then the runtime has no asymmetric fences, and takes other ways.
//
// Usage:   without_membarrier <program> [<argument>...]
// Status:  the program's own; 127 if there is none. Where the kernel has no such filters it is a
//          skipped test to tools/count.py, and a success to CTest.

#include <cerrno>
#include <cstddef>
#include <cstdio>

#include <linux/filter.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

constexpr int no_program = 127;

bool refuse_membarrier() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{sizeof program / sizeof program[0], program};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0 &&
         ::syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0) == -1 && errno == ENOSYS;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fputs("usage: without_membarrier <program> [<argument>...]\n", stderr);
    return no_program;
  }
  if (!refuse_membarrier()) {
    std::perror("membarrier cannot be refused here");
    std::puts("[  SKIPPED ] without_membarrier (0 ms)");
    return 0;
  }
  ::execv(argv[1], argv + 1);
  std::perror(argv[1]);
  return no_program;
}
