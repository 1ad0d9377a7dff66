// SPDX-License-Identifier: MIT
#pragma once

#include <string_view>
#include <vector>

#include "view.hpp"

// What stands below the table of loops: of one loop, more than a line.

namespace top {

// The view's panel of a loop, its heading first. `time_ns`: when the sample was taken.
std::vector<Line> panel(const Row& row, const View& view, std::uint64_t time_ns);

// By the view's order: rows of one loop's slow handlers.
std::vector<const whorl::SlowFigures*> slow_rows(const Row& row, SlowOrder order);

}  // namespace top
