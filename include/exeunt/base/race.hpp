// SPDX-License-Identifier: Apache-2.0
// The happens-before edges of docs/memory-model.md, told to ThreadSanitizer.
//
// The runtime's own rooms are compiled without the tool's instrumentation, so that their locks
// and queues add no order that the program does not have. What a primitive promises is stated
// by these two calls and by nothing else.

#pragma once

#if defined(EXEUNT_TSAN) || defined(__SANITIZE_THREAD__)
#define EXEUNT_HAS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EXEUNT_HAS_TSAN 1
#endif
#endif

#ifdef EXEUNT_HAS_TSAN
extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_func_entry(void* call);
void __tsan_func_exit();
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
/// For inline functions of the runtime's own locks and lists: never instrumented.
/// The second attribute is for atomic operations, which the first one leaves instrumented.
#define EXEUNT_NO_TSAN [[gnu::no_sanitize_thread, clang::disable_sanitizer_instrumentation]]
#else
#define EXEUNT_NO_TSAN
#endif

namespace exeunt::detail {

/// What was released at `address` happens before what follows here.
inline void race_acquire([[maybe_unused]] const void* address) noexcept {
#ifdef EXEUNT_HAS_TSAN
  __tsan_acquire(const_cast<void*>(address));
#endif
}

/// What came before here happens before what follows an acquire of `address`.
inline void race_release([[maybe_unused]] const void* address) noexcept {
#ifdef EXEUNT_HAS_TSAN
  __tsan_release(const_cast<void*>(address));
#endif
}

/// While one lives, what this fiber reads and writes is not looked at. Not being instrumented is
/// not enough where the C library is called: the tool sees every memcpy, strlen and delete.
class [[nodiscard]] race_ignore {
 public:
#ifdef EXEUNT_HAS_TSAN
  race_ignore() noexcept {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~race_ignore() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
#else
  race_ignore() noexcept {}
  ~race_ignore() {}
#endif
  race_ignore(const race_ignore&) = delete;
  race_ignore& operator=(const race_ignore&) = delete;
};

/// Tells the tool of a call it cannot see, so that the stack it keeps for a fiber's creation ends
/// with the line that called: `race_frame frame{__builtin_return_address(0)}`.
class [[nodiscard]] race_frame {
 public:
#ifdef EXEUNT_HAS_TSAN
  explicit race_frame(void* call) noexcept { __tsan_func_entry(call); }
  ~race_frame() { __tsan_func_exit(); }
#else
  explicit race_frame(void* /*call*/) noexcept {}
  ~race_frame() {}
#endif
  race_frame(const race_frame&) = delete;
  race_frame& operator=(const race_frame&) = delete;
};

}  // namespace exeunt::detail
