# SPDX-License-Identifier: Apache-2.0
# The only way to add a target. A room is a directory src/<room> with its mirrors
# include/exeunt/<room>, tests/<room> and bench/<room>; rooms are static libraries
# exeunt_<room>, which tests link, and from which the user libraries are made.

# exeunt_room(<room> [RUNTIME] [USES <room>...] [PUBLIC <header>...] [SOURCES <file>...]
#           [LIBRARIES <target>...] [PUBLIC_LIBRARIES <target>...])
#
# PUBLIC names headers relative to include/exeunt, SOURCES files relative to src/<room>; one called
# *_x86_64.S or *_aarch64.S is for that CPU only. USES are lower rooms. RUNTIME rooms are not
# instrumented by ThreadSanitizer. LIBRARIES are targets from outside; if one is made of objects,
# these become part of the user library.
function(exeunt_room room)
  cmake_parse_arguments(PARSE_ARGV 1 arg "RUNTIME" ""
                        "USES;PUBLIC;SOURCES;LIBRARIES;PUBLIC_LIBRARIES")
  exeunt_refuse_unparsed("exeunt_room(${room})" "${arg_UNPARSED_ARGUMENTS}")
  list(TRANSFORM arg_PUBLIC PREPEND ${PROJECT_SOURCE_DIR}/include/exeunt/ OUTPUT_VARIABLE headers)
  foreach(header IN LISTS headers)
    if(NOT EXISTS ${header})
      message(FATAL_ERROR "exeunt_room(${room}): there is no ${header}")
    endif()
  endforeach()
  foreach(cpu IN ITEMS x86_64 aarch64)
    if(NOT CMAKE_SYSTEM_PROCESSOR STREQUAL cpu)
      list(FILTER arg_SOURCES EXCLUDE REGEX "_${cpu}\\.S$")
    endif()
  endforeach()

  set_property(GLOBAL APPEND PROPERTY EXEUNT_MADE_ROOMS ${room})

  # The room's tests are gathered here, for `make check ROOM=<room>`.
  if(EXEUNT_BUILD_TESTS)
    add_custom_target(${room}_tests)
  endif()

  set(target exeunt_${room})
  if(arg_SOURCES)
    set(scope PUBLIC)
    set(private_scope PRIVATE)
    add_library(${target} STATIC ${arg_SOURCES})
    target_link_libraries(${target} PRIVATE exeunt_flags ${arg_LIBRARIES})
    set_target_properties(${target} PROPERTIES EXEUNT_LIBRARIES "${arg_LIBRARIES}")
    if(arg_RUNTIME AND EXEUNT_SANITIZE STREQUAL "thread")
      target_compile_options(${target} PRIVATE ${EXEUNT_NOT_INSTRUMENTED})
      exeunt_precompile(${target} runtime)
    else()
      exeunt_precompile(${target} room)
    endif()
  else()
    set(scope INTERFACE)
    add_library(${target} INTERFACE)
  endif()
  list(TRANSFORM arg_USES PREPEND exeunt_ OUTPUT_VARIABLE lower_rooms)
  target_include_directories(${target} ${scope} ${PROJECT_SOURCE_DIR}/include
                             ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${target} ${scope} exeunt_defines ${lower_rooms} ${arg_PUBLIC_LIBRARIES})
  set_target_properties(${target} PROPERTIES EXEUNT_HEADERS "${arg_PUBLIC}"
                        EXEUNT_PUBLIC_LIBRARIES "${arg_PUBLIC_LIBRARIES}")
endfunction()

# What tests are compiled with: lines are enough for reports, and the rest of what debuggers read is
# a quarter of the compilation. Nor is there a need to optimise what is checked at each step.
set(EXEUNT_TEST_OPTIONS $<$<CONFIG:Debug>:-g1> $<$<BOOL:${EXEUNT_SANITIZE}>:-O0>)
set(EXEUNT_PRECOMPILED
    algorithm array atomic chrono cstddef cstdint exception expected functional memory mutex new
    optional set source_location span stdexcept string string_view system_error thread type_traits
    utility vector)
set(EXEUNT_NOT_INSTRUMENTED $<$<COMPILE_LANGUAGE:C,CXX>:-fno-sanitize=thread>)

# exeunt_precompile(<target> room|runtime|test)
#
# With EXEUNT_PRECOMPILE, the sources of <target> get the standard headers that most of them
# include, and tests GoogleTest's, read beforehand: that is up to half of what a source takes. Once
# for each kind of target, since it has to be done with the flags of those that use it.
#
# What a source forgets to include goes unseen then. The release, which precompiles nothing, shows
# it for the rooms and examples, and tools/tidy.py for the tests; it has the same list of headers.
# Not with -O3: GCC 12 warns of overflow inside std::string when that comes from such a header.
function(exeunt_precompile target kind)
  if(NOT EXEUNT_PRECOMPILE)
    return()
  endif()
  set(owner exeunt_precompiled_${kind})
  if(NOT TARGET ${owner})
    set(headers ${EXEUNT_PRECOMPILED})
    set(source ${PROJECT_BINARY_DIR}/precompiled_${kind}.cpp)
    file(GENERATE OUTPUT ${source} CONTENT "")
    if(kind STREQUAL "test")
      add_executable(${owner} EXCLUDE_FROM_ALL ${source})
      target_compile_options(${owner} PRIVATE ${EXEUNT_TEST_OPTIONS})
      target_link_libraries(${owner} PRIVATE GTest::gtest_main)
      list(PREPEND headers gtest/gtest.h)
    else()
      add_library(${owner} OBJECT EXCLUDE_FROM_ALL ${source})
    endif()
    if(kind STREQUAL "runtime")
      target_compile_options(${owner} PRIVATE ${EXEUNT_NOT_INSTRUMENTED})
    endif()
    if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
      # Else ccache would find another one after each time it is made.
      target_compile_options(${owner} PRIVATE "SHELL:-Xclang -fno-pch-timestamp")
    endif()
    target_link_libraries(${owner} PRIVATE exeunt_defines exeunt_flags)
    list(TRANSFORM headers REPLACE "(.+)" "$<$<COMPILE_LANGUAGE:CXX>:<\\1$<ANGLE-R>>")
    target_precompile_headers(${owner} PRIVATE ${headers})
  endif()
  target_precompile_headers(${target} REUSE_FROM ${owner})
endfunction()

# exeunt_library(<name> ROOMS <room>... [NEEDS <library>...])
#
# Makes exeunt::<name> from the objects of those of its rooms that exist, for users to link.
function(exeunt_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "ROOMS;NEEDS")
  get_property(made GLOBAL PROPERTY EXEUNT_MADE_ROOMS)
  set(objects)
  set(libraries)
  set(public_libraries)
  foreach(room IN LISTS arg_ROOMS)
    if(room IN_LIST made)
      get_target_property(type exeunt_${room} TYPE)
      if(NOT type STREQUAL "INTERFACE_LIBRARY")
        list(APPEND objects $<TARGET_OBJECTS:exeunt_${room}>)
        get_target_property(private_libraries exeunt_${room} EXEUNT_LIBRARIES)
        foreach(library IN LISTS private_libraries)
          set(library_type)
          if(TARGET ${library})
            get_target_property(library_type ${library} TYPE)
          endif()
          if(library_type STREQUAL "OBJECT_LIBRARY")
            list(APPEND objects $<TARGET_OBJECTS:${library}>)
          else()
            list(APPEND libraries ${library})
          endif()
        endforeach()
      endif()
      get_target_property(room_libraries exeunt_${room} EXEUNT_PUBLIC_LIBRARIES)
      list(APPEND public_libraries ${room_libraries})
    endif()
  endforeach()
  if(NOT objects)
    return()
  endif()
  set(target exeunt_lib_${name})
  add_library(${target} ${objects})
  add_library(exeunt::${name} ALIAS ${target})
  target_link_libraries(${target} PUBLIC exeunt_defines ${public_libraries}
                        PRIVATE $<BUILD_INTERFACE:exeunt_flags> ${libraries})
  foreach(need IN LISTS arg_NEEDS)
    if(TARGET exeunt_lib_${need})
      target_link_libraries(${target} PUBLIC exeunt_lib_${need})
    endif()
  endforeach()
  target_include_directories(${target} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                             $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  # A program has to be built as the library it links.
  target_compile_options(${target} INTERFACE ${EXEUNT_SANITIZE_FLAGS})
  target_link_options(${target} INTERFACE ${EXEUNT_SANITIZE_FLAGS})
  # Its code runs on stacks and threads that outlive any dlclose(). A symbol that a lower library
  # hides is found missing here, not by the user.
  if(BUILD_SHARED_LIBS)
    target_link_options(${target} PRIVATE -Wl,-z,nodelete)
    if(NOT EXEUNT_SANITIZE)
      target_link_options(${target} PRIVATE -Wl,-z,defs)
    endif()
  endif()
  set_target_properties(${target} PROPERTIES OUTPUT_NAME exeunt-${name} EXPORT_NAME ${name}
                        LINKER_LANGUAGE CXX VERSION ${PROJECT_VERSION}
                        SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  set_property(GLOBAL APPEND PROPERTY EXEUNT_MADE_LIBRARIES ${name})
endfunction()

# exeunt_model(<name> ROOMS <room>...)
#
# Makes exeunt_<name>, a library of these rooms in which each atomic operation of a simulated fiber
# is a step (src/base/model_atomic.hpp). All of it is in a namespace of its own, exeunt::<name>,
# without a change to any source: so nobody can link it with what the rooms are otherwise.
function(exeunt_model name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "ROOMS")
  if(NOT EXEUNT_BUILD_TESTS)
    return()
  endif()
  set(sources)
  foreach(room IN LISTS arg_ROOMS)
    get_target_property(room_sources exeunt_${room} SOURCES)
    list(TRANSFORM room_sources PREPEND ${PROJECT_SOURCE_DIR}/src/${room}/)
    list(APPEND sources ${room_sources})
  endforeach()
  add_library(exeunt_${name} STATIC EXCLUDE_FROM_ALL ${sources})
  target_link_libraries(exeunt_${name} PUBLIC exeunt_defines PRIVATE exeunt_flags)
  target_include_directories(exeunt_${name} PUBLIC ${PROJECT_SOURCE_DIR}/include
                             ${PROJECT_SOURCE_DIR}/src)
  target_compile_definitions(exeunt_${name} PUBLIC EXEUNT_CORE_MODEL="base/model_atomic.hpp"
                             $<$<COMPILE_LANGUAGE:CXX>:exeunt=exeunt::${name}>)
  exeunt_precompile(exeunt_${name} room)
endfunction()

# exeunt_test(<room> <file>... LABEL <label> [NAME <name>] [TIMEOUT <seconds>] [COST <seconds>]
#           [OWN_MAIN] [SERIAL] [OPTIONS <compile option>...] [LIBRARIES <target>...]
#           [INSTEAD <target>...])
#
# One executable exeunt_<room>_<label>_test and one CTest entry of GoogleTest cases; files are
# relative to tests/<room>. LABEL is unit, sim, stress or death. A second executable of the same
# room and label takes a NAME, which replaces the label in its own. SERIAL: nothing runs beside it.
# COST is about what it takes; without it, nothing: the longest start first, so that none of them is
# left to run alone at the end.
# INSTEAD links these in place of the room, for example the user libraries.
function(exeunt_test room)
  if(NOT EXEUNT_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(PARSE_ARGV 1 arg "OWN_MAIN;SERIAL" "LABEL;NAME;TIMEOUT;COST"
                        "OPTIONS;LIBRARIES;INSTEAD")
  if(NOT arg_LABEL OR NOT arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "exeunt_test(${room}) needs files and a LABEL")
  endif()
  get_property(made GLOBAL PROPERTY EXEUNT_MADE_ROOMS)
  if(NOT room IN_LIST made)
    return()
  endif()
  if(NOT arg_NAME)
    set(arg_NAME ${arg_LABEL})
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 60)
  endif()
  if(NOT arg_COST)
    set(arg_COST 0)
  endif()
  if(NOT arg_INSTEAD)
    set(arg_INSTEAD exeunt_${room})
  endif()
  set(target exeunt_${room}_${arg_NAME}_test)
  list(TRANSFORM arg_UNPARSED_ARGUMENTS PREPEND ${PROJECT_SOURCE_DIR}/tests/${room}/
       OUTPUT_VARIABLE files)
  add_executable(${target} ${files})
  exeunt_finish_executable(${target})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src
                             ${PROJECT_SOURCE_DIR}/tests)
  target_compile_options(${target} PRIVATE ${EXEUNT_TEST_OPTIONS} ${arg_OPTIONS})
  target_link_libraries(${target} PRIVATE ${arg_LIBRARIES} ${arg_INSTEAD}
                        $<IF:$<BOOL:${arg_OWN_MAIN}>,GTest::gtest,GTest::gtest_main>)
  if(NOT arg_OPTIONS MATCHES "(^|;)-[^D]")  # Macros of its own do no harm, flags do.
    exeunt_precompile(${target} test)
  endif()
  set(command ${target})
  if(CMAKE_CROSSCOMPILING_EMULATOR)
    # A test that starts its own program again, as death tests do, finds this script to start: the
    # kernel may not know how to run another CPU's code.
    set(command ${CMAKE_CURRENT_BINARY_DIR}/${target}.run)
    list(GET CMAKE_CROSSCOMPILING_EMULATOR 0 emulator)
    list(JOIN CMAKE_CROSSCOMPILING_EMULATOR " " emulation)
    string(REPLACE "${emulator}" "${emulator} -0 \"$0\"" emulation "${emulation}")
    file(GENERATE OUTPUT ${command} CONTENT
"#!/bin/sh
EXEUNT_TEST_PROGRAM=$0 exec ${emulation} '$<TARGET_FILE:${target}>' \"$@\"
"
         FILE_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
  endif()
  add_test(NAME ${room}.${arg_NAME} COMMAND ${command})
  math(EXPR timeout "${arg_TIMEOUT} * ${EXEUNT_TEST_TIMEOUT_FACTOR}")
  set_tests_properties(${room}.${arg_NAME} PROPERTIES LABELS "${arg_LABEL};${room}"
                       TIMEOUT ${timeout} COST ${arg_COST} RUN_SERIAL ${arg_SERIAL}
                       ENVIRONMENT "${EXEUNT_TEST_ENVIRONMENT}")
  add_dependencies(${room}_tests ${target})
endfunction()

# exeunt_test_without_membarrier(<room> <name> <filter>...)
#
# Runs once more, as <room>.<name>_without_membarrier, those cases of exeunt_<room>_<name>_test that
# GoogleTest's filters name, where the kernel refuses membarrier(2); see
# tests/support/without_membarrier.cpp.
function(exeunt_test_without_membarrier room name)
  set(target exeunt_${room}_${name}_test)
  if(NOT TARGET ${target} OR CMAKE_CROSSCOMPILING)  # An emulator has no such filters.
    return()
  endif()
  set(launcher exeunt_without_membarrier)
  if(NOT TARGET ${launcher})
    add_executable(${launcher} ${PROJECT_SOURCE_DIR}/tests/support/without_membarrier.cpp)
    exeunt_finish_executable(${launcher})
  endif()
  set(test ${room}.${name}_without_membarrier)
  list(JOIN ARGN ":" filter)
  add_test(NAME ${test} COMMAND ${launcher} $<TARGET_FILE:${target}> --gtest_filter=${filter})
  math(EXPR timeout "180 * ${EXEUNT_TEST_TIMEOUT_FACTOR}")
  set_tests_properties(${test} PROPERTIES LABELS "stress;${room}" TIMEOUT ${timeout} COST 5
                       ENVIRONMENT "${EXEUNT_TEST_ENVIRONMENT}")
  add_dependencies(${room}_tests ${launcher})
endfunction()

# exeunt_bench(<room> <file>... [LIBRARIES <target>...])
#
# One Google Benchmark executable per file of bench/<room>: build/<preset>/bench/<stem>.
function(exeunt_bench room)
  if(NOT EXEUNT_BUILD_BENCH)
    return()
  endif()
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "LIBRARIES")
  find_package(benchmark REQUIRED)
  foreach(file IN LISTS arg_UNPARSED_ARGUMENTS)
    get_filename_component(stem ${file} NAME_WE)
    add_executable(${stem} ${PROJECT_SOURCE_DIR}/bench/${room}/${file})
    exeunt_finish_executable(${stem})
    target_include_directories(${stem} PRIVATE ${PROJECT_SOURCE_DIR}/src
                               ${PROJECT_SOURCE_DIR}/bench)
    target_link_libraries(${stem} PRIVATE exeunt_${room} ${arg_LIBRARIES}
                          benchmark::benchmark benchmark::benchmark_main)
    set_target_properties(${stem} PROPERTIES
                          RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench)
  endforeach()
endfunction()

# exeunt_rival(<problem> <contender> [LIBRARIES <target>...])
#
# build/<preset>/bench/rivals/<problem>/<contender>, from bench/rivals/<problem>/<contender>.cpp.
function(exeunt_rival problem contender)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "LIBRARIES")
  exeunt_refuse_unparsed("exeunt_rival(${problem} ${contender})" "${arg_UNPARSED_ARGUMENTS}")
  set(target rival_${problem}_${contender})
  add_executable(${target} ${PROJECT_SOURCE_DIR}/bench/rivals/${problem}/${contender}.cpp)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/bench/rivals)
  target_compile_features(${target} PRIVATE cxx_std_23)
  target_compile_options(${target} PRIVATE -Wall -Wextra)
  target_link_libraries(${target} PRIVATE Threads::Threads ${arg_LIBRARIES})
  set_target_properties(${target} PROPERTIES OUTPUT_NAME ${contender}
                        RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench/rivals/${problem})
endfunction()

# exeunt_example(<name> [SOURCES <file>...] [LIBRARIES <target>...] [RUN] [ARGS <argument>...])
#
# build/<preset>/examples/<name>, from examples/<name>.cpp unless SOURCES says otherwise. LIBRARIES
# are user libraries; without them, exeunt::core. RUN: the tests run it, and it has to succeed.
function(exeunt_example name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "RUN" "" "SOURCES;LIBRARIES;ARGS")
  exeunt_refuse_unparsed("exeunt_example(${name})" "${arg_UNPARSED_ARGUMENTS}")
  if(NOT arg_SOURCES)
    set(arg_SOURCES ${name}.cpp)
  endif()
  if(NOT arg_LIBRARIES)
    set(arg_LIBRARIES exeunt::core)
  endif()
  set(target exeunt_example_${name})
  add_executable(${target} ${arg_SOURCES})
  exeunt_finish_executable(${target})
  target_link_libraries(${target} PRIVATE ${arg_LIBRARIES})
  if(NOT BUILD_SHARED_LIBS)  # In which the code of programs is another than that of libraries.
    exeunt_precompile(${target} room)
  endif()
  set_target_properties(${target} PROPERTIES OUTPUT_NAME ${name}
                        RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/examples)
  if(arg_RUN AND EXEUNT_BUILD_TESTS)
    add_test(NAME examples.${name} COMMAND ${target} ${arg_ARGS})
    set_tests_properties(examples.${name} PROPERTIES LABELS example TIMEOUT 60
                         ENVIRONMENT "${EXEUNT_TEST_ENVIRONMENT}")
  endif()
endfunction()

# What all our executables have in common. They export their symbols, because stack traces in
# reports are resolved by dladdr().
function(exeunt_finish_executable target)
  target_link_libraries(${target} PRIVATE exeunt_flags)
  set_target_properties(${target} PROPERTIES ENABLE_EXPORTS ON)
endfunction()

function(exeunt_refuse_unparsed where arguments)
  if(arguments)
    message(FATAL_ERROR "${where} does not know: ${arguments}")
  endif()
endfunction()
