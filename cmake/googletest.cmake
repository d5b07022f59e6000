# SPDX-License-Identifier: Apache-2.0
# GTest::gtest, GTest::gtest_main and GTest::gmock: the installed ones, or built from source where
# they must have our flags (sanitizers) or another CPU's code.

if(EXEUNT_GTEST_SOURCE)
  set(INSTALL_GTEST OFF)
  block(SCOPE_FOR VARIABLES)
    set(BUILD_SHARED_LIBS OFF)
    set(CMAKE_POLICY_DEFAULT_CMP0077 NEW)
    set(CMAKE_WARN_DEPRECATED OFF CACHE INTERNAL "GoogleTest asks for an old CMake")
    add_subdirectory(${EXEUNT_GTEST_DIR} ${PROJECT_BINARY_DIR}/googletest EXCLUDE_FROM_ALL SYSTEM)
  endblock()
  foreach(library IN ITEMS gtest gtest_main gmock gmock_main)
    # As for the tests: to optimise GoogleTest took half a minute, for no test to end sooner.
    target_compile_options(${library} PRIVATE $<$<CONFIG:Debug>:-O0$<SEMICOLON>-g1>)
    if(NOT TARGET GTest::${library})
      add_library(GTest::${library} ALIAS ${library})
    endif()
  endforeach()
else()
  find_package(GTest REQUIRED)
endif()
