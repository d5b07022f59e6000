// SPDX-License-Identifier: Apache-2.0
// Calls into the sanitizers' fiber interfaces; no state. Compiled without -fsanitize=thread: an
// instrumented function that switches ThreadSanitizer's fiber would leave on another shadow stack
// than it entered on.

#include "arch/sanitizer.hpp"

#include "arch/race_options.hpp"

#if EXEUNT_SAN_ADDRESS || EXEUNT_SAN_THREAD

#include <pthread.h>
#include <sys/mman.h>

#include <exeunt/base/assert.hpp>

// The declarations are repeated, as the compilers' headers for them come and go with the compiler.
extern "C" {
#if EXEUNT_SAN_ADDRESS
void __sanitizer_start_switch_fiber(void** fake_stack_save, const void* bottom, std::size_t size);
void __sanitizer_finish_switch_fiber(void* fake_stack_save, const void** bottom_old,
                                     std::size_t* size_old);
void __asan_unpoison_memory_region(const volatile void* address, std::size_t size);
#endif
#if EXEUNT_SAN_THREAD
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_set_fiber_name(void* fiber, const char* name);
#endif
}

#if EXEUNT_SAN_THREAD
// Here, where every program's linker looks, and not beside race_options(): the tool has a weak one
// of its own, for which alone no other file of a library would be taken in.
extern "C" [[gnu::visibility("default")]] const char* __tsan_default_options() {
  return exeunt::arch::race_options();
}
#endif

namespace exeunt::arch {

void san_create([[maybe_unused]] san_context& context, [[maybe_unused]] const char* name) {
#if EXEUNT_SAN_THREAD
  context.tsan = __tsan_create_fiber(0);
  if (name != nullptr) __tsan_set_fiber_name(context.tsan, name);
#endif
}

void san_destroy([[maybe_unused]] san_context& context) {
#if EXEUNT_SAN_THREAD
  if (context.tsan == nullptr) return;
  EXEUNT_ASSERT(context.tsan != __tsan_get_current_fiber(), "a running fiber cannot be destroyed");
  __tsan_destroy_fiber(context.tsan);
  context.tsan = nullptr;
#endif
}

void san_adopt_thread(san_context& context) {
#if EXEUNT_SAN_THREAD
  context.tsan = __tsan_get_current_fiber();
#endif
  pthread_attr_t attributes;
  EXEUNT_ASSERT(pthread_getattr_np(pthread_self(), &attributes) == 0);
  void* bottom = nullptr;
  EXEUNT_ASSERT(pthread_attr_getstack(&attributes, &bottom, &context.size) == 0);
  context.bottom = bottom;
  pthread_attr_destroy(&attributes);
}

EXEUNT_NO_ASAN void san_before_switch([[maybe_unused]] san_context& from, san_context& to,
                                      [[maybe_unused]] bool from_dies) {
#if EXEUNT_SAN_ADDRESS
  __sanitizer_start_switch_fiber(from_dies ? nullptr : &from.fake_stack, to.bottom, to.size);
#endif
#if EXEUNT_SAN_THREAD
  // 1: without an order between the two. The runtime states the orders that the program has, and a
  // switch is none: two fibers that a worker runs in turn may still race.
  __tsan_switch_to_fiber(to.tsan, 1);
#endif
}

EXEUNT_NO_ASAN void san_after_switch([[maybe_unused]] san_context& self) {
#if EXEUNT_SAN_ADDRESS
  __sanitizer_finish_switch_fiber(self.fake_stack, nullptr, nullptr);
  self.fake_stack = nullptr;
#endif
}

void san_recycle([[maybe_unused]] void* base, [[maybe_unused]] std::size_t size) {
#if EXEUNT_SAN_ADDRESS
  __asan_unpoison_memory_region(base, size);
#endif
#if EXEUNT_SAN_THREAD
  void* const fresh =
      ::mmap(base, size, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK | MAP_FIXED, -1, 0);
  EXEUNT_ASSERT(fresh == base, "a mapped stack could not be mapped anew");
  ::madvise(base, size, MADV_NOHUGEPAGE);  // as its neighbours, so that the kernel merges them
#endif
}

}  // namespace exeunt::arch

#endif
