// SPDX-License-Identifier: MIT
// How an outcome is told.
#pragma once

#include <whorl/histogram.hpp>

#include <string>
#include <string_view>
#include <vector>

#include "outcome.hpp"

namespace latency {

// The percentiles of every report.
inline constexpr double percentiles[] = {50, 75, 90, 95, 99, 99.9, 99.99, 99.999};

std::string text_of(const Outcome& outcome);
std::string json_of(const Outcome& outcome);
// A line for each window.
std::string csv_of(const Outcome& outcome);
// In microseconds.
std::string hgrm_of(const whorl::Histogram& histogram);
// One line, without its end, of a run that goes on.
std::string progress_of(const Outcome& outcome, double elapsed_s, std::uint64_t under_way);
// "12.3 us"
std::string time_text(double ns);
// "p99.9"
std::string percentile_name(double percent);

// --- Curves, for plots and comparisons

struct Point {
    double share;  // 0 to 1
    double us;
};
struct Curve {
    std::string name;
    std::vector<Point> points;
    double at(double percent) const;  // us
};
Curve curve_of(const whorl::Histogram& histogram, std::string name);
// From what --json, --save or --hgrm wrote. False: `why`.
bool load_curve(const std::string& path, Curve& curve, std::string& why);
std::string compare_text(const Curve& before, const Curve& after);

std::string svg_of(const std::vector<Curve>& curves);
std::string html_of(const Outcome& outcome);
std::string html_of_comparison(const Curve& before, const Curve& after);

// --- Files

// Writes a file whole. False, with a message on stderr: it could not be.
bool write_file(const std::string& path, std::string_view content);

// --- Expectations: 'p99<50us', 'max<=2ms', 'mean>1us', 'p99.9<1ms'

struct Expectation {
    std::string text;
    std::string metric;  // min, max, mean, or empty for the percentile
    double percent = 0;
    bool less = true;
    bool or_equal = false;
    double ns = 0;
};
bool parse_expectation(std::string_view text, Expectation& expectation, std::string& why);
// Empty: it holds. Otherwise what is the case instead.
std::string unmet(const Expectation& expectation, const whorl::Histogram& histogram);

}  // namespace latency
