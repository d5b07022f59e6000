# SPDX-License-Identifier: Apache-2.0
# The installed package: headers, the user libraries and find_package(exeunt).

include(CMakePackageConfigHelpers)

get_property(made_libraries GLOBAL PROPERTY EXEUNT_MADE_LIBRARIES)
set(targets exeunt_defines)
foreach(library IN LISTS made_libraries)
  list(APPEND targets exeunt_lib_${library})
endforeach()
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/exeunt)

install(TARGETS ${targets} EXPORT exeunt-targets)
install(DIRECTORY include/exeunt DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN *.hpp)
install(FILES tools/gdb/exeunt.py DESTINATION ${CMAKE_INSTALL_DATADIR}/exeunt/gdb)
install(EXPORT exeunt-targets NAMESPACE exeunt:: DESTINATION ${package_dir})

configure_package_config_file(cmake/exeunt-config.cmake.in ${PROJECT_BINARY_DIR}/exeunt-config.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/exeunt-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/exeunt-config.cmake
              ${PROJECT_BINARY_DIR}/exeunt-config-version.cmake
        DESTINATION ${package_dir})
