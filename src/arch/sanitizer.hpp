// SPDX-License-Identifier: Apache-2.0
//
// Tells the sanitizers which stack a thread runs on. Compiles to nothing without them.
//
// Rooms of the runtime are compiled without -fsanitize=thread but linked into binaries that have
// it, so ThreadSanitizer is announced by EXEUNT_TSAN=1; AddressSanitizer announces itself.
//
// Use, around every switch:  san_before_switch(from, to, from_dies);
//                            switch_to(...);
//                            san_after_switch(self);   // on the other stack, with its own context
// Nothing but the switch may stand in between, least of all instrumented code.
#pragma once

#include <cstddef>

#if defined(__has_feature)
#define EXEUNT_HAS_FEATURE(feature) __has_feature(feature)
#else
#define EXEUNT_HAS_FEATURE(feature) 0
#endif

/// 1 or 0, unlike EXEUNT_ASAN and EXEUNT_TSAN, which the build defines or not.
#if defined(EXEUNT_ASAN) || defined(__SANITIZE_ADDRESS__) || EXEUNT_HAS_FEATURE(address_sanitizer)
#define EXEUNT_SAN_ADDRESS 1
#else
#define EXEUNT_SAN_ADDRESS 0
#endif
#if defined(EXEUNT_TSAN) || defined(__SANITIZE_THREAD__) || EXEUNT_HAS_FEATURE(thread_sanitizer)
#define EXEUNT_SAN_THREAD 1
#else
#define EXEUNT_SAN_THREAD 0
#endif

/// For functions that hold a switch. AddressSanitizer's frames keep a base in a register that the
/// switch changes.
#if EXEUNT_SAN_ADDRESS
#define EXEUNT_NO_ASAN [[gnu::no_sanitize_address]]
#else
#define EXEUNT_NO_ASAN
#endif

namespace exeunt::arch {

#if EXEUNT_SAN_ADDRESS || EXEUNT_SAN_THREAD

/// What the sanitizers know of one stack: a fiber's, or a thread's own.
struct san_context {
  void* fake_stack = nullptr;    ///< AddressSanitizer's shadow frames while the stack is left
  const void* bottom = nullptr;  ///< lowest usable byte; see san_bind()
  std::size_t size = 0;          ///< usable bytes
  void* tsan = nullptr;          ///< ThreadSanitizer's fiber
};

/// The fiber has a stack now.
inline void san_bind(san_context& context, const void* bottom, std::size_t size) {
  context.bottom = bottom;
  context.size = size;
}
/// Announces a new fiber; the place of the call shows as its creation. `name` is copied and may be
/// null.
void san_create(san_context& context, const char* name);
/// Ends a fiber's announcement. Asserts: not the running one.
void san_destroy(san_context& context);
/// Makes `context` that of the calling thread's own stack.
void san_adopt_thread(san_context& context);
/// The last thing before leaving `from` for `to`; `from_dies`: nobody will switch back.
void san_before_switch(san_context& from, san_context& to, bool from_dies);
/// The first thing on `self` after it was entered, also for the first time.
void san_after_switch(san_context& self);
/// Forgets what earlier frames left on recycled stack memory. ThreadSanitizer's history of it goes
/// only by mapping it anew, which drops its contents.
void san_recycle(void* base, std::size_t size);

#else

struct san_context {};

inline void san_bind(san_context& /*context*/, const void* /*bottom*/, std::size_t /*size*/) {}
inline void san_create(san_context& /*context*/, const char* /*name*/) {}
inline void san_destroy(san_context& /*context*/) {}
inline void san_adopt_thread(san_context& /*context*/) {}
inline void san_before_switch(san_context& /*from*/, san_context& /*to*/, bool /*from_dies*/) {}
inline void san_after_switch(san_context& /*self*/) {}
inline void san_recycle(void* /*base*/, std::size_t /*size*/) {}

#endif

}  // namespace exeunt::arch
