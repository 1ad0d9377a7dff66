// SPDX-License-Identifier: MIT
#pragma once

#include "interleave/atomic.hpp"

// Stands in for include/whorl/atomic.hpp: found first on the include path of the programs in this folder.
namespace whorl::detail {

template <class T>
using Atomic = interleave::Atomic<T>;

}  // namespace whorl::detail
