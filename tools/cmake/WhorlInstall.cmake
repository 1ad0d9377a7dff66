# SPDX-License-Identifier: MIT
# What is installed: headers, library, a CMake package and a pkg-config file, all relocatable.
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/whorl")
# Components: runtime, tls, dns and tools are for those who run programs, dev is everything else.
set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME dev)

install(TARGETS whorl EXPORT whorl
        LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT runtime NAMELINK_COMPONENT dev
        ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
        INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
if(WHORL_BUILD_HTTP)
    install(TARGETS whorl-http EXPORT whorl
            LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT runtime NAMELINK_COMPONENT dev
            ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
endif()
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/whorl"
        DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.hpp")

# A component of its own, since who does not want it need not have OpenSSL.
if(TARGET whorl-tls)
    install(TARGETS whorl-tls EXPORT whorl-tls
            LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT tls NAMELINK_COMPONENT dev
            ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
            INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
    install(EXPORT whorl-tls NAMESPACE whorl:: FILE whorlTlsTargets.cmake
            DESTINATION "${package_dir}")
endif()

# As TLS, with c-ares.
if(TARGET whorl-dns)
    install(TARGETS whorl-dns EXPORT whorl-dns
            LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT dns NAMELINK_COMPONENT dev
            ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
            INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
    install(EXPORT whorl-dns NAMESPACE whorl:: FILE whorlDnsTargets.cmake
            DESTINATION "${package_dir}")
    install(FILES "${CMAKE_CURRENT_LIST_DIR}/FindCAres.cmake" DESTINATION "${package_dir}")
endif()

install(EXPORT whorl NAMESPACE whorl:: FILE whorlTargets.cmake DESTINATION "${package_dir}")
configure_package_config_file(
    "${CMAKE_CURRENT_LIST_DIR}/whorlConfig.cmake.in" "${PROJECT_BINARY_DIR}/whorlConfig.cmake"
    INSTALL_DESTINATION "${package_dir}" NO_SET_AND_CHECK_MACRO)
# Until 1.0 a minor version may break; SameMinorVersion says so to find_package.
write_basic_package_version_file(
    "${PROJECT_BINARY_DIR}/whorlConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/whorlConfig.cmake"
              "${PROJECT_BINARY_DIR}/whorlConfigVersion.cmake"
              "${CMAKE_CURRENT_LIST_DIR}/FindLiburing.cmake"
        DESTINATION "${package_dir}")

# The same from the build tree: find_package(whorl) with -Dwhorl_DIR=BUILD.
export(EXPORT whorl NAMESPACE whorl:: FILE "${PROJECT_BINARY_DIR}/whorlTargets.cmake")
foreach(module IN ITEMS Tls Dns)
    string(TOLOWER "whorl-${module}" target)
    if(TARGET ${target})
        export(EXPORT ${target} NAMESPACE whorl::
               FILE "${PROJECT_BINARY_DIR}/whorl${module}Targets.cmake")
    endif()
endforeach()
foreach(finder IN ITEMS FindLiburing FindCAres)
    configure_file("${CMAKE_CURRENT_LIST_DIR}/${finder}.cmake"
                   "${PROJECT_BINARY_DIR}/${finder}.cmake" COPYONLY)
endforeach()

# The prefix of the .pc file is found from where the file lies, so that the tree can be moved. A
# directory given as an absolute path stays absolute (cmake_path(APPEND) replaces the prefix).
file(RELATIVE_PATH pc_prefix "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
string(REGEX REPLACE "/$" "" pc_prefix "${pc_prefix}")
set(pc_libdir "\${prefix}")
cmake_path(APPEND pc_libdir "${CMAKE_INSTALL_LIBDIR}")
set(pc_includedir "\${prefix}")
cmake_path(APPEND pc_includedir "${CMAKE_INSTALL_INCLUDEDIR}")
if(BUILD_SHARED_LIBS)
    set(pc_cflags " -DWHORL_SHARED")
endif()
configure_file("${CMAKE_CURRENT_LIST_DIR}/whorl.pc.in" "${PROJECT_BINARY_DIR}/whorl.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/whorl.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
foreach(module IN ITEMS http tls dns)
    if(TARGET whorl-${module})
        configure_file("${CMAKE_CURRENT_LIST_DIR}/whorl-${module}.pc.in"
                       "${PROJECT_BINARY_DIR}/whorl-${module}.pc" @ONLY)
        install(FILES "${PROJECT_BINARY_DIR}/whorl-${module}.pc"
                DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
    endif()
endforeach()
