# SPDX-License-Identifier: Apache-2.0
# Compiler flags: language, warnings, hardening, sanitizers. Presets only choose among options;
# what an option means is said here.
#
# Two interface targets carry the flags to the rooms:
#   exeunt_flags     PRIVATE to our own targets: warnings, frame pointers, visibility.
#   exeunt_defines   PUBLIC: macros that change what a public header says. Whoever includes one
#                    must see the same values as the library did.

find_program(EXEUNT_CCACHE ccache)
if(PROJECT_IS_TOP_LEVEL AND EXEUNT_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_C_COMPILER_LAUNCHER ${EXEUNT_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${EXEUNT_CCACHE})
  if(EXEUNT_PRECOMPILE)
    # Unless it is told this, it keeps nothing of what includes precompiled headers.
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
        CCACHE_SLOPPINESS=pch_defines,time_macros ${EXEUNT_CCACHE})
  endif()
endif()

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_SCAN_FOR_MODULES OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ${PROJECT_IS_TOP_LEVEL})
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
if(BUILD_SHARED_LIBS)
  set(CMAKE_POSITION_INDEPENDENT_CODE ON)
endif()

add_library(exeunt_defines INTERFACE)
add_library(exeunt_flags INTERFACE)
target_compile_features(exeunt_defines INTERFACE cxx_std_23)
target_link_libraries(exeunt_defines INTERFACE Threads::Threads)

if(EXEUNT_DCHECKS)
  target_compile_definitions(exeunt_defines INTERFACE EXEUNT_DCHECKS=1)
  target_compile_definitions(exeunt_flags INTERFACE _GLIBCXX_ASSERTIONS=1)
endif()
if(EXEUNT_FORCE_MIGRATION)
  target_compile_definitions(exeunt_defines INTERFACE EXEUNT_FORCE_MIGRATION=1)
endif()

# Stacks are walked by frame pointers when a report is written, so these are never left out.
target_compile_options(exeunt_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-fno-omit-frame-pointer>)

# Where a fiber was started is said as a path in the tree, whoever built it and where.
target_compile_options(exeunt_flags INTERFACE
  $<$<COMPILE_LANGUAGE:C,CXX>:-fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=>)

# An assembly file that forgets its note would make every user's stack executable.
target_compile_options(exeunt_flags INTERFACE $<$<COMPILE_LANGUAGE:ASM>:-Wa,--noexecstack>)

set(warnings -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 warns of overlap inside std::string's own operator+ (its bug 105651).
  list(APPEND warnings -Wno-restrict)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  list(APPEND warnings -Wthread-safety)
endif()
if(EXEUNT_WERROR)
  list(APPEND warnings -Werror)
endif()
target_compile_options(exeunt_flags INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${warnings}>")

# Only a shared build hides symbols: in a static one the names of internal functions are worth
# more, because the reports' stack traces are resolved by dladdr().
if(BUILD_SHARED_LIBS)
  target_compile_options(exeunt_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-fvisibility=hidden>
                         $<$<COMPILE_LANGUAGE:CXX>:-fvisibility-inlines-hidden>)
endif()

# On its own, because other people's code in our libraries takes it without our warnings.
add_library(exeunt_hardening INTERFACE)
target_link_libraries(exeunt_flags INTERFACE exeunt_hardening)
if(EXEUNT_HARDENING)
  # Left out on purpose: -fstack-clash-protection. Fibers have guard pages of their own size.
  target_compile_options(exeunt_hardening INTERFACE
    $<$<COMPILE_LANGUAGE:C,CXX>:-U_FORTIFY_SOURCE>
    $<$<COMPILE_LANGUAGE:C,CXX>:-D_FORTIFY_SOURCE=2>)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
    target_compile_options(exeunt_hardening INTERFACE -fcf-protection=branch)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
    target_compile_options(exeunt_hardening INTERFACE -mbranch-protection=bti)
  endif()
  target_link_options(exeunt_hardening INTERFACE -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
endif()

# Sanitizers are told to everything in the build, GoogleTest included. `runtime` rooms take
# -fsanitize=thread back (cmake/room.cmake) and state their edges themselves.
if(EXEUNT_SANITIZE STREQUAL "address")
  set(sanitize -fsanitize=address,undefined -fno-sanitize-recover=undefined)
  target_compile_definitions(exeunt_defines INTERFACE EXEUNT_ASAN=1)
elseif(EXEUNT_SANITIZE STREQUAL "thread")
  set(sanitize -fsanitize=thread)
  target_compile_definitions(exeunt_defines INTERFACE EXEUNT_TSAN=1)
elseif(EXEUNT_SANITIZE)
  message(FATAL_ERROR "EXEUNT_SANITIZE is '${EXEUNT_SANITIZE}', not 'address' or 'thread'")
endif()
if(EXEUNT_SANITIZE)
  add_compile_options(${sanitize} -fno-omit-frame-pointer)
  add_link_options(${sanitize})
  set(EXEUNT_SANITIZE_FLAGS ${sanitize})
endif()

# What tests find in their environment, so that sanitizers name functions in their reports.
set(EXEUNT_TEST_ENVIRONMENT)
if(EXEUNT_SANITIZE)
  find_program(EXEUNT_SYMBOLIZER NAMES llvm-symbolizer-19 llvm-symbolizer)
  if(EXEUNT_SYMBOLIZER)
    list(APPEND EXEUNT_TEST_ENVIRONMENT
        ASAN_OPTIONS=external_symbolizer_path=${EXEUNT_SYMBOLIZER}
        UBSAN_OPTIONS=print_stacktrace=1
        TSAN_OPTIONS=external_symbolizer_path=${EXEUNT_SYMBOLIZER}:second_deadlock_stack=1)
  endif()
endif()
