# SPDX-License-Identifier: MIT
# An overlay port that builds the tree it lies in: vcpkg install whorl --overlay-ports=packaging/vcpkg
get_filename_component(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

vcpkg_check_features(OUT_FEATURE_OPTIONS FEATURE_OPTIONS
    FEATURES
        dns WHORL_BUILD_DNS
        http WHORL_BUILD_HTTP
        tls WHORL_BUILD_TLS)

vcpkg_cmake_configure(
    SOURCE_PATH "${SOURCE_PATH}"
    OPTIONS
        -DWHORL_BUILD_TESTS=OFF
        -DWHORL_BUILD_EXAMPLES=OFF
        -DWHORL_BUILD_BENCH=OFF
        -DWHORL_BUILD_TOOLS=OFF
        ${FEATURE_OPTIONS})
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH lib/cmake/whorl)
vcpkg_fixup_pkgconfig()

file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug/include")
file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
