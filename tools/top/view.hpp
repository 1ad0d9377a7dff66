// SPDX-License-Identifier: MIT
#pragma once

#include "sample.hpp"

#include <cstdio>
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
    p99,
    slow
};
constexpr int column_count = 12;
const char* name_of(Column column);
// False: there is no column of this name.
bool column_of(std::string_view name, Column& column);

// What is shown of the selected loop.
enum class Panel { kinds, slow, handles };
constexpr int panel_count = 3;
const char* name_of(Panel panel);
bool panel_of(std::string_view name, Panel& panel);

enum class SlowOrder { recent, longest, times, total };
constexpr int slow_orders = 4;
const char* name_of(SlowOrder order);

struct View {
    Column sort = Column::loop;
    Panel panel = Panel::kinds;
    SlowOrder slow_order = SlowOrder::recent;
    whorl::HandleOrder handle_order = whorl::HandleOrder::recent;
    bool reversed = false;
    bool paused = false;
    std::uint64_t selected = 0;  // a loop's number; 0: the first
    double interval_s = 1;
};

// Sets the order of the view's panel. False: it has no such order.
bool order_of(std::string_view name, View& view);

// By the view's column: the largest first, but loops and names in their order.
void sort_rows(std::vector<Row>& rows, const View& view);

// The table of loops.
std::vector<Line> table(const Sample& sample, const View& view);
// A whole screen of this size: title, table, and what the selected loop does.
std::vector<Line> screen(const std::string& title, const Sample& sample, const View& view,
                         int width, int height);
// One line of JSON.
std::string json(const std::string& title, const Sample& sample);

// printf's output as a string, of at most a few hundred bytes.
template <class... Words>
std::string format(const char* shape, Words... words) {
    char text[512];
    std::snprintf(text, sizeof text, shape, words...);
    return text;
}

// 1234567 as 1.23M; three digits that count.
std::string short_number(double value);
// Nanoseconds as 1.2us, 34ms; "-" for 0.
std::string short_time(std::uint64_t ns);

}  // namespace top
