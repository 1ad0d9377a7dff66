# SPDX-License-Identifier: MIT
# Debian packages by CPack, for -DWHORL_PACKAGE=ON; packaging/build_deb does all of it.
#
#   libwhorl<SOVERSION>       the shared libraries
#   libwhorl-tls<SOVERSION>   whorl::tls and
#   libwhorl-dns<SOVERSION>   whorl::dns, apart because they need OpenSSL and c-ares
#   libwhorl-dev              headers, CMake package, pkg-config files
#   whorl-tools               the tools and their man pages
if(NOT BUILD_SHARED_LIBS)
    message(FATAL_ERROR "WHORL_PACKAGE needs BUILD_SHARED_LIBS=ON: a package holds shared libraries")
endif()

set(soversion "${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}")
set(same "(= ${PROJECT_VERSION})")

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME whorl)
set(CPACK_PACKAGE_VERSION "${PROJECT_VERSION}")
set(CPACK_PACKAGE_CONTACT "The whorl authors <authors@whorl.invalid>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_COMPONENTS_ALL runtime dev)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
# Dependencies on other libraries are read from the binaries, those on each other stand below.
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS "${PROJECT_BINARY_DIR}/src")
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)

set(CPACK_COMPONENT_RUNTIME_DESCRIPTION
    "Event loop for Linux on io_uring, shared library\n Falls back to libev (epoll) where io_uring is refused.")
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME "libwhorl${soversion}")
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION libs)
# Loaded at run time and only for the fallback.
set(CPACK_DEBIAN_RUNTIME_PACKAGE_RECOMMENDS libev4)

set(CPACK_COMPONENT_DEV_DESCRIPTION
    "Event loop for Linux on io_uring, development files\n Headers, CMake package and pkg-config files.")
set(CPACK_DEBIAN_DEV_PACKAGE_NAME libwhorl-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "libwhorl${soversion} ${same}")
set(packages "libwhorl${soversion}" libwhorl-dev)
set(components runtime dev)

foreach(module IN ITEMS tls dns)
    if(TARGET whorl-${module})
        string(TOUPPER ${module} name)
        list(APPEND CPACK_COMPONENTS_ALL ${module})
        set(CPACK_COMPONENT_${name}_DESCRIPTION
            "Event loop for Linux on io_uring, ${name}\n The library whorl::${module}.")
        set(CPACK_DEBIAN_${name}_PACKAGE_NAME "libwhorl-${module}${soversion}")
        set(CPACK_DEBIAN_${name}_PACKAGE_SECTION libs)
        set(CPACK_DEBIAN_${name}_PACKAGE_DEPENDS "libwhorl${soversion} ${same}")
        string(APPEND CPACK_DEBIAN_DEV_PACKAGE_DEPENDS ", libwhorl-${module}${soversion} ${same}")
        list(APPEND packages "libwhorl-${module}${soversion}")
        list(APPEND components ${module})
    endif()
endforeach()
if(TARGET whorl-doctor)
    list(APPEND CPACK_COMPONENTS_ALL tools)
    set(CPACK_COMPONENT_TOOLS_DESCRIPTION
        "Event loop for Linux on io_uring, tools\n whorl-doctor tells what a machine allows; others measure.")
    set(CPACK_DEBIAN_TOOLS_PACKAGE_NAME whorl-tools)
    set(CPACK_DEBIAN_TOOLS_PACKAGE_SECTION utils)
    set(CPACK_DEBIAN_TOOLS_PACKAGE_DEPENDS "libwhorl${soversion} ${same}")
    list(APPEND packages whorl-tools)
    list(APPEND components tools)
endif()

foreach(package component IN ZIP_LISTS packages components)
    install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" RENAME copyright
        DESTINATION "share/doc/${package}" COMPONENT ${component})
endforeach()
include(CPack)
