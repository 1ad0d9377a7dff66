// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

// The version, and the only place where it stands: the build reads it from here.
#define WHORL_VERSION_MAJOR 0
#define WHORL_VERSION_MINOR 1
#define WHORL_VERSION_PATCH 0

#define WHORL_VERSION_TEXT_(major, minor, patch) #major "." #minor "." #patch
#define WHORL_VERSION_TEXT(major, minor, patch) WHORL_VERSION_TEXT_(major, minor, patch)

// "0.1.0"
#define WHORL_VERSION_STRING \
    WHORL_VERSION_TEXT(WHORL_VERSION_MAJOR, WHORL_VERSION_MINOR, WHORL_VERSION_PATCH)
