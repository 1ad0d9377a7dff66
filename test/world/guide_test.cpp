// SPDX-License-Identifier: MIT
// The guide's own programs: the blocks of docs/testing-your-protocol.md, as they stand there.
#include "testing_guide.hpp"
