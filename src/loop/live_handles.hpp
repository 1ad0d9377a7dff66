// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include "backend/driver.hpp"

namespace whorl::detail {

// What live handles and pages call them.
const char* name_of(DescriptorKind kind) noexcept;
const char* name_of(DescriptorState state) noexcept;

}  // namespace whorl::detail
