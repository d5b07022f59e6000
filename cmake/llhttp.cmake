# SPDX-License-Identifier: Apache-2.0
# llhttp::llhttp, the HTTP/1 parser's state machine: an installed llhttp if there is one, else
# Debian's copy of the C sources, which the package node-llhttp ships, compiled into our library.

include_guard(GLOBAL)

set(EXEUNT_LLHTTP_BUNDLED FALSE CACHE INTERNAL "llhttp is part of exeunt::http")
find_package(llhttp QUIET GLOBAL)  # GLOBAL: the user libraries are made elsewhere in the tree.
if(TARGET llhttp::llhttp)
  return()
endif()
foreach(target IN ITEMS llhttp::llhttp_shared llhttp::llhttp_static)
  if(TARGET ${target})
    add_library(llhttp::llhttp INTERFACE IMPORTED GLOBAL)
    target_link_libraries(llhttp::llhttp INTERFACE ${target})
    return()
  endif()
endforeach()

set(EXEUNT_LLHTTP_BUNDLED TRUE CACHE INTERNAL "llhttp is part of exeunt::http")
find_path(EXEUNT_LLHTTP_INCLUDE llhttp.h PATHS /usr/share/include/llhttp NO_DEFAULT_PATH)
find_path(EXEUNT_LLHTTP_SOURCE llhttp.c PATHS /usr/share/llhttp NO_DEFAULT_PATH)
if(NOT EXEUNT_LLHTTP_INCLUDE OR NOT EXEUNT_LLHTTP_SOURCE)
  message(FATAL_ERROR "llhttp is missing: on Debian, apt-get install node-llhttp")
endif()
# Objects, not an archive: they become part of exeunt::http, so that installing it needs nothing
# else. Third-party code, so without our warnings.
add_library(exeunt_llhttp OBJECT ${EXEUNT_LLHTTP_SOURCE}/api.c ${EXEUNT_LLHTTP_SOURCE}/http.c
            ${EXEUNT_LLHTTP_SOURCE}/llhttp.c)
target_include_directories(exeunt_llhttp SYSTEM PUBLIC ${EXEUNT_LLHTTP_INCLUDE})
target_compile_options(exeunt_llhttp PRIVATE -w -fno-omit-frame-pointer)
target_link_libraries(exeunt_llhttp PRIVATE $<BUILD_INTERFACE:exeunt_hardening>)
if(BUILD_SHARED_LIBS)
  target_compile_options(exeunt_llhttp PRIVATE -fvisibility=hidden)
endif()
add_library(llhttp::llhttp ALIAS exeunt_llhttp)
