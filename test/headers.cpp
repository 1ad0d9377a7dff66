// SPDX-License-Identifier: MIT
// Nothing: what matters are the headers that are precompiled for it (CMakeLists.txt).
