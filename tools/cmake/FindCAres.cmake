# SPDX-License-Identifier: MIT
# Finds c-ares, whose CMake package Debian leaves out. Gives the target CAres::CAres.
find_package(PkgConfig QUIET)
if(PkgConfig_FOUND)
    pkg_check_modules(PC_CARES QUIET libcares)
endif()
find_path(CAres_INCLUDE_DIR NAMES ares.h HINTS ${PC_CARES_INCLUDE_DIRS})
find_library(CAres_LIBRARY NAMES cares HINTS ${PC_CARES_LIBRARY_DIRS})
set(CAres_VERSION "${PC_CARES_VERSION}")
mark_as_advanced(CAres_INCLUDE_DIR CAres_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CAres
    REQUIRED_VARS CAres_LIBRARY CAres_INCLUDE_DIR
    VERSION_VAR CAres_VERSION
    REASON_FAILURE_MESSAGE "install c-ares and its headers (Debian, Ubuntu: libc-ares-dev)")

# Global, so that a parent project that links a static whorl sees it too.
if(CAres_FOUND AND NOT TARGET CAres::CAres)
    add_library(CAres::CAres UNKNOWN IMPORTED GLOBAL)
    set_target_properties(CAres::CAres PROPERTIES
        IMPORTED_LOCATION "${CAres_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${CAres_INCLUDE_DIR}")
endif()
