# SPDX-License-Identifier: MIT
# Finds the header of libev. The library itself is loaded at run time and never linked: it exports
# event_* symbols that clash with those of libevent. Gives the target Libev::headers.
find_path(Libev_INCLUDE_DIR NAMES ev.h PATH_SUFFIXES libev)
mark_as_advanced(Libev_INCLUDE_DIR)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Libev
    REQUIRED_VARS Libev_INCLUDE_DIR
    REASON_FAILURE_MESSAGE "install the headers of libev (Debian, Ubuntu: libev-dev)")

if(Libev_FOUND AND NOT TARGET Libev::headers)
    add_library(Libev::headers INTERFACE IMPORTED GLOBAL)
    set_target_properties(Libev::headers PROPERTIES
        INTERFACE_INCLUDE_DIRECTORIES "${Libev_INCLUDE_DIR}")
endif()
