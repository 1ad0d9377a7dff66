// SPDX-License-Identifier: MIT
// The programs of docs/protocols.md, as they stand there.
#include "protocols_guide.hpp"
