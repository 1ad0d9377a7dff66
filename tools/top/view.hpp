// SPDX-License-Identifier: MIT
#pragma once

#include "sample.hpp"

#include <string>
#include <string_view>
#include <vector>

// What whorl-top shows, as text: nothing here knows of terminals.

namespace top {

struct Line {
    std::string text;
    bool marked = false;  // shown in reverse
};

enum class Column {
    loop,
    name,
    busy,
    handlers,
    turns,
    operations,
    calls,
    batch,
    handles,
    pool,
    p99
};
constexpr int column_count = 11;
const char* name_of(Column column);
// False: there is no column of this name.
bool column_of(std::string_view name, Column& column);

struct View {
    Column sort = Column::loop;
    bool reversed = false;
    bool paused = false;
    std::uint64_t selected = 0;  // a loop's number; 0: the first
    double interval_s = 1;
};

// By the view's column: the largest first, but loops and names in their order.
void sort_rows(std::vector<Row>& rows, const View& view);

// The table of loops.
std::vector<Line> table(const Sample& sample, const View& view);
// A whole screen of this size: title, table, and what the selected loop does.
std::vector<Line> screen(const std::string& title, const Sample& sample, const View& view,
                         int width, int height);
// One line of JSON.
std::string json(const std::string& title, const Sample& sample);

// 1234567 as 1.23M; three digits that count.
std::string short_number(double value);
// Nanoseconds as 1.2us, 34ms; "-" for 0.
std::string short_time(std::uint64_t ns);

}  // namespace top
