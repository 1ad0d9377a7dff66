// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

// Everything is compiled with hidden visibility; only what carries WHORL_EXPORT leaves the library.
#define WHORL_EXPORT __attribute__((visibility("default")))
